"""Controls of the page: keys, buttons, sliders, gamepads and action previews."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.serve.page.browser import cell, needs_browser, state, text, wait_until
from tests.serve.squares import (
    turn_world,
)

pytestmark = needs_browser


def test_legend_names_the_keys_and_its_buttons_work(visit, turns):
    page = visit(turns)
    shown = [" ".join(button.split()) for button in page.get_by_role("button").all_inner_texts()]
    assert shown == [
        "\u2192 right",
        "\u2193 down",
        "Space left",
        "Restart R",
        "Rewind \u232b",
        "Start from",
        "Settings",
    ]
    page.get_by_role("button", name="right").click()
    text(page, "#step", "^1$")
    page.get_by_role("button", name="down").focus()
    page.keyboard.press("Enter")  # keyboard alone
    text(page, "#step", "^2$")
    assert cell(page) == (1, 1)


def test_a_lost_window_lets_go_of_the_keys(driving):
    world, page = driving
    page.keyboard.down("ArrowRight")
    text(page, "#step", r"^\d+$")
    page.evaluate("dispatchEvent(new Event('blur'))")
    wait_until(page, lambda: world.taken[-1]["action"].tolist() == [[0.0, 0.0]])


def test_temperature_and_passes_are_set_while_playing(visit, serve):
    world = turn_world()
    address = serve(world)
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
    page.get_by_role("button", name="Restore defaults").click()
    text(page, "#temperature-value", "^1.00$")


def test_keys_are_edited_and_remembered(visit, serve):
    address = serve(turn_world())
    page = visit(address)
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Add a key for down").click()
    page.keyboard.press("KeyJ")
    page.get_by_role("button", name="Remove \u2192 from right").click()
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
    page.get_by_role("button", name="Default keys").click()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^3$")


def test_stored_keys_that_do_not_fit_the_world_are_ignored(visit, turns):
    page = visit(turns)
    for stored in ("", "{", "null", "7", '{"jump": {"KeyA": 1}}', '{"action": {"KeyA": 99}}', '{"action": 3}'):
        page.evaluate("keys => localStorage.setItem('reelworld keys Square action:discrete:3', keys)", stored)
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
    until_held = "while (!document.querySelector('.key.is-held')) await new Promise(requestAnimationFrame)"
    letting_go = "pad.axes = [0, 0]; pad.buttons.forEach((button) => (button.pressed = false))"
    for step, (press, wanted) in enumerate(moves, 1):
        page.evaluate(f"async () => {{ {press}; {until_held}; {letting_go}; }}")  # held longer, it repeats
        text(page, "#step", f"^{step}$")
        assert cell(page) == wanted
        page.wait_for_selector(".key.is-held", state="detached")


def test_actions_without_names_show_what_they_do(visit, serve):
    world = turn_world()
    nameless = replace(world.spec.actions["action"], names=(), keys={})
    world.spec = replace(world.spec, actions={"action": nameless})
    address = serve(world)
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
    page.get_by_role("button", name="Preview actions").click()
    page.wait_for_selector(".key canvas")
    assert page.locator(".key canvas").count() == 3
