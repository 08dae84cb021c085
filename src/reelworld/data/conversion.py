"""Convert any recordings that can be read into one of the formats that can be written.

An interrupted conversion keeps its finished episodes; the same conversion goes on. ``conversion.json`` in the folder
says what was converted, how it was read, and what the readers noted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reelworld.config import read_json, to_json, unknown
from reelworld.data.array_store import NpzStore
from reelworld.data.dataset import Dataset, to_clip
from reelworld.data.episodes import Episode, stored_arrays
from reelworld.data.resize_options import ReadOptions
from reelworld.data.splits import SPLITS
from reelworld.data.writers.lerobot import LeRobotWriter
from reelworld.data.writers.minari import MinariWriter
from reelworld.data.writers.own import OwnWriter
from reelworld.data.writers.plain_npz import NpzWriter
from reelworld.data.writers.writer import Job, Writer
from reelworld.files import LOCK_FILE, FolderLock, write_json
from reelworld.types import Clip, UserError

WRITERS: Mapping[str, Writer] = {
    "reelworld": OwnWriter(),
    "npz": NpzWriter(),
    "lerobot": LeRobotWriter(),
    "minari": MinariWriter(),
}
"""Name of a format -> its writer."""
PLAN_FILE = "conversion.json"


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Result of a conversion."""

    n_episodes: int
    n_frames: int
    n_new: int
    """Episodes that were written this time."""
    notes: tuple[str, ...]
    """Notes of the reader and the writer, one line each."""
    problems: tuple[str, ...]
    """Recordings that were skipped, one line each."""


def convert(
    source: Path,
    out: Path,
    to: str,
    options: ReadOptions,
    on_episode: Callable[[int, int], object] = lambda done, total: None,
) -> Converted:
    """Convert recordings.

    Args:
        source: Folder or file of recordings.
        out: Folder to write; created if it does not exist.
        to: Name of the format, of ``WRITERS``.
        options: How the recordings are read.
        on_episode: Called with the episodes done and their total.

    Raises:
        UserError: If the recordings cannot be read, the format cannot hold them, or the folder holds something else.
    """
    if to not in WRITERS:
        raise unknown("format", to, WRITERS)
    writer = WRITERS[to]
    _check_place(source, out)
    dataset = _rejoined(Dataset.open(source, options))
    order = sorted(range(len(dataset.episodes)), key=lambda i: SPLITS.index(dataset.episodes[i].split))
    provenance = {**dataset.info.provenance, "converted_from": source.name, "notes": list(dataset.notes)}
    job = Job(
        out=out,
        info=replace(dataset.info, fps=dataset.info.fps or options.fps, provenance=provenance),
        episodes=tuple(dataset.episodes[i] for i in order),
    )
    notes = (*dataset.notes, *writer.check(job))
    plan = to_json(
        {
            "format": to,
            "source": str(source.resolve()),
            "read": options,
            "episodes": [[e.source, e.n_frames, e.split] for e in job.episodes],
            "notes": notes,
            "skipped": dataset.problems,
        }
    )
    _check_plan(out, plan)
    out.mkdir(parents=True, exist_ok=True)
    n_new = 0
    with FolderLock(out, "converting into"):
        _check_plan(out, plan)  # again: another process may have begun in between
        write_json(out / PLAN_FILE, plan)
        writer.begin(job)
        for number, i in enumerate(order):
            if not writer.has_episode(job, number):
                writer.write(job, number, _whole(dataset, i))
                n_new += 1
            on_episode(number + 1, len(order))
        writer.finish(job)
    return Converted(
        n_episodes=len(order),
        n_frames=sum(e.n_frames for e in job.episodes),
        n_new=n_new,
        notes=notes,
        problems=dataset.problems,
    )


def _rejoined(dataset: Dataset) -> Dataset:
    """Undo the cutting of a few recordings into stretches, which is done again when the result is opened."""
    joined: list[Episode] = []
    for e in dataset.episodes:
        base, mark, _ = e.source.rpartition("#")
        before = joined[-1] if joined else None
        if mark and before is not None and before.source == base and before.first + before.n_frames == e.first:
            n_frames = before.n_frames + e.n_frames
            arrays = replace(stored_arrays(before), n_rows=n_frames)
            joined[-1] = replace(before, n_frames=n_frames, arrays=arrays)
        elif mark and any(note.startswith(f"{e.file} is cut into") for note in dataset.notes):
            joined.append(replace(e, source=base, split="train"))
        else:
            joined.append(e)
    if len({e.source for e in joined}) < len(joined):  # a stretch in between was dropped as a copy of another
        return dataset
    notes = tuple(note for note in dataset.notes if "stretches that are split like episodes" not in note)
    return replace(dataset, episodes=tuple(joined), notes=notes)


def _whole(dataset: Dataset, i: int) -> Clip:
    """Return an episode with its frames as a view of their file where they are stored plainly, else as a copy."""
    e = dataset.episodes[i]
    arrays = stored_arrays(e)
    if not isinstance(arrays.store, NpzStore):
        return dataset.read(i)
    frames = arrays.store.view(arrays.main)[arrays.first : arrays.first + arrays.n_rows]
    class_id = e.class_id if dataset.info.classes else None
    return to_clip({"frames": frames, **dataset.steps(i)}, dataset.info.fps, e.source, class_id)


def _check_place(source: Path, out: Path) -> None:
    """Refuse to write into the recordings themselves: the next reading would find the copies too."""
    here, there = source.resolve(), out.resolve()
    if here == there or here in there.parents:
        raise UserError(f"{out} is in the folder of the recordings, {source}; give --out another place.")


def _check_plan(out: Path, plan: Mapping[str, object]) -> None:
    """Refuse a folder that holds anything but the beginning of this very conversion."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; --out wants a folder.")
    if (out / PLAN_FILE).is_file():
        begun = read_json(out / PLAN_FILE)
        differ = [k for k in plan if not isinstance(begun, dict) or begun.get(k) != plan[k]]
        if differ:
            raise UserError(f"{out} holds another conversion (other {differ[0]}); give --out another folder.")
    elif any(p.name != LOCK_FILE for p in out.iterdir()):
        raise UserError(f"{out} is not empty and holds no conversion; give --out a new folder.")
