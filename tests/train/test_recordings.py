"""Manifests tell recordings apart whose frames stay in HDF5 files, and do not depend on their place."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from reelworld.data.dataset import Dataset
from reelworld.train.recordings import Manifest, describe


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELWORLD_CACHE", str(tmp_path / "cache"))


def write(folder: Path, frame: tuple[int, ...] = (), action: int = -1) -> Manifest:
    """Write four videos of six frames; change one value of a frame or one action. Return their manifest."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (24, 8, 8, 3), np.uint8)
    actions = rng.integers(0, 3, 24)
    actions[:2] = 0, 3
    if frame:
        frames[frame] += 1
    if action >= 0:
        actions[action] = 3 - actions[action]
    folder.mkdir()
    with h5py.File(folder / "videos.hdf5", "w") as file:
        file["train_data"], file["train_idx"], file["train_actions"] = frames, np.arange(0, 24, 6), actions
    (manifest,) = describe(Dataset.open(folder))
    return manifest


def test_videos_of_an_hdf5_file_are_known_by_frames_and_steps(tmp_path: Path) -> None:
    first = write(tmp_path / "a")
    assert (len(first.episodes), first.n_frames) == (4, 24)
    moved = write(tmp_path / "b")
    assert (moved.content, moved.episodes, moved.splits) == (first.content, first.episodes, first.splits)
    for name, change in (("c", {"frame": (15, 0, 0, 0)}), ("d", {"action": 15})):
        other = write(tmp_path / name, **change)  # type: ignore[arg-type]
        assert other.content != first.content
        assert [s for s in first.episodes if other.episodes[s] != first.episodes[s]] == [list(first.episodes)[2]]


def test_the_same_clips_under_other_names_are_other_content(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (6, 9, 8, 8, 3), np.uint8)
    contents = set()
    for name, order in (("one", range(6)), ("two", range(6)), ("three", reversed(range(6)))):
        (tmp_path / name).mkdir()
        for i, j in enumerate(order):
            np.savez(tmp_path / name / f"{i}.npz", frames=frames[j], actions=np.arange(9) % 3)
        contents.add(describe(Dataset.open(tmp_path / name))[0].content)
    assert len(contents) == 2
