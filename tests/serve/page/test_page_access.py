"""Accessibility of the page: axe-core, contrast, keyboard only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serve.game import ID, MODULE, learned_world
from tests.serve.page.browser import CONTRAST, DESKTOP, PHONE, needs_browser, state, text
from tests.serve.squares import time_world, turn_world

from reelworld.envs.presets import SimulatorConfig
from reelworld.serve.library import WorldEntry, WorldLibrary
from reelworld.serve.reference_env import PlayableEnv

pytestmark = needs_browser

Look = Callable[[Any], None]


def player(open_page: Callable[[str], Any], look: Look, serve: Any, folder: Path) -> None:
    address = serve(time_world(), record=folder)
    page = open_page(address)
    state(page, "ready")
    look(page)
    page.get_by_role("button", name="Play").first.click()
    text(page, "#step", r"^[1-9]\d*$")
    page.locator("#pause").click()
    state(page, "paused")
    look(page)
    for name in ("Start from", "Settings"):
        page.get_by_role("button", name=name).click()
        look(page)
        page.keyboard.press("Escape")  # on a phone the panel covers the buttons


def gallery(open_page: Callable[[str], Any], look: Look, serve: Any, folder: Path) -> None:
    turns = WorldEntry(name="Turns", load=turn_world, card="# All about turns")
    worlds = [turns, WorldEntry(name="Time", load=time_world)]
    address = serve(WorldLibrary(worlds))
    page = open_page(address)
    page.get_by_text("About this world").click()
    look(page)


def side_by_side(open_page: Callable[[str], Any], look: Look, serve: Any, folder: Path) -> None:
    address = serve(learned_world(), allow_code=(MODULE,))
    page = open_page(address)
    page.get_by_role("button", name="Real game").click()
    page.wait_for_selector("body.is-side-by-side[data-state=playing]")
    page.get_by_role("button", name="down").click()
    text(page, "#step", "^1$")
    look(page)


def record(open_page: Callable[[str], Any], look: Look, serve: Any, folder: Path) -> None:
    address = serve(PlayableEnv(SimulatorConfig(env_id=ID)), record=folder)
    page = open_page(address)
    text(page, "#record", "Recording")
    look(page)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scene", [player, gallery, side_by_side, record])
def test_axe_finds_nothing_serious_and_words_stand_out(visit, serve, tmp_path, scene, scheme):
    """axe-core's rules for WCAG 2.2 A and AA, and the contrast of every word with what is behind it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    n_looks = []

    def look(page: Any) -> None:
        violations = axe.run(page).response["violations"]
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in serious] == []
        ratios = page.evaluate(CONTRAST)
        assert len(ratios) > 5
        assert {text: ratio for text, ratio in ratios if ratio < 4.5} == {}
        n_looks.append(1)

    for shape in (DESKTOP, PHONE):
        options = {"color_scheme": scheme, "reduced_motion": "reduce", **shape}  # colours change at once
        scene(lambda address, options=options: visit(address, **options), look, serve, tmp_path)
    assert n_looks


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.ariaLabel || ''")


def tabs(page: Any, n: int) -> list[str]:
    names = []
    for _ in range(n):
        names.append(focused(page))
        page.keyboard.press("Tab")
    return names


def test_everything_can_be_reached_by_the_keyboard_in_order(visit, turns):
    keys = ["right (\u2192)", "down (\u2193)", "left (Space)"]
    assert tabs(visit(turns), 7) == ["stage", *keys, "reset", "start-from", "settings"]


def test_the_keyboard_alone_goes_beside_the_game_and_plays(visit, serve):
    address = serve(learned_world(), allow_code=(MODULE,))
    page = visit(address)
    while focused(page) != "side-by-side":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("body.is-side-by-side[data-state=playing]")
    assert focused(page) == "stage"  # the keys are the game's again
    page.keyboard.press("ArrowDown")
    text(page, "#step", "^1$")
    keys = ["right (\u2192)", "down (\u2193)", "left (Space)"]
    assert tabs(page, 7) == ["stage", *keys, "reset", "side-by-side", "settings"]


def test_the_keyboard_alone_records_and_comes_back_from_panels(visit, tmp_path, serve):
    address = serve(turn_world(), record=tmp_path)
    page = visit(address)
    while focused(page) != "record":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    text(page, "#record", "Recording")
    assert page.locator("#record").get_attribute("aria-pressed") == "true"
    while focused(page) != "settings":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('#panel') !== null")
    page.keyboard.press("Escape")
    assert focused(page) == "settings" and page.locator("#panel").is_hidden()
    page.keyboard.press("ArrowRight")  # a button has the focus, the keys play on
    text(page, "#step", "^1$")


def test_everything_has_a_name(visit, turns):
    page = visit(turns)
    page.get_by_role("button", name="Settings").click()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input:not([hidden]), canvas:not([aria-hidden]), section")]
          .filter((e) => e.checkVisibility() && !e.ariaLabel && !e.textContent.trim() && !e.labels?.length)
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []
