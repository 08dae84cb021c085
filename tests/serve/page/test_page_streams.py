"""Several action streams on the page: keys held at once, a drag pad, a gamepad's stick."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.serve.page.browser import PHONE, needs_browser, text, wait_until
from tests.serve.squares import SquareWorld, square_spec, time_world

from reelworld.types import ActionSpec

pytestmark = needs_browser

BUTTONS = ActionSpec(kind="buttons", n=2, names=("run", "jump"))
MOUSE = ActionSpec(kind="continuous", n=2, low=(-1.0, -1.0), high=(1.0, 1.0), null=(0.0, 0.0), names=("x", "y"))


class Streams(SquareWorld):
    """A world whose square stays: its streams are only recorded."""

    def move(self, action: Any) -> tuple[int, int]:
        return 0, 0


def taken(world: SquareWorld) -> dict[str, list[Any]]:
    """The newest actions."""
    return {name: value[0].tolist() for name, value in world.taken[-1].items()} if world.taken else {}


@pytest.fixture
def streams() -> Streams:
    move = ActionSpec(kind="discrete", n=3, names=("stay", "left", "right"), null=0)
    return Streams(square_spec(fps=30.0, actions={"move": move, "keys": BUTTONS, "mouse": MOUSE}))


def play(page: Any) -> Any:
    page.locator("#overlay-button").click()
    return page


def test_keys_of_several_streams_are_held_at_once(visit, serve, streams):
    page = play(visit(serve(streams)))
    for key in ("Digit3", "Digit4", "Digit5"):  # the first free keys of each stream, none of them twice
        page.keyboard.down(key)
    wait_until(page, lambda: taken(streams) == {"move": 2, "keys": [1.0, 1.0], "mouse": [0.0, 0.0]})
    page.keyboard.up("Digit4")
    wait_until(page, lambda: taken(streams)["keys"] == [0.0, 1.0])


def test_a_turn_keeps_the_keys_held_for_other_streams(visit, serve):
    move = ActionSpec(kind="discrete", n=3, names=("up", "left", "right"))
    world = Streams(square_spec(actions={"move": move, "keys": BUTTONS}))
    page = visit(serve(world))
    page.keyboard.down("Digit4")
    text(page, "#step", "^1$")
    page.keyboard.press("Digit2")
    wait_until(page, lambda: taken(world) == {"move": 1, "keys": [1.0, 0.0]})


@pytest.mark.parametrize("size", [{}, PHONE])
def test_a_pad_is_dragged_for_two_numbers(visit, serve, streams, size):
    page = play(visit(serve(streams), **size))
    box = page.locator(".stick").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + box["width"] / 4, middle[1] - box["height"] / 2 - 30)  # beyond the upper edge
    wait_until(page, lambda: abs(taken(streams)["mouse"][0] - 0.5) < 0.03 and taken(streams)["mouse"][1] == 1.0)
    page.mouse.up()
    wait_until(page, lambda: taken(streams)["mouse"] == [0.0, 0.0])


def test_deflections_are_shares_of_the_keys_actions(visit, serve):
    world = time_world()
    keys = {"ArrowLeft": (1.0, 0.0), "ArrowRight": (-1.0, 0.0), "ArrowUp": (0.0, 0.2), "ArrowDown": (0.0, -0.4)}
    world.spec = replace(world.spec, actions={"action": replace(world.spec.actions["action"], keys=keys)})
    page = play(visit(serve(world)))
    box = page.locator(".stick").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 9, box["y"] + box["height"] + 9)
    wait_until(page, lambda: [round(v, 2) for v in taken(world)["action"]] == [-1.0, -0.4])


GAMEPAD = """
  const buttons = Array.from({ length: 16 }, () => ({ pressed: false, value: 0 }));
  window.pad = { connected: true, axes: [0, 0, 0, 0], buttons };
  navigator.getGamepads = () => [window.pad];
  dispatchEvent(new Event("gamepadconnected"));
"""


def test_a_gamepads_stick_is_analog_and_its_buttons_are_shared_out(visit, serve, streams):
    page = play(visit(serve(streams)))
    page.evaluate(GAMEPAD)
    page.evaluate("pad.axes = [0.25, -0.5, 0, 0]")
    wait_until(page, lambda: taken(streams)["mouse"] == [0.25, 0.5])
    assert taken(streams)["move"] == 0
    page.evaluate("pad.axes = [0, 0.05, 0, 0]")  # a stick at rest is never quite at zero
    wait_until(page, lambda: taken(streams)["mouse"] == [0.0, 0.0])
    page.evaluate("pad.buttons[3].pressed = pad.buttons[5].pressed = true")
    wait_until(page, lambda: taken(streams)["keys"] == [1.0, 1.0])
    assert taken(streams)["move"] == 0
