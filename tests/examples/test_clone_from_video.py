"""The example runs from start to end, and its results are measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from reelworld.data.dataset import Dataset
from reelworld.envs.recorder import recorded_simulator

pytest.importorskip("minigrid", reason="the package minigrid is not installed")

SCRIPT = Path(__file__).parents[2] / "examples" / "clone_from_video.py"
WORDS = ["--env-id", "MiniGrid-DoorKey-5x5-v0", "--episodes", "14", "--labels", "20", "40", "--seeds", "1"]
WORDS += ["--games", "4", "--latent-steps", "4", "--steps", "20"]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clone_from_video", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["clone_from_video"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def work(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example has run at toy size."""
    folder = tmp_path_factory.mktemp("clone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *WORDS, "--work", str(folder), "--out", str(folder / "result.json")])
        assert example.main() == 0
    return folder


def test_everyone_plays_and_the_result_says_how_well(work: Path) -> None:
    result = json.loads((work / "result.json").read_text())
    rows = {(row["who"], row["labels"]): row for row in result["results"]}
    n_steps = max(n for _, n in rows)
    assert set(rows) == {(w, n) for w in ("video", "labels") for n in (20, 40)} | {
        ("labels", n_steps), ("random", 0), ("solver", 0)
    }  # fmt: skip
    assert n_steps > 40 and rows["solver", 0]["return"] > max(0.5, rows["random", 0]["return"])
    assert all(row["low"] <= row["return"] <= row["high"] for row in rows.values())
    assert [gain["labels"] for gain in result["gains"]] == [20, 40]
    assert result["command"].endswith("result.json") and result["hardware"] and result["seed"] == [0]


def test_gain_is_what_watching_adds(example: ModuleType, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(seed: int, *_: object) -> Iterator[tuple[str, int, np.ndarray]]:
        yield "video", 5, np.array([1.0, 0.5, 1.0, 0.5 + seed])
        yield "labels", 5, np.array([0.5, 0.5, 0.0, 0.0])

    monkeypatch.setattr(example, "learn", learn)
    options = example.Options(env_id="MiniGrid-DoorKey-5x5-v0", episodes=14, labels=(5,), seeds=2, games=4, work=work)
    result = example.run(options)
    assert result["results"][0]["by_seed"] == [0.75, 1.0] and result["results"][1]["solved"] == 0.5
    gain = result["gains"][0]
    assert gain["return"] == 0.625 and gain["by_seed"] == [0.5, 0.75]
    assert 0 <= gain["low"] < 0.625 < gain["high"] <= 1


def test_games_begin_like_no_recording(example: ModuleType, work: Path) -> None:
    dataset = Dataset.open(work / "recording")
    first = [dataset.read(i, 0, 1).frames[0] for i in range(len(dataset.episodes))]
    games = example.fresh_games(dataset, example.Options(games=20, first_game=0))  # recorded from seed 0 on
    simulator = recorded_simulator(dataset.info)
    assert len(games) == 20 and not set(games) & set(range(14))
    assert not any((simulator.reset(seed) == frame).all() for seed in games for frame in first)


def test_only_steps_that_change_the_picture_are_learned(example: ModuleType, work: Path) -> None:
    dataset = Dataset.open(work / "recording")
    steps = example.changing_steps(dataset, "train")
    every = sum(dataset.episodes[i].n_frames - 1 for i in dataset.indices("train"))
    assert 0 < len(steps) < every
    assert all((a := steps[i]["frames"])[0].tobytes() != a[1].tobytes() for i in range(len(steps)))


def test_policy_learns_its_labels_and_plays_what_they_mean(example: ModuleType, work: Path) -> None:
    dataset = Dataset.open(work / "recording")
    steps = example.changing_steps(dataset, "train")
    some = example.at(steps.index[:16], dataset)
    policy = example.learn_policy(some, some, 0, example.Options(steps=60))
    frames = torch.from_numpy(np.stack([some[i]["frames"][0] for i in range(16)])).float() / 127.5 - 1
    right = policy(frames).argmax(1).numpy() == example.actions_of(some)
    assert right.mean() > 0.7  # equal pictures may have different labels
    nothing = np.full(7, 6)  # whatever it wants, "done" is what is played
    assert not example.play(policy, nothing, dataset, [1, 2]).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--games", "1"], "games is 1; it must be at least 2"),
        (["--labels", "0"], "labels is (0,); it must be one or more numbers of at least 1"),
        (["--episode", "3"], "--episodes"),
        (["--env-id", "MiniGrid-DoorKey-9x9"], "unknown environment"),
    ],
)
def test_mistakes_are_one_line(
    example: ModuleType, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["clone_from_video.py", *words, "--work", str(tmp_path / "work")])
    assert example.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
