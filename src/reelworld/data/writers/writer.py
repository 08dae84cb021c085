"""Interface of a format's writer: a data set in, one episode at a time, files out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reelworld.data.episodes import DataInfo, Episode
from reelworld.types import Clip


@dataclass(frozen=True, kw_only=True)
class Job:
    """Data set to write."""

    out: Path
    """Folder; it exists."""
    info: DataInfo
    episodes: Sequence[Episode]
    """In the order in which they are written."""


class Writer(Protocol):
    """Writer of one format. Finished episodes survive a crash, if ``has_episode`` finds them again."""

    def check(self, job: Job) -> list[str]:
        """Refuse what the format cannot hold, with a UserError, before anything is written; return notes."""
        ...

    def begin(self, job: Job) -> None:
        """Prepare the folder; called again for an interrupted conversion."""
        ...

    def has_episode(self, job: Job, number: int) -> bool:
        """Return True for an episode that is written already."""
        ...

    def write(self, job: Job, number: int, clip: Clip) -> None:
        """Write one whole episode, atomically."""
        ...

    def finish(self, job: Job) -> None:
        """Write what belongs to all episodes; the data set is complete afterwards."""
        ...
