"""The page in a browser behind a reverse proxy, and in a frame of another page."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from PIL import Image
from tests.serve.page.browser import cell, needs_browser, reaches, state, text
from tests.serve.reverse_proxy import proxying, site
from tests.serve.squares import picture, running, turn_world

from reelworld import notebook
from reelworld.serve.config import Limits
from reelworld.serve.library import WorldEntry, WorldLibrary
from reelworld.types import Clip

pytestmark = needs_browser

PREFIX = "/user/me%40lab/proxy/8000"


@pytest.fixture
def through(visit):
    """Open a server's page through a proxy under the prefix; without the last slash, which is the hardest case."""
    with contextlib.ExitStack() as proxies:
        yield lambda address, strips: visit(
            proxies.enter_context(proxying(address, PREFIX, strips)), path=f"{PREFIX}?token=secret"
        )


@pytest.mark.parametrize("strips", [True, False], ids=["strips", "keeps"])
def test_the_page_works_under_a_prefix(through, serve, tmp_path, strips):
    """Styles, the socket, recorded frames and uploads."""
    world = turn_world(initial_contexts=[Clip(frames=picture(5, 3)[None], actions={"action": np.zeros(1, np.int64)})])
    Image.fromarray(picture(2, 6)).save(tmp_path / "mine.png")
    page = through(serve(world, Limits(upload_seconds=0), root_path=PREFIX, token="secret"), strips)
    state(page, "playing")
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")
    page.get_by_role("button", name="Start from").click()
    page.get_by_role("button", name="Start from recorded frame 1").click()
    reaches(page, (5, 3))
    page.locator("#start-file").set_input_files(tmp_path / "mine.png")
    reaches(page, (2, 6))
    assert cell(page) == (2, 6)


@pytest.mark.parametrize("strips", [True, False], ids=["strips", "keeps"])
def test_the_gallery_works_under_a_prefix(through, serve, strips):
    worlds = WorldLibrary([WorldEntry(name="Turns", load=turn_world), WorldEntry(name="More", load=turn_world)])
    page = through(serve(worlds, root_path=PREFIX, token="secret"), strips)
    page.get_by_role("link", name="Play Turns").click()
    state(page, "playing")
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")
    page.get_by_role("link", name="All worlds").click()
    page.get_by_role("link", name="Play More").click()
    state(page, "playing")


@pytest.mark.parametrize("is_trusted", [True, False])
def test_only_trusted_pages_may_frame_it(browser, is_trusted):
    with (
        running(turn_world(), trusted_hosts=("localhost",) if is_trusted else ("other.example",)) as address,
        site(f'<!doctype html><iframe src="http://{address}/" width="900" height="700"></iframe>') as url,
        contextlib.closing(browser.new_page()) as page,
    ):
        page.goto(url)
        frame = page.frames[1]
        if is_trusted:
            frame.wait_for_selector("body[data-state=playing]", timeout=15_000)
            frame.locator("#stage").click()
            page.keyboard.press("ArrowRight")
            text(frame, "#step", "^1$")
        else:
            page.wait_for_timeout(300)
            assert page.frames[1].locator("#stage").count() == 0


def test_a_notebook_shows_the_page_in_a_frame_that_takes_keys(browser, monkeypatch):
    pytest.importorskip("IPython", reason="the notebook tests need the package ipython")
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    with (
        contextlib.closing(notebook.play(turn_world())) as playing,
        site(f"<!doctype html>{shown[0]._repr_html_()}") as url,  # as the page of a local notebook
        contextlib.closing(browser.new_page()) as page,
    ):
        page.goto(url)
        frame = page.frames[1]
        assert frame.url == playing.url
        frame.wait_for_selector("body[data-state=playing]", timeout=15_000)
        frame.locator("#stage").click()
        page.keyboard.press("ArrowRight")
        text(frame, "#step", "^1$")
