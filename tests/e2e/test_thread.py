"""The whole thread by command line, at toy size: record, inspect, train, eval, generate, bench; then again.

Each command runs as a person's would: its own process, in a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reelworld import Dataset, World
from reelworld.cli.main import main


class Shell:
    """Runs command lines in one folder and keeps what they said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, line: str) -> str:
        command = [sys.executable, "-m", "reelworld", *line.split()]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"reelworld {line}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def hashes(self, pattern: str) -> dict[str, str]:
        """Return the hash of every file that matches."""
        found = sorted(p for p in self.folder.glob(pattern) if p.is_file())
        return {str(p.relative_to(self.folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


RECORD = "record MiniGrid-DoorKey-8x8-v0 --out data --episodes 16 --max-steps 40 --seed 7 --processes 1"
TRAIN = "train pocket:tiny --data data --out run --dynamics.steps 30 --tokenizer.steps 30 --max-minutes 0.3"
EVAL = (
    "eval run/world --data data --split all --allow-train --clips 2 --single-steps 20 --free-run-steps 5 --key-tests 2"
    " --control-starts 4 --inverse-steps 0 --stability-steps 50 --stability-runs 1 --simulator-episodes 1"
)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A folder in which the recording was made and the world trained."""
    shell = Shell(tmp_path_factory.mktemp("thread"))
    shell(RECORD)
    said = shell(TRAIN)
    assert "parameters" in said
    assert "reelworld play" in said
    yield shell


def test_recording_again_adds_nothing(shell: Shell) -> None:
    before = shell.hashes("data/*")
    assert len(before) == 17
    assert "0 episodes are new" in shell(RECORD)
    assert shell.hashes("data/*") == before


def test_inspecting(shell: Shell) -> None:
    said = shell("inspect data --out look")
    assert "16" in said
    assert "64x64" in said.replace(" ", "")
    assert shell.hashes("look/*.png")


def test_training_left_a_world(shell: Shell) -> None:
    world = World.load(shell.folder / "run")
    assert (world.spec.height, world.spec.width) == (64, 64)
    assert world.info.actions["action"].n == 7
    assert world.session(2, seed=0).step([2, 0]).frame.shape == (2, 64, 64, 3)
    lines = [json.loads(line) for line in (shell.folder / "run" / "log.jsonl").read_text().splitlines()]
    assert any("loss" in line for line in lines)


def test_training_again_reuses_the_run(shell: Shell) -> None:
    before = shell.hashes("run/**/*")
    assert "finished" in shell(TRAIN)
    assert shell.hashes("run/**/*") == before


def test_evaluating(shell: Shell) -> None:
    shell(EVAL)
    results = json.loads((shell.folder / "run" / "eval" / "results.json").read_text())
    assert results["data"]["split"] == "all"
    assert results["data"]["n_trained_on"] > 0
    page = (shell.folder / "run" / "eval" / "report.html").read_text()
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("suffix", "source"),
    [
        pytest.param("mp4", "--actions random", marks=pytest.mark.slow),
        pytest.param("gif", "--actions 2,2,0", marks=pytest.mark.slow),
        ("npz", "--data data --split all"),
    ],
)
def test_generating(shell: Shell, suffix: str, source: str) -> None:
    shell(f"generate run/world --out film.{suffix} --frames 4 --seed 1 {source}")
    assert (shell.folder / f"film.{suffix}").stat().st_size > 100


def test_generated_context_is_the_recorded_one(shell: Shell) -> None:
    shell("generate run/world --data data --split all --episode 2 --start 3 --out context.npz --frames 4")
    context = World.load(shell.folder / "run").spec.context[1]
    with np.load(shell.folder / "context.npz") as made:
        recorded = Dataset.open(shell.folder / "data").read(2, 3, 3 + context)
        assert made["frames"].shape == (context + 4, 64, 64, 3)
        assert np.array_equal(made["frames"][:context], recorded.frames)


@pytest.mark.slow
def test_measuring_speed(shell: Shell) -> None:
    said = shell("bench run/world --allow-busy --steps 5 --warmup 1 --threads 1 --out bench.json")
    assert "p95" in said
    assert json.loads((shell.folder / "bench.json").read_text())


@pytest.mark.slow
def test_a_seed_decides_every_byte_of_the_weights(shell: Shell, tmp_path: Path) -> None:
    """Steps, not minutes, end this training."""
    line = f"train pocket:tiny --data {shell.folder / 'data'} --dynamics.steps 4 --tokenizer.steps 4 --precision fp32"
    weights = []
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        assert main([*line.split(), "--out", str(tmp_path / name), "--seed", str(seed)]) == 0
        parts = sorted((tmp_path / name / "world").glob("*.safetensors"))
        weights.append([p.read_bytes() for p in parts])
    assert len(weights[0]) == 2
    assert weights[0] == weights[1] != weights[2]
