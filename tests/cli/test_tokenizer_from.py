"""`reelworld train --tokenizer-from`: the tokenizer of another run is used as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from reelworld.cli.main import main
from reelworld.worlds.world import World


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for i in range(10):
        frames = np.full((12, 16, 16, 3), 30, np.uint8)
        for t in range(12):
            frames[t, rng.integers(16), rng.integers(16)] = 255  # small and rare: a table is chosen
        np.savez(folder / f"{i}.npz", frames=frames, actions=rng.integers(0, 2, 12))
    return folder


def train(data: Path, out: Path, *flags: str) -> int:
    return main(["train", "pocket:tiny", "--data", str(data), "--out", str(out), "--device", "cpu", *flags])


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "run"
    assert train(data, out, "--tokenizer.table", "always") == 0
    return out


def stages(run: Path) -> set[str]:
    return {json.loads(line)["stage"] for line in (run / "log.jsonl").read_text().splitlines()}


def test_only_the_other_parts_are_trained(data: Path, first: Path, tmp_path: Path) -> None:
    run = tmp_path / "second"
    flags = ["--tokenizer-from", str(first), "--dynamics.width", "16"]
    assert train(data, run, *flags) == 0
    assert stages(run) == {"dynamics"} and stages(first) == {"tokenizer", "dynamics"}
    ours, theirs = World.load(run).parts["tokenizer"], World.load(first).parts["tokenizer"]
    assert ours.config == theirs.config and ours.config.uses_table
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[name]), name
    before = (run / "world" / "dynamics.safetensors").read_bytes()
    assert train(data, run, *flags) == 0  # finished; another tokenizer would be another run
    assert (run / "world" / "dynamics.safetensors").read_bytes() == before


def test_a_stopped_run_goes_on_with_it(data: Path, first: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = ["--tokenizer-from", str(first / "world"), "--precision", "fp32"]
    assert train(data, whole, *flags, "--dynamics.steps", "8") == 0
    assert train(data, parts, *flags, "--dynamics.steps", "4") == 0
    assert train(data, parts, *flags, "--dynamics.steps", "8") == 0
    a, b = (World.load(run).parts["tokenizer"].state_dict() for run in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tokenizer.width", "16"], "has another config than the one given"),
        (["--tokenizer.levels", "5", "8", "5", "5"], "has other codes"),
        (["--size", "24", "--fit", "stretch"], "this tokenizer reads 16x16"),
    ],
)
def test_tokenizers_that_do_not_fit_are_one_line(
    data: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    run = tmp_path / "run"
    assert train(data, run, "--tokenizer-from", str(first), *flags) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and words in error[0]
    assert not run.exists()


def test_a_run_that_is_absent_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(data, tmp_path / "run", "--tokenizer-from", str(tmp_path / "nowhere")) == 2
    assert "nowhere" in capsys.readouterr().err
