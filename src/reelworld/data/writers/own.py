"""Our own layout: ``dataset.json`` and one uncompressed .npz per episode."""

from __future__ import annotations

from dataclasses import replace

from reelworld.data.formats.episode_folder import write_episode, write_info
from reelworld.data.writers.writer import Job
from reelworld.types import Clip


class OwnWriter:
    """Writes folders that `record` could have made."""

    def check(self, job: Job) -> list[str]:
        """Everything can be written."""
        return []

    def begin(self, job: Job) -> None:
        """List all episodes: readers of an interrupted conversion name those that are missing."""
        listed = [replace(e, file=_name(i), first=0) for i, e in enumerate(job.episodes)]
        write_info(job.out, job.info, listed)

    def has_episode(self, job: Job, number: int) -> bool:
        """Return True for a file that is there."""
        return (job.out / _name(number)).is_file()

    def write(self, job: Job, number: int, clip: Clip) -> None:
        """Write one file."""
        write_episode(job.out / _name(number), clip)

    def finish(self, job: Job) -> None:
        """Do nothing: the list is written already."""


def _name(number: int) -> str:
    return f"{number:06d}.npz"
