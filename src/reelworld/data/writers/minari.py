"""Minari data sets: ``data/main_data.hdf5`` and ``data/metadata.json``, pictures as plain arrays.

``minari.load_dataset`` reads them, with ``MINARI_DATASETS_PATH`` set to the folder that holds this one. An interrupted
conversion starts again: all episodes are in one file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np

from reelworld.data.writers.writer import Job
from reelworld.files import fsync
from reelworld.types import ActionSpec, Clip, UserError

VERSION = "0.5.3"
"""Version of Minari whose layout this is."""
PARTIAL = "data.tmp"
BLOCK_FRAMES = 256
"""Frames that are copied at a time."""


class MinariWriter:
    """Writes one HDF5 file of all episodes."""

    def check(self, job: Job) -> list[str]:
        """Refuse data without actions; name what the format does not keep."""
        if not job.info.actions:
            raise UserError("Minari data sets need actions; these recordings have none. Write --to npz instead.")
        notes = ["Minari data sets keep no splits and no frame rate, and of actions no names and keys"]
        if not all(e.arrays and "rewards" in e.arrays.store.shapes for e in job.episodes):
            notes.append("there are no rewards: Minari's are zeros")
        return notes

    def begin(self, job: Job) -> None:
        """Remove what an interrupted conversion left."""
        shutil.rmtree(job.out / PARTIAL, ignore_errors=True)
        if not (job.out / "data").is_dir():
            (job.out / PARTIAL).mkdir()

    def has_episode(self, job: Job, number: int) -> bool:
        """Return True when the data set is complete."""
        return (job.out / "data").is_dir()

    def write(self, job: Job, number: int, clip: Clip) -> None:
        """Append one episode."""
        n = len(clip.frames) - 1
        zeros = np.zeros(n, bool)
        truncated = zeros if clip.truncated is None else clip.truncated[:-1]
        terminated = zeros if clip.terminated is None else clip.terminated[:-1]
        if n and not terminated.any() and not truncated.any():
            truncated = np.arange(n) == n - 1  # an episode of Minari ends somehow
        with h5py.File(job.out / PARTIAL / "main_data.hdf5", "a", track_order=True) as file:
            group = file.create_group(f"episode_{number}")
            group.attrs["id"], group.attrs["total_steps"] = number, n
            shape = clip.frames.shape
            pictures = group.create_dataset("observations", shape, clip.frames.dtype, chunks=(1, *shape[1:]))
            for first in range(0, len(clip.frames), BLOCK_FRAMES):
                pictures[first : first + BLOCK_FRAMES] = clip.frames[first : first + BLOCK_FRAMES]
            for stream, rows in clip.actions.items():
                key = "actions" if list(clip.actions) == ["action"] else f"actions/{stream}"
                is_binary = job.info.actions[stream].kind == "buttons"
                group[key] = rows[:-1].astype(np.int8) if is_binary else rows[:-1]
            group["rewards"] = np.zeros(n) if clip.rewards is None else clip.rewards[:-1].astype(np.float64)
            group["terminations"], group["truncations"] = terminated, truncated

    def finish(self, job: Job) -> None:
        """Write the metadata and put the folder in its place."""
        if (job.out / "data").is_dir():
            return
        folder = job.out / PARTIAL
        streams = {name: _space(spec) for name, spec in job.info.actions.items()}
        action_space = streams["action"] if list(streams) == ["action"] else {"type": "Dict", "subspaces": streams}
        shape = [job.info.height, job.info.width, 3]
        image = _box("uint8", np.zeros(shape), np.full(shape, 255))
        values = {
            "total_episodes": len(job.episodes),
            "total_steps": sum(e.n_frames - 1 for e in job.episodes),
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "observation_space": json.dumps(image),
            "action_space": json.dumps(action_space),
            "dataset_id": job.out.resolve().name,
            "dataset_size": round(_megabytes(folder), 1),
            "minari_version": VERSION,
        }
        (folder / "metadata.json").write_text(json.dumps(values))
        for path in (*folder.iterdir(), folder):
            fsync(path)
        folder.rename(job.out / "data")


def _megabytes(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.iterdir()) / 1e6


def _space(spec: ActionSpec) -> dict[str, object]:
    """Describe actions as Minari serializes gymnasium's spaces."""
    if spec.kind == "discrete":
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": spec.n}
    if spec.kind == "buttons":
        return {"type": "MultiBinary", "n": spec.n}
    low = np.array(spec.low or [-np.inf] * spec.n)
    return _box("float32", low, np.array(spec.high or [np.inf] * spec.n))


def _box(dtype: str, low: np.ndarray, high: np.ndarray) -> dict[str, object]:
    return {"type": "Box", "dtype": dtype, "shape": list(low.shape), "low": low.tolist(), "high": high.tolist()}
