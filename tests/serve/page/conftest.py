"""One browser for all tests of the page, and servers that stop after the pages of a test are closed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.serve.page.browser import CHROMIUM, DESKTOP, FLAGS
from tests.serve.squares import SquareWorld, running, time_world


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a server; it stops after the pages are closed, which would complain, and keep it waiting for a second."""
    with contextlib.ExitStack() as servers:
        yield lambda *args, **kwargs: servers.enter_context(running(*args, **kwargs))


@pytest.fixture
def visit(browser, serve) -> Iterator[Callable[..., Any]]:
    """Open the page of a server; afterwards no error and no request elsewhere may have happened."""
    contexts, complaints = [], []

    def open_page(address: str, path: str = "/", **kwargs: Any) -> Any:
        context = browser.new_context(**(kwargs or DESKTOP))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for event in ("request", "websocket"):
            page.on(event, lambda r: None if f"//{address}/" in r.url else complaints.append(f"outside: {r.url}"))
        page.goto(f"http://{address}{path}")
        page.wait_for_selector("body:not([data-state=connecting])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def driving(visit, serve) -> tuple[SquareWorld, Any]:
    """A world in real time, and the page that plays it."""
    world = time_world(fps=20)
    return world, visit(serve(world))
