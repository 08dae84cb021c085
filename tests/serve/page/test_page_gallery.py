"""Gallery, initial contexts and recording on the page."""

from __future__ import annotations

import numpy as np
from PIL import Image
from tests.serve.page.browser import cell, expect, needs_browser, reaches, state, text
from tests.serve.squares import (
    picture,
    time_world,
    turn_world,
)

from reelworld.serve.config import Limits
from reelworld.serve.library import WorldEntry, WorldLibrary
from reelworld.types import Clip

pytestmark = needs_browser


def test_the_gallery_leads_to_a_world_and_back(visit, serve):
    turns = WorldEntry(name="Turns", load=turn_world, card="# All about turns")
    worlds = [turns, WorldEntry(name="Time", load=time_world)]
    address = serve(WorldLibrary(worlds))
    page = visit(address)
    expect(page.locator(".world")).to_have_count(2)
    page.get_by_text("About this world").click()
    assert page.get_by_text("# All about turns").is_visible()
    page.get_by_role("link", name="Play Turns").focus()
    page.keyboard.press("Enter")
    state(page, "playing")
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")
    page.get_by_role("link", name="All worlds").click()
    page.get_by_role("link", name="Play Time").click()
    state(page, "ready")


def test_the_game_begins_at_a_moment_or_at_a_picture(visit, tmp_path, serve):
    world = turn_world(initial_contexts=[Clip(frames=picture(5, 3)[None], actions={"action": np.zeros(1, np.int64)})])
    Image.fromarray(picture(2, 6)).save(tmp_path / "mine.png")
    address = serve(world, Limits(upload_seconds=0))
    page = visit(address)
    page.get_by_role("button", name="Start from").click()
    page.get_by_role("button", name="Start from recorded frame 1").click()
    reaches(page, (5, 3))
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")
    page.locator("#start-file").set_input_files(tmp_path / "mine.png")
    text(page, "#step", "^0$")
    assert cell(page) == (2, 6)
    page.get_by_role("button", name="Start from").click()
    page.get_by_role("button", name="Random").click()
    reaches(page, (0, 0))


def test_the_record_button_keeps_what_is_played(visit, tmp_path, serve):
    address = serve(turn_world(), record=tmp_path)
    page = visit(address)
    page.get_by_role("button", name="Record").click()
    text(page, "#record", "Recording")
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")
    page.get_by_role("button", name="Recording").click()
    text(page, "#toast", r"^Saved 2 frames: videos/square-played-.*\.mp4$")
    assert len(list(tmp_path.glob("*.npz"))) == len(list(tmp_path.glob("videos/*.mp4"))) == 1
