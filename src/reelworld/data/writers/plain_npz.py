"""Plain .npz files, one per episode, in folders of their splits: for scripts that know numpy only.

``observations`` has one row more than ``actions``, ``rewards``, ``terminated`` and ``truncated``, as in gymnasium: row
t leads from observation t to t + 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reelworld.data.writers.writer import Job
from reelworld.files import write_npz
from reelworld.types import Clip

NOTE = "plain .npz files keep no frame rate, and of actions no names, bounds and keys"


class NpzWriter:
    """Writes ``SPLIT/NUMBER.npz``."""

    def check(self, job: Job) -> list[str]:
        """Everything can be written, but not the description of the actions."""
        return [NOTE]

    def begin(self, job: Job) -> None:
        """Create the folders of the splits."""
        for split in sorted({e.split for e in job.episodes}):
            (job.out / split).mkdir(exist_ok=True)

    def has_episode(self, job: Job, number: int) -> bool:
        """Return True for a file that is there."""
        return _path(job, number).is_file()

    def write(self, job: Job, number: int, clip: Clip) -> None:
        """Write one file."""
        arrays: dict[str, np.ndarray] = {"observations": clip.frames}
        for stream, rows in clip.actions.items():
            key = "actions" if list(clip.actions) == ["action"] else f"actions/{stream}"
            arrays[key] = rows[:-1].astype(bool) if job.info.actions[stream].kind == "buttons" else rows[:-1]
        steps = {"rewards": clip.rewards, "terminated": clip.terminated, "truncated": clip.truncated}
        arrays |= {name: rows[:-1] for name, rows in steps.items() if rows is not None}
        write_npz(_path(job, number), arrays)

    def finish(self, job: Job) -> None:
        """Do nothing: there is no list."""


def _path(job: Job, number: int) -> Path:
    return job.out / job.episodes[number].split / f"{number:06d}.npz"
