"""Episodes: facts about one recording, and its arrays, read lazily by window.

Shapes: T frames, k frame stride
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from reelworld.data.array_store import ArrayStore, FilePool, Rows
from reelworld.types import ActionSpec, UserError

V = TypeVar("V")

FORMAT_VERSION = 1
ALIGNMENT = "row t of actions and rewards leads from frame t to frame t+1; the last row is padding"
STEP_KEYS = {"rewards": np.float32, "terminated": np.bool_, "truncated": np.bool_}
"""Arrays with a row per frame besides frames and actions -> their dtype."""

Arrays = dict[str, np.ndarray]
"""Array name -> a copy: "frames" or "codes", "actions/<stream>", and those of ``STEP_KEYS`` that are recorded."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recording, or a part of one."""

    source: str
    """Stable id; decides the split. Recorders use the file name without its ending."""
    n_frames: int
    """Frames, one more than the steps taken."""
    split: str
    """"train", "val" or "test"; while files are read, the split that the file names, or "" for none."""
    file: str
    """File the episode was read from, relative to the folder."""
    first: int = 0
    """First frame of the episode inside the file."""
    class_id: int = -1
    """Number of its class in ``DataInfo.classes``; -1 when the data have no classes."""
    task: str = ""
    """Words that the recording gives to the episode, e.g. an instruction to a robot; "" for none."""
    arrays: StoredArrays | None = field(default=None, repr=False, compare=False)
    """Its arrays, read lazily; None for an episode that is only listed. Not written to JSON."""


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """Facts common to all episodes of a data set."""

    format_version: int = FORMAT_VERSION
    fps: float = 0.0
    """Frames per second; 0 when unknown."""
    height: int
    width: int
    actions: Mapping[str, ActionSpec] = field(default_factory=dict)
    """Stream name -> its actions; empty for video alone."""
    alignment: str = ALIGNMENT
    """Meaning of a row of actions, after reading."""
    classes: tuple[str, ...] = ()
    """Names of the classes that episodes belong to, sorted when we made the list; empty when there are none."""
    split_seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Origin of the data: environment, arguments, wrappers, policy, or how files were read."""


def action_keys(names: Sequence[str]) -> dict[str, str]:
    """Map array names of an episode file to stream names: "actions" is the stream "action"."""
    streams = {n: n.removeprefix("actions/") for n in names if n.startswith("actions/")}
    return streams or {n: "action" for n in names if n == "actions"}


def streams_of(arrays: Mapping[str, V]) -> dict[str, V]:
    """Return the action streams among arrays or tensors, by their own names."""
    return {k.removeprefix("actions/"): v for k, v in arrays.items() if k.startswith("actions/")}


def group_rows(rows: np.ndarray, n_frames: int, stride: int) -> np.ndarray:
    """Group the ``stride`` rows between two kept frames.

    Args:
        rows: (up to n_frames * stride, ...); missing rows at the end are filled with zeros, they are padding.
        n_frames: Frames that are kept.
        stride: Frames from one kept frame to the next.

    Returns:
        (n_frames, ...) for stride 1, else (n_frames, stride, ...).
    """
    missing = n_frames * stride - len(rows)
    if missing > 0:
        rows = np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
    return np.array(rows) if stride == 1 else rows.reshape(n_frames, stride, *rows.shape[1:])


@dataclass(frozen=True)
class StoredArrays:
    """Arrays of an episode: a range of rows of one file, or every k-th of them."""

    store: ArrayStore
    first: int
    """First row of the episode in the file."""
    n_rows: int
    main: str = "frames"
    """Array with one row per frame: "frames" or "codes"."""
    every: int = 1
    """Rows from one frame of the episode to the next."""
    sample: tuple[int, ...] = field(default=(), repr=False, compare=False)
    """Checksums of a few frames (``splits.sample_of``) where they are known; empty elsewhere."""

    def read(self, start: int, stop: int, stride: int = 1) -> Arrays:
        """Copy a window; see ``Dataset.arrays``."""
        first, last, step = start * self.every, (stop - 1) * self.every, stride * self.every
        if not 0 <= first <= last < self.n_rows or stride < 1:
            raise UserError(
                f"frames {start} to {stop} (stride {stride}) of {self.store.name} were asked for; it has "
                f"{-(-self.n_rows // self.every)} frames."
            )
        frames = np.array(self.store.view(self.main)[self.first + first : self.first + last + 1 : step])
        return {self.main: frames, **self._steps(first, len(frames), step)}

    def steps(self) -> Arrays:
        """Copy the rows of the whole episode, without its frames."""
        return self._steps(0, -(-self.n_rows // self.every), self.every)

    def frames_as_stored(self, pool: FilePool) -> FrameRange:
        """Return the frames as the file has them."""
        store = self.store.as_stored(pool)
        return FrameRange(store.view(self.main), self.first, (self.n_rows, *store.shapes[self.main][1:]))

    def _steps(self, first: int, n_frames: int, stride: int) -> Arrays:
        """Copy the rows that belong to frames, ``stride`` rows to each."""
        rows = slice(self.first + first, self.first + min(first + n_frames * stride, self.n_rows))
        names = list(self.store.shapes)
        keys = {f"actions/{stream}": name for name, stream in action_keys(names).items()}
        keys |= {name: name for name in STEP_KEYS if name in names}
        arrays = {key: group_rows(self.store.view(name)[rows], n_frames, stride) for key, name in keys.items()}
        if stride > 1:
            for key in STEP_KEYS.keys() & arrays:
                grouped = arrays[key]
                is_sum = key == "rewards"
                arrays[key] = np.add.reduce(grouped, axis=1, dtype=grouped.dtype) if is_sum else grouped.max(axis=1)
        return arrays


def stored_arrays(episode: Episode) -> StoredArrays:
    """Return the arrays of an episode that was read from a file."""
    assert episode.arrays is not None, f"{episode.source} is only listed"
    return episode.arrays


class FrameRange:
    """Frames of one episode as its file has them, read when they are indexed."""

    def __init__(self, frames: Rows, first: int, shape: tuple[int, ...]) -> None:
        self._frames, self._first, self.shape = frames, first, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """Copy a frame, uint8 (H, W, 3), or a range of them."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return np.asarray(self._frames[self._first + start : self._first + stop])
        t = self._first + index % len(self)
        out: np.ndarray = np.asarray(self._frames[t : t + 1])[0]
        return out
