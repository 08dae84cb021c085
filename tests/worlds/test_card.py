"""Contents of a world's card, and the length of its preview."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from tests.rollout.toy import CLASSES, CLIP, start_clips, toy_world
from tests.tiny import tiny_world

from reelworld.data.dataset import DataInfo
from reelworld.worlds.world import World


def card_of(world: World, folder: Path) -> str:
    world.save(folder)
    return (folder / "README.md").read_text()


def test_worlds_of_whole_clips_say_how_they_go_on(tmp_path: Path) -> None:
    world = toy_world(1, CLASSES)
    world.initial_contexts = start_clips(2, CLASSES)
    card = card_of(world, tmp_path / "world")
    assert "none: the world is unconditional" in card
    assert "4 codes per 2 frames" in card and "up to 8 frames per call" in card and "starts from 1 frame " in card
    assert "A window has 8 frames." in card
    assert "which is read again" in card
    assert "- 1: run" in card
    with Image.open(tmp_path / "world" / "preview.gif") as film:
        assert 3 < film.n_frames <= CLIP - 2 + 1  # the first window; equal frames are one


def test_worlds_that_need_nothing_say_so(tmp_path: Path) -> None:
    card = card_of(toy_world(), tmp_path / "world")
    assert "A session starts from nothing" in card
    assert "reelworld generate . --out film.mp4\n" in card
    assert "## Classes" not in card


def test_worlds_that_make_frame_after_frame_say_so(tmp_path: Path) -> None:
    card = card_of(tiny_world("pocket", DataInfo(height=64, width=64)), tmp_path / "world")
    assert "64 codes per 1 frame, sampled in 1 pass at temperature 1; up to 1 frame per call" in card
    assert "generate . --out film.mp4 --data RECORDINGS" in card
    assert "window" not in card.split("```json")[0]
