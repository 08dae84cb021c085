"""The page side by side with the real environment, and the environment alone."""

from __future__ import annotations

from tests.serve.game import ID, MODULE, learned_world
from tests.serve.page.browser import PHONE, cell, expect, needs_browser, state, text, wait_until
from tests.serve.squares import time_world

from reelworld.data.dataset import Dataset
from reelworld.envs.presets import SimulatorConfig
from reelworld.serve.config import Limits
from reelworld.serve.library import WorldEntry, WorldLibrary
from reelworld.serve.reference_env import PlayableEnv

pytestmark = needs_browser


def both(page) -> tuple[tuple[int, int], tuple[int, int]]:
    return cell(page), cell(page, "env")


def go_side_by_side(page) -> None:
    page.get_by_role("button", name="Real game").click()
    page.wait_for_selector("body.is-side-by-side[data-state=playing]")
    text(page, "#psnr", "^identical$")


def test_the_same_keys_play_the_world_and_the_real_game(visit, serve):
    address = serve(learned_world(), allow_code=(MODULE,))
    page = visit(address)
    assert page.locator("#env-picture").is_hidden()
    go_side_by_side(page)
    assert page.locator("figcaption:visible").all_inner_texts() == ["World", "Real game"]
    text(page, "#comparison-note", "cannot be rewound")
    assert page.locator("#back").is_hidden() and page.locator("#start-from").is_hidden()
    before, there = both(page)
    assert before == there
    page.keyboard.press("ArrowDown")
    text(page, "#step", "^1$")
    assert both(page) == ((before[0], before[1] + 1),) * 2
    page.keyboard.press("Backspace")  # means nothing here
    page.keyboard.press("ArrowDown")
    text(page, "#step", "^2$")
    assert page.locator("#curve").get_attribute("points").count(",") == 3
    page.reload()
    page.wait_for_selector("body.is-side-by-side[data-state=playing]")  # the address remembers
    page.get_by_role("button", name="Real game").click()
    page.wait_for_selector("body:not(.is-side-by-side)[data-state=playing]")
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")
    page.keyboard.press("Backspace")
    text(page, "#step", "^0$")


def test_pictures_that_part_are_measured_and_the_end_of_the_game_is_announced(visit, serve):
    world = learned_world(simulator={"env_kwargs": {"length": 4}})  # two of them are the world's context
    world.move = lambda action: [0, 0]
    address = serve(world, allow_code=(MODULE,))
    page = visit(address)
    go_side_by_side(page)
    page.keyboard.press("ArrowDown")
    text(page, "#step", "^1$")
    text(page, "#psnr", r"^\d\d\.\d dB$")
    imagined, seen = both(page)
    assert seen == (imagined[0], imagined[1] + 1)
    page.keyboard.press("ArrowDown")
    state(page, "ended")
    page.keyboard.press("KeyR")
    state(page, "playing")
    text(page, "#psnr", "^identical$")
    assert len(set(both(page))) == 1


def test_a_game_that_is_not_here_says_why(visit, serve):
    address = serve(learned_world(simulator={"env_id": "NoSuchGame-v3"}))
    page = visit(address)
    page.get_by_role("button", name="Real game").click()
    text(page, "#toast", "^Unknown environment 'NoSuchGame-v3'")
    state(page, "playing")
    page.goto(f"http://{address}/?reference_env=1")
    state(page, "closed")
    text(page, "#overlay-title", "Real game not available")
    page.get_by_role("button", name="Play the world only").click()
    state(page, "playing")
    page.keyboard.press("ArrowRight")
    text(page, "#step", "^1$")


def test_the_way_back_to_the_gallery_leaves_the_game(visit, serve):
    address = serve(WorldLibrary([WorldEntry(name="Learned", load=learned_world)]), allow_code=(MODULE,))
    page = visit(address)
    page.get_by_role("link", name="Play Learned").click()
    state(page, "playing")
    go_side_by_side(page)
    page.get_by_role("link", name="All worlds").click()
    page.get_by_role("link", name="Play Learned").click()
    page.wait_for_selector("body:not(.is-side-by-side)[data-state=playing]")


def test_both_pictures_fit_a_phone(visit, serve):
    address = serve(learned_world(), allow_code=(MODULE,))
    page = visit(address, **PHONE)
    go_side_by_side(page)
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size == [390, 844]
    boxes = [page.locator(name).bounding_box() for name in ("#screen", "#env", "#comparison", "#tools")]
    for box in boxes:
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844
    assert boxes[0]["width"] == boxes[1]["width"] >= 150
    assert all(a["y"] + a["height"] <= b["y"] for a, b in [(boxes[0], boxes[2]), (boxes[2], boxes[3])])


def test_many_buttons_fit_a_phone(visit, tmp_path, serve):
    """A world in real time that can be recorded, started from pictures and played beside its game."""
    world = time_world()
    world.info.provenance = learned_world().info.provenance
    address = serve(world, record=tmp_path)
    page = visit(address, **PHONE)
    buttons = page.locator("#tools button:visible").all()
    assert len(buttons) == 8
    for button in buttons:
        box = button.bounding_box()
        assert min(box["width"], box["height"]) >= 44
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844
        assert button.evaluate("b => b.querySelector('.label').scrollWidth <= b.clientWidth")


def test_the_real_game_is_played_and_everything_is_kept(visit, tmp_path, serve):
    game = PlayableEnv(SimulatorConfig(env_id=ID))
    address = serve(game, Limits(sessions=1), record=tmp_path)
    page = visit(address)
    text(page, "#about", "^real game, 32")
    for gone in ("#back", "#start-from", "#side-by-side"):
        assert page.locator(gone).is_hidden()
    text(page, "#record", "Recording")
    page.get_by_role("button", name="Settings").click()
    assert page.locator("#sampler-section").is_hidden() and page.get_by_label("Temperature").is_hidden()
    assert page.locator("#previews").is_hidden()
    page.keyboard.press("Escape")
    for step, key in enumerate(["KeyW", "KeyW", "KeyQ"], 1):  # the keys of actions that nobody named: 1, 2, 3
        page.keyboard.press({"KeyW": "Digit2", "KeyQ": "Digit1"}[key])
        text(page, "#step", f"^{step}$")
    page.keyboard.press("KeyR")
    text(page, "#toast", r"^Saved 4 frames: videos/tests-serve-game-square-v0-played-.*\.mp4$")
    page.keyboard.press("Digit2")
    text(page, "#step", "^1$")
    second = visit(address)
    state(second, "closed")
    text(second, "#overlay-text", "^Another tab plays here already; close a tab and try again.$")
    page.reload()  # the place is free at once, and what was played is kept
    state(page, "playing")
    page.close()
    wait_until(second, lambda: len(list(tmp_path.glob("*.npz"))) == 2 and not second.wait_for_timeout(100))
    data = Dataset.open(tmp_path)
    assert sorted(e.n_frames for e in data.episodes) == [2, 4]


def test_a_key_without_a_meaning_says_so(visit, turns):
    page = visit(turns)
    page.keyboard.press("KeyX")
    text(page, "#toast", "^X is not assigned")
    expect(page.locator("#toast")).to_have_attribute("role", "status")
    text(page, "#step", "^0$")
    page.keyboard.press("Shift")  # no key of a game by itself
    text(page, "#toast", "^X is")
