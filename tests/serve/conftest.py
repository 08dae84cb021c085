"""One server for the tests that leave it as they found it, and a browser for those that look at its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.serve.browser import CHROMIUM, DESKTOP, FLAGS
from tests.serve.squares import SquareWorld, running, time_world, turn_world


@pytest.fixture(scope="module")
def turns() -> Iterator[str]:
    with running(turn_world(), card="# Square") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Any]]:
    """Open the page of a server; afterwards no error and no request elsewhere may have happened."""
    contexts, complaints = [], []

    def open_page(address: str, **kwargs: Any) -> Any:
        context = browser.new_context(**(kwargs or DESKTOP))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for event in ("request", "websocket"):
            page.on(event, lambda r: None if f"//{address}/" in r.url else complaints.append(f"outside: {r.url}"))
        page.goto(f"http://{address}/")
        page.wait_for_selector("body:not([data-state=connecting])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def driving(visit) -> Iterator[tuple[SquareWorld, Any]]:
    """A world in real time, and the page that plays it."""
    world = time_world(fps=20)
    with running(world) as address:
        yield world, visit(address)
