"""The page in a real browser: what a person sees and does.

The pixels of the small worlds are known, so every test reads them back from the canvas.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.serve.squares import (
    SIZE,
    TILE,
    SquareWorld,
    film_world,
    picture,
    running,
    time_world,
    turn_world,
    window_world,
)

from reelworld.serve.app import Limits
from reelworld.serve.shelf import Shelf, Shelved
from reelworld.types import Clip

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")

CHROMIUM = os.environ.get("REELWORLD_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it or set REELWORLD_CHROMIUM")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
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


def cell(page) -> tuple[int, int]:
    """Find the red square on the canvas."""
    x, y = page.evaluate(
        """() => {
          const canvas = document.getElementById("screen");
          const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          for (let i = 0; i < rgba.length; i += 4)
            if (rgba[i] === 255 && rgba[i + 1] === 0) return [(i / 4) % canvas.width, Math.floor(i / 4 / canvas.width)];
          return [-1, -1];
        }"""
    )
    return x // TILE, y // TILE


def text(page, selector: str, wanted: str) -> None:
    """Wait until an element says something."""
    playwright.expect(page.locator(selector)).to_have_text(re.compile(wanted))


def state(page, wanted: str) -> None:
    page.wait_for_selector(f"body[data-state={wanted}]")


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


def test_legend_names_the_keys_and_its_buttons_work(visit, turns):
    page = visit(turns)
    shown = [" ".join(button.split()) for button in page.get_by_role("button").all_inner_texts()]
    assert shown == [
        "\u2192 right",
        "\u2193 down",
        "Space left",
        "Start over R",
        "Back \u232b",
        "Start from",
        "Settings",
    ]
    page.get_by_role("button", name="right").click()
    text(page, "#step", "^1$")
    page.get_by_role("button", name="down").focus()
    page.keyboard.press("Enter")  # keyboard alone
    text(page, "#step", "^2$")
    assert cell(page) == (1, 1)


def test_a_held_key_repeats_only_as_fast_as_the_world_answers(visit):
    world = turn_world(step_seconds=0.25)
    with running(world) as address:
        page = visit(address)
        page.keyboard.down("ArrowRight")
        text(page, "#step", "^4$")
        page.keyboard.up("ArrowRight")
        page.wait_for_timeout(400)
        assert len(world.taken) <= 6


def test_the_end_is_announced_and_r_plays_again(visit):
    with running(turn_world()) as address:
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


def test_real_time_world_waits_for_the_first_key_then_runs_and_pauses(visit):
    world = time_world(fps=20)
    with running(world) as address:
        page = visit(address)
        state(page, "ready")
        assert world.taken == []
        page.keyboard.down("ArrowRight")
        text(page, "#step", r"^\d\d+$")
        assert cell(page) == (7, 0)
        page.keyboard.down("ArrowUp")  # two keys of a continuous stream add up
        page.wait_for_timeout(300)
        page.keyboard.up("ArrowUp")
        page.keyboard.up("ArrowRight")
        assert any(action["action"].tolist() == [[1.0, 1.0]] for action in world.taken)
        page.keyboard.press("KeyP")
        state(page, "paused")
        page.wait_for_timeout(200)
        n_steps = len(world.taken)
        page.wait_for_timeout(300)
        assert len(world.taken) == n_steps
        assert page.locator("#overlay").is_hidden()  # people want to see where it stands
        page.get_by_role("button", name="Play").first.click()
        state(page, "playing")


def test_a_lost_window_lets_go_of_the_keys(visit):
    world = time_world(fps=20)
    with running(world) as address:
        page = visit(address)
        page.keyboard.down("ArrowRight")
        text(page, "#step", r"^\d+$")
        page.evaluate("dispatchEvent(new Event('blur'))")
        page.wait_for_timeout(200)
        assert world.taken[-1]["action"].tolist() == [[0.0, 0.0]]


def test_a_film_plays_and_pauses(visit):
    with running(film_world()) as address:
        page = visit(address)
        assert page.locator(".key").count() == 0
        page.locator("#overlay-button").click()
        text(page, "#step", r"^[3-9]|\d\d$")
        page.keyboard.press("KeyP")
        state(page, "paused")


def test_a_slow_film_says_what_it_does_meanwhile(visit):
    world = window_world()
    with running(world) as address:
        page = visit(address)
        text(page, "#about", "20 frames/s, runs by itself$")
        page.locator("#overlay-button").click()
        for _ in range(3):
            page.wait_for_timeout(350)
            world.tokens.release(10)
        text(page, "#hint", r"^Imagining the next 3 frames\u2026 [1-9]\d%$")
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


def test_page_comes_back_when_the_server_does(visit, browser):
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


def test_a_full_server_says_so_and_lets_try_again(visit):
    with running(turn_world(), Limits(sessions=1)) as address:
        first = visit(address)
        second = visit(address)
        state(second, "closed")
        text(second, "#overlay-text", "All 1 places are taken")
        first.close()
        second.wait_for_timeout(300)
        second.locator("#overlay-button").click()
        state(second, "playing")


def test_worlds_with_wide_frames_are_letterboxed(visit):
    world: SquareWorld = turn_world()
    world.info.width = 2 * SIZE
    with running(world) as address:
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


def test_a_real_time_world_is_stepped_and_taken_back_while_paused(visit):
    world = time_world(fps=20)
    with running(world) as address:
        page = visit(address)
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


def test_temperature_and_passes_are_set_while_playing(visit):
    world = turn_world()
    with running(world) as address:
        page = visit(address)
        page.get_by_role("button", name="Settings").click()
        text(page, "#temperature-value", "^1.00$")
        page.get_by_label("Temperature").focus()
        page.keyboard.press("ArrowLeft")  # the slider's, not the game's
        text(page, "#temperature-value", "^0.95$")
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowRight")
        text(page, "#step", "^1$")
        assert world.temperatures == [0.95]
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="As the world comes").click()
        text(page, "#temperature-value", "^1.00$")


def test_keys_are_edited_and_remembered(visit):
    with running(turn_world()) as address:
        page = visit(address)
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Add a key for down").click()
        page.keyboard.press("KeyJ")
        page.get_by_role("button", name="Take \u2192 away from right").click()
        page.keyboard.press("Escape")
        page.keyboard.press("KeyJ")
        text(page, "#step", "^1$")
        assert cell(page) == (0, 1)
        page.reload()
        state(page, "playing")
        page.keyboard.press("ArrowRight")  # means nothing any more
        page.keyboard.press("KeyJ")
        text(page, "#step", "^1$")
        page.get_by_role("button", name=re.compile("^right$")).click()  # without a key it can still be touched
        text(page, "#step", "^2$")
        assert cell(page) == (1, 1)
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="The world's own keys").click()
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowRight")
        text(page, "#step", "^3$")


@pytest.mark.parametrize(
    "kept", ["", "{", "null", "7", '{"jump": {"KeyA": 1}}', '{"action": {"KeyA": 99}}', '{"action": 3}']
)
def test_keys_that_do_not_fit_the_world_are_forgotten(visit, turns, kept):
    page = visit(turns)
    page.evaluate("kept => localStorage.setItem('reelworld keys Square action:discrete:3', kept)", kept)
    page.reload()
    state(page, "playing")
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")


GAMEPAD = """
  const buttons = Array.from({ length: 16 }, () => ({ pressed: false, value: 0 }));
  window.pad = { connected: true, axes: [0, 0], buttons };
  navigator.getGamepads = () => [window.pad, null];
"""


def test_a_gamepad_plays_by_the_key_map(visit, turns):
    page = visit(turns)
    page.evaluate(GAMEPAD)
    page.evaluate("dispatchEvent(new Event('gamepadconnected'))")
    moves = [
        ("pad.buttons[15].pressed = true", (1, 0)),
        ("pad.axes = [0, 0.9]", (1, 1)),
        ("pad.buttons[0].pressed = true", (0, 1)),
    ]
    letting_go = "pad.axes = [0, 0]; pad.buttons.forEach((button) => (button.pressed = false))"
    for step, (press, wanted) in enumerate(moves, 1):
        page.evaluate(f"() => {{ {press}; setTimeout(() => {{ {letting_go}; }}, 100); }}")  # held longer, it repeats
        text(page, "#step", f"^{step}$")
        assert cell(page) == wanted
        page.wait_for_timeout(200)


def test_actions_without_names_show_what_they_do(visit):
    world = turn_world()
    spec = world.info.actions["action"]
    world.info.actions = {"action": replace(spec, names=(), keys={})}
    with running(world) as address:
        page = visit(address)
        page.wait_for_selector(".key canvas")
        assert page.locator(".key").count() == page.locator(".key canvas").count() == 3
        page.wait_for_function(
            """() => {
              const [canvas] = document.querySelectorAll(".key canvas");
              const { data } = canvas.getContext("2d").getImageData(16, 0, 4, 4);
              return canvas.width === 24 && data[0] === 255 && data[1] === 0;  // four steps to the right
            }"""
        )


def test_pictures_of_actions_come_on_demand(visit, turns):
    page = visit(turns)
    assert page.locator(".key canvas").count() == 0
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Show what each action does").click()
    page.wait_for_selector(".key canvas")
    assert page.locator(".key canvas").count() == 3


def test_everything_can_be_reached_by_the_keyboard_in_order(visit, turns):
    page = visit(turns)
    names = []
    for _ in range(7):
        names.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel"))
        page.keyboard.press("Tab")
    assert names == ["stage", "right (\u2192)", "down (\u2193)", "left (Space)", "reset", "start-from", "settings"]


def test_the_record_button_keeps_what_is_played(visit, tmp_path):
    with running(turn_world(), record=tmp_path) as address:
        page = visit(address)
        page.get_by_role("button", name="Record").click()
        text(page, "#record", "Recording")
        page.keyboard.press("ArrowRight")
        text(page, "#step", "^1$")
        page.get_by_role("button", name="Recording").click()
        text(page, "#toast", r"^Kept 2 frames: films/square-played-.*\.mp4$")
        assert len(list(tmp_path.glob("*.npz"))) == len(list(tmp_path.glob("films/*.mp4"))) == 1


def test_the_game_begins_at_a_moment_or_at_a_picture(visit, tmp_path):
    world = turn_world(starts=[Clip(frames=picture(5, 3)[None], actions={"action": np.zeros(1, np.int64)})])
    Image.fromarray(picture(2, 6)).save(tmp_path / "mine.png")
    with running(world, Limits(upload_seconds=0)) as address:
        page = visit(address)
        page.get_by_role("button", name="Start from").click()
        page.get_by_role("button", name="Start at moment 1").click()
        page.wait_for_timeout(300)
        assert cell(page) == (5, 3)
        page.keyboard.press("ArrowRight")
        text(page, "#step", "^1$")
        page.locator("#start-file").set_input_files(tmp_path / "mine.png")
        text(page, "#step", "^0$")
        assert cell(page) == (2, 6)
        page.get_by_role("button", name="Start from").click()
        page.get_by_role("button", name="Anywhere").click()
        page.wait_for_timeout(300)
        assert cell(page) == (0, 0)


def test_the_gallery_leads_to_a_world_and_back(visit):
    worlds = [Shelved(name="Turns", load=turn_world, card="# All about turns"), Shelved(name="Time", load=time_world)]
    with running(Shelf(worlds)) as address:
        page = visit(address)
        playwright.expect(page.locator(".world")).to_have_count(2)
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


def test_no_record_button_where_nothing_is_recorded(visit, turns):
    assert visit(turns).locator("#record").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(visit, turns, scheme):
    page = visit(turns, color_scheme=scheme, **DESKTOP)
    page.get_by_role("button", name="Settings").click()
    page.wait_for_timeout(300)
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 20
    low = {text: ratio for text, ratio in ratios if ratio < 4.5}
    assert low == {}


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => {
    const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.slice(0, 3).map((x) => linear(x / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if ((colour[3] ?? 1) > 0.75) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const seen = e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    if (!own || !seen || e.closest(":disabled, .arrow")) continue; // an arrow is a shape, not a word
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    found.push([e.textContent.trim(), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""
