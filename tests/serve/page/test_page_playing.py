"""Playing on the page: kinds of worlds, screens, reconnection."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.serve.client import get
from tests.serve.page.browser import PHONE, cell, needs_browser, state, text, wait_until
from tests.serve.squares import (
    SIZE,
    SquareWorld,
    film_world,
    running,
    turn_world,
    window_world,
)

from reelworld.serve.config import Limits

pytestmark = needs_browser


def test_keys_move_the_square_and_r_starts_over(visit, turns):
    page = visit(turns)
    text(page, "#name", "^Square$")
    text(page, "#hint", "each key press is one step")
    assert cell(page) == (0, 0)
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")
    assert cell(page) == (1, 0)
    page.keyboard.press("ArrowDown")
    text(page, "#step", "^2$")
    assert cell(page) == (1, 1)
    page.keyboard.press("KeyX")  # means nothing here
    page.keyboard.press("Space")
    text(page, "#step", "^3$")
    assert cell(page) == (0, 1)
    text(page, "#reward", r"^1\.50$")
    text(page, "#delay", r"^\d+ / \d+ ms$")
    page.keyboard.press("KeyR")
    text(page, "#step", "^0$")
    assert cell(page) == (0, 0)


def test_a_held_key_repeats_only_as_fast_as_the_world_answers(visit, serve):
    world = turn_world(step_seconds=0.15)
    address = serve(world)
    page = visit(address)
    page.keyboard.down("ArrowRight")
    text(page, "#step", r"^([4-9]|\d\d+)$")
    page.keyboard.up("ArrowRight")
    n_taken = len(world.taken)
    page.wait_for_timeout(800)
    assert len(world.taken) <= n_taken + 2  # one that is being made, one on its way; four may wait


def test_the_end_is_announced_and_r_plays_again(visit, serve):
    address = serve(turn_world())
    page = visit(address)
    for key in ("ArrowRight", "ArrowDown") * 7:
        page.keyboard.press(key)
        page.wait_for_timeout(15)
    state(page, "ended")
    text(page, "#overlay-title", "Episode finished")
    text(page, "#overlay-text", "^14 steps, reward 7$")
    text(page, "#overlay-button", r"Play again \(R\)")
    page.keyboard.press("KeyR")
    state(page, "playing")
    assert cell(page) == (0, 0)


def test_real_time_world_waits_for_the_first_key_then_runs_and_pauses(driving):
    world, page = driving
    state(page, "ready")
    assert world.taken == []
    page.keyboard.down("ArrowRight")
    text(page, "#step", r"^\d\d+$")
    assert cell(page) == (7, 0)
    page.keyboard.down("ArrowUp")  # two keys of a continuous stream add up
    # no longer than needed: seven such steps are the end of the episode
    wait_until(page, lambda: any(action["action"].tolist() == [[1.0, 1.0]] for action in world.taken))
    page.keyboard.up("ArrowUp")
    page.keyboard.up("ArrowRight")
    page.keyboard.press("KeyP")
    state(page, "paused")
    page.wait_for_timeout(100)
    n_steps = len(world.taken)
    page.wait_for_timeout(200)
    assert len(world.taken) == n_steps
    assert page.locator("#overlay").is_hidden()  # people want to see where it stands
    page.get_by_role("button", name="Play").first.click()
    state(page, "playing")


def test_a_film_plays_and_pauses(visit, serve):
    address = serve(film_world())
    page = visit(address)
    assert page.locator(".key").count() == 0
    page.locator("#overlay-button").click()
    text(page, "#step", r"^[3-9]|\d\d$")
    page.keyboard.press("KeyP")
    state(page, "paused")


def test_a_slow_film_says_what_it_does_meanwhile(visit, serve, monkeypatch):
    monkeypatch.setattr("reelworld.serve.player.PROGRESS_SECONDS", 0.05)
    world = window_world()
    address = serve(world)
    page = visit(address)
    text(page, "#about", "20 fps, no controls$")
    page.locator("#overlay-button").click()
    for _ in range(3):
        page.wait_for_timeout(60)
        world.tokens.release(10)
    text(page, "#hint", r"^Generating 3 frames\u2026 [1-9]\d%$")
    assert page.locator("#hint").is_visible()
    world.tokens.release(10)
    text(page, "#step", "^3$")
    assert cell(page) == (3, 0)
    world.tokens.release(10_000)  # a world that waits for the test would hold up the end of the server
    text(page, "#step", r"^\d\d$")
    page.wait_for_selector("#hint", state="hidden")


def test_phone_fits_the_screen_and_plays_by_touch(visit, turns):
    page = visit(turns, **PHONE)
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size == [390, 844]
    box = page.locator("#screen").bounding_box()
    assert box["width"] >= 330 and box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert (box["width"] * 3 / SIZE) % 1 == pytest.approx(0, abs=1e-6)  # whole device pixels
    for key in page.locator(".key, .tools button:visible").all():
        rectangle = key.bounding_box()
        assert rectangle["height"] >= 44 and rectangle["y"] + rectangle["height"] <= 844
    page.get_by_role("button", name="right").tap()
    text(page, "#step", "^1$")
    assert cell(page) == (1, 0)


def test_page_comes_back_when_the_server_does(browser):
    with running(turn_world()) as address:
        port = int(address.split(":")[1])
        page = browser.new_page()  # its console will rightly complain about the lost server
        page.goto(f"http://{address}/")
        state(page, "playing")
    state(page, "lost")
    with running(turn_world(), port=port):
        state(page, "playing")
        page.keyboard.press("ArrowRight")
        text(page, "#step", "^1$")
        page.close()


def test_a_full_server_says_so_and_lets_try_again(visit, serve):
    address = serve(turn_world(), Limits(sessions=1))
    first = visit(address)
    second = visit(address)
    state(second, "closed")
    text(second, "#overlay-text", "Another tab plays here already")
    first.close()
    wait_until(second, lambda: json.load(get(address, "/api/world"))["players"] == 0)
    second.locator("#overlay-button").click()
    state(second, "playing")


def test_worlds_with_wide_frames_are_letterboxed(visit, serve):
    world: SquareWorld = turn_world()
    world.spec = replace(world.spec, width=2 * SIZE)
    address = serve(world)
    box = visit(address).locator("#screen").bounding_box()
    assert box["width"] == 2 * box["height"]


def test_back_takes_steps_back_and_the_game_goes_on_from_there(visit, turns):
    page = visit(turns)
    assert page.locator("#back").is_disabled()
    for step, key in enumerate(["ArrowRight", "ArrowRight", "ArrowDown"], 1):
        page.keyboard.press(key)
        text(page, "#step", f"^{step}$")
    page.keyboard.press("Backspace")
    text(page, "#step", "^2$")
    assert cell(page) == (2, 0)
    page.locator("#back").click()
    text(page, "#step", "^1$")
    assert cell(page) == (1, 0)
    page.locator("#back").focus()
    page.keyboard.press("Enter")
    text(page, "#step", "^0$")
    page.keyboard.press("ArrowDown")
    text(page, "#step", "^1$")
    assert cell(page) == (0, 1)


def test_a_real_time_world_is_stepped_and_taken_back_while_paused(driving):
    _, page = driving
    page.keyboard.press("ArrowRight")
    text(page, "#step", r"^\d+$")
    page.keyboard.press("KeyP")
    state(page, "paused")
    page.wait_for_timeout(200)
    step = int(page.locator("#step").inner_text())
    page.locator("#single").click()
    text(page, "#step", f"^{step + 1}$")
    page.keyboard.press("Period")
    text(page, "#step", f"^{step + 2}$")
    page.keyboard.press("Backspace")
    text(page, "#step", f"^{step + 1}$")
    page.keyboard.press("KeyP")
    state(page, "playing")
    assert page.locator("#single").is_disabled()
