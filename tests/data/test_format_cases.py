"""The shared cases of formats: recordings that people have, made by a script of their own, against what is expected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.data.moving_square import positions

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(os.environ.get("REELWORLD_CASES", REPOSITORY.parent / "shared" / "data" / "cases")) / "recordings.py"
Steps = Callable[[Dataset, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Expected content of a case."""

    episodes: int
    frames: int
    actions: dict[str, tuple[str, int]]
    """Stream -> kind and number of ids, dimensions or buttons."""
    moves: Steps | None = None
    """(data set, episode) -> what each action does to the square: -1, 0 or 1; None where actions are noise."""
    is_bgr: bool = False
    """The script writes RGB where the format has BGR."""
    notes: tuple[str, ...] = ()


def ids(dataset: Dataset, i: int) -> np.ndarray:
    return dataset.read(i).action - 1


def first_number(dataset: Dataset, i: int) -> np.ndarray:
    return dataset.read(i).action[:, 0]


def counter_strike(dataset: Dataset, i: int) -> np.ndarray:
    """Actions 0, 1 and 2 are the keys w, s and a."""
    return dataset.read(i).actions["keys"][:, :3].argmax(axis=1) - 1


ID, XY, KEYS = ("discrete", 3), ("continuous", 2), ("buttons", 13)
CASES = {
    "npz_ogbench": Expected(
        episodes=16, frames=640, actions={"action": XY}, moves=first_number, notes=("cut at their marks", "1 val")
    ),
    "npz_dreamerv3": Expected(episodes=6, frames=240, actions={"action": ID}, moves=ids, notes=("DreamerV3",)),
    "pngs": Expected(episodes=4, frames=80, actions={"action": ID}, moves=ids),
    "robomimic_hdf5": Expected(episodes=6, frames=240, actions={"action": ("continuous", 7)}),
    "aloha_hdf5": Expected(episodes=4, frames=160, actions={"action": ("continuous", 14)}),
    "minari_hdf5": Expected(episodes=5, frames=200, actions={"action": ID}, moves=ids),
    "swm_hdf5": Expected(episodes=6, frames=240, actions={"action": XY}, moves=first_number),
    "csgo_hdf5": Expected(
        episodes=4,
        frames=160,
        actions={"keys": KEYS, "mouse": XY},
        moves=counter_strike,
        is_bgr=True,
        notes=("stored as BGR", "without a step of the mouse"),
    ),
    "json_sidecar": Expected(episodes=3, frames=120, actions={"action": ID}, moves=ids),
    "action_npy_dreamer4": Expected(episodes=3, frames=120, actions={"action": ID}, moves=ids),
    "uppercase": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids),
    "vpt_jsonl": Expected(episodes=3, frames=120, actions={"keys": ("buttons", 23), "mouse": XY}),
    # two recordings are cut into stretches, so that there is something to hold out
    "owl_events": Expected(episodes=6, frames=80, actions={"keys": ("buttons", 2)}, notes=("never released",)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not SCRIPT.is_file():
        pytest.skip(f"{SCRIPT} is absent: set REELWORLD_CASES to the folder of the cases")
    folder = tmp_path_factory.mktemp("cases")
    names = [*CASES, "lerobot_v21", "lerobot_v3"]
    subprocess.run([sys.executable, str(SCRIPT), str(folder), *names], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_cases_are_read(made: Path, name: str) -> None:
    expected, dataset = CASES[name], Dataset.open(made / name)
    assert len(dataset.episodes) == expected.episodes
    assert sum(e.n_frames for e in dataset.episodes) == expected.frames
    assert {stream: (s.kind, s.n) for stream, s in dataset.info.actions.items()} == expected.actions
    assert not dataset.problems
    for words in expected.notes:
        assert any(words in note for note in dataset.notes), words
    if expected.moves is None:
        return
    for i in dataset.indices("all"):
        frames = dataset.read(i).frames.copy()
        frames = frames[..., ::-1] if expected.is_bgr else frames
        frames[:, :9, :9] = 0  # the mark in the corner
        moved = np.diff(positions(frames)) / 3
        wall = np.abs(moved) < 0.95  # the square stops at the walls
        taken = expected.moves(dataset, i)[:-1]
        np.testing.assert_allclose(moved[~wall], taken[~wall], atol=0.25)
        assert (~wall).sum() > 5


@pytest.mark.parametrize("name", ["lerobot_v21", "lerobot_v3"])
def test_lerobot_with_broken_parquet_is_one_line(made: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    assert main(["inspect", str(made / name)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
