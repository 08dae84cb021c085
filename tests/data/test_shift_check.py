"""The check of alignment names recordings whose actions stand one row too early or too late, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset
from reelworld.data.shift_check import check_shift

MOVES = np.array([(0, 0), (0, 3), (3, 0), (0, -3), (-3, 0)])
N_FRAMES = 90


def write(folder: Path, shift: int, kind: str = "ids", n_episodes: int = 8) -> Path:
    """Write episodes of a square that actions move; row t + shift holds the action after frame t."""
    folder.mkdir(parents=True)
    for i in range(n_episodes):
        rng = np.random.default_rng(i)
        ids = rng.integers(0, len(MOVES), N_FRAMES)
        place, frames = np.array([30, 30]), []
        for t in range(N_FRAMES):
            frame = np.full((64, 64, 3), 40, np.uint8)
            frame[place[0] : place[0] + 8, place[1] : place[1] + 8] = (220, 60, 40)
            frames.append(frame)
            place = (place + MOVES[ids[t]]) % 56
        rows = ids if kind == "ids" else MOVES[ids].astype(np.float32)
        np.savez(folder / f"{i}.npz", frames=np.stack(frames), actions=np.roll(rows, shift, 0))
    return folder


@pytest.mark.parametrize("kind", ["ids", "vectors"])
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_the_shift_is_found(tmp_path: Path, shift: int, kind: str) -> None:
    (found,) = check_shift(Dataset.open(write(tmp_path / "data", shift, kind))).values()
    assert found.better == shift
    assert max(found.gains, key=lambda k: found.gains[k]) == shift


def test_actions_that_change_nothing_are_no_reason_to_warn(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", 0)
    for i, path in enumerate(sorted(folder.glob("*.npz"))):
        with np.load(path) as arrays:
            frames = arrays["frames"]
        np.savez(path, frames=frames, actions=np.random.default_rng(100 + i).integers(0, 5, N_FRAMES))
    (found,) = check_shift(Dataset.open(folder)).values()
    assert found.better == 0 and max(found.gains.values()) < 0.01


def test_still_and_short_recordings_are_not_judged(tmp_path: Path) -> None:
    assert check_shift(Dataset.open(write(tmp_path / "short", 1, n_episodes=2))) == {}
    folder = write(tmp_path / "still", 0)
    for path in folder.glob("*.npz"):
        np.savez(path, frames=np.full((N_FRAMES, 64, 64, 3), int(path.stem), np.uint8), actions=np.arange(N_FRAMES) % 5)
    assert check_shift(Dataset.open(folder)) == {}


def test_inspect_warns_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shift in (1, 0):
        folder = write(tmp_path / f"data{shift}", shift)
        assert main(["inspect", str(folder), "--out", str(tmp_path / "look")]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert ("may stand one row too late" in shown) == bool(shift)
        assert (tmp_path / "look" / "action-strip.png").is_file()
