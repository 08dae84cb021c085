"""Locations of worlds, metrics on their cards, and copies for sharing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.rollout.toy import start_clips, toy_world
from tests.tiny import tiny_world

from reelworld.cli.main import main
from reelworld.data.dataset import DataInfo
from reelworld.evaluate.run import card_metrics
from reelworld.types import UserError
from reelworld.worlds import locate as finding
from reelworld.worlds.card import rewrite_card
from reelworld.worlds.card_metrics import check_measured, weights_of
from reelworld.worlds.locate import world_folder
from reelworld.worlds.world import World

FIGURE = {
    "name": "tokenizer_psnr",
    "label": "PSNR of the tokenizer",
    "value": 31.25,
    "low": 30.5,
    "high": 32.0,
    "unit": "dB",
    "n": 640,
    "trials": "frames",
    "baselines": {"mean colour": 12.5},
}
RESULTS = {
    "command": "reelworld eval world --data games",
    "commit": "abc",
    "created": "2026-01-02T03:04:05+00:00",
    "hardware": {"cpu": "a processor", "gpu": ""},
    "data": {"n_clips": 12, "name": "games", "split": "test", "n_trained_on": 0},
    "config": {"seed": 3},
    "sections": [{"metrics": [FIGURE, {**FIGURE, "label": "never measured", "n": 0}]}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    world = tiny_world("pocket", DataInfo(height=64, width=64))
    world.info = replace(world.info, known_limitations=("Doors may stay shut.",))
    world.save(tmp_path / "run" / "world")
    return tmp_path / "run" / "world"


def test_a_card_has_the_figures_and_the_failures(folder: Path) -> None:
    world = World.load(folder)
    world.info = replace(world.info, metrics=card_metrics(RESULTS, weights_of(world.info.parts)))
    rewrite_card(folder, world.info)
    card = (folder / "README.md").read_text()
    assert "| PSNR of the tokenizer | **31.2 dB** | 30.5 to 32.0 dB | mean colour: 12.5 dB | 640 |" in card
    assert "12 episodes of games (split test, held out), seed 3, commit abc" in card
    assert "- Doors may stay shut." in card and "never measured" not in card
    again = World.load(folder)
    assert again.info.metrics == world.info.metrics
    again.save(folder)  # the same weights: the figures stay
    assert World.load(folder).info.metrics == world.info.metrics


def test_figures_of_other_weights_are_refused_and_dropped_on_saving(folder: Path) -> None:
    world = World.load(folder)
    with pytest.raises(UserError, match="other weights of dynamics, tokenizer"):
        check_measured(card_metrics(RESULTS, {}), world.info.parts, "world.json")
    world.info = replace(world.info, metrics=card_metrics(RESULTS, weights_of(world.info.parts)))
    rewrite_card(folder, world.info)
    text = json.loads((folder / "world.json").read_text())
    text["metrics"]["weights"]["dynamics"] = "0" * 64
    (folder / "world.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match="measured on other weights of dynamics than are here"):
        World.load(folder)
    with torch.no_grad():
        next(world.model.dynamics.parameters()).add_(1)
    world.save(folder)
    assert World.load(folder).info.metrics is None


def test_a_packed_world_has_half_the_weights_and_its_own_decoding(folder: Path) -> None:
    copy = folder.parent.parent / "copy"
    words = [
        "--name",
        "Shared",
        "--passes",
        "4",
        "--temperature",
        "0.5",
        "--known-limitations",
        "It fades.",
        "It forgets.",
    ]
    assert main(["pack", str(folder.parent), "--out", str(copy), *words]) == 0
    whole, packed = World.load(folder), World.load(copy)
    assert (packed.info.name, packed.info.sampler.steps, packed.info.sampler.temperature) == ("Shared", 4, 0.5)
    assert packed.info.known_limitations == ("It fades.", "It forgets.") and packed.info.metrics is None
    size, before = ((path / "dynamics.safetensors").stat().st_size for path in (copy, folder))
    assert size < 0.6 * before
    for (name, mine), theirs in zip(
        packed.model.dynamics.state_dict().items(), whole.model.dynamics.state_dict().values(), strict=True
    ):
        wanted = theirs.bfloat16().float() if theirs.is_floating_point() else theirs
        assert mine.dtype == theirs.dtype and torch.equal(mine, wanted), name


def test_a_copy_onto_itself_is_refused(folder: Path, capsys: pytest.CaptureFixture) -> None:
    before = (folder / "dynamics.safetensors").read_bytes()
    for words in ([str(folder)], [str(folder.parent)]):
        assert main(["pack", *words, "--out", str(folder)]) == 2
        assert "is the world itself" in capsys.readouterr().err
    assert (folder / "dynamics.safetensors").read_bytes() == before


def test_worlds_are_found_by_folder_run_and_name(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert world_folder(folder) == world_folder(folder.parent) == folder
    monkeypatch.setattr(finding, "SHIPPED", ("toy",))
    monkeypatch.setattr(finding.resources, "files", lambda _: tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"'toy' is missing from this installation .*: reinstall reelworld"):
        world_folder("toy")
    world = toy_world()
    world.initial_contexts = start_clips(1)
    world.save(tmp_path / "shipped" / "toy")
    assert world_folder("toy") == tmp_path / "shipped" / "toy"
    (tmp_path / "toy").mkdir()  # what is on disk comes first
    with pytest.raises(UserError, match=r"toy is not a world: .* or a shipped world: toy"):
        world_folder("toy")
