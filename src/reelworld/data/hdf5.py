"""HDF5 files in VideoGPT's layout: one file of many videos, read by window and never copied.

``train_data`` uint8 (N, H, W, 3) holds the frames of all videos one after the other, ``train_idx`` (n,) the first
frame of each; a video ends where the next one begins. ``test_data`` and ``test_idx`` are the test split, perhaps
``train_actions`` and ``test_actions`` (N, ...) are there too. Only the frames asked for are read, also of chunked
and compressed datasets. Frames are resized when they are read, not into the cache: a file of any length opens at
once and needs no second copy; one that is trained on for long is better stored at the size that is wanted.
Source: VideoGPT, data preparation. There, one window is drawn per video and never its last one, and a video of
exactly the window's length is an error; here every video is an episode and every window of it counts.

Shapes: N frames of all videos, n videos, H W pixel rows and columns
"""

from __future__ import annotations

import math
import os
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.data.npz import ArrayFiles, Member, Unreadable
from reelworld.data.resize import check_fit, fit_frames
from reelworld.data.resize_options import ReadOptions
from reelworld.types import Fit, UserError

if TYPE_CHECKING:
    import h5py

__all__ = [
    "DAMAGE",
    "ENDINGS",
    "MANY_FRAMES",
    "Arrays",
    "Frames",
    "Side",
    "Table",
    "align_rows",
    "open_file",
    "read_actions",
    "read_sides",
    "reason",
    "spans",
]

ENDINGS = (".hdf5", ".h5")
SIDES = ("train", "test")
MANY_FRAMES = 32
"""Chunks of more frames than this make reading a window slow; the reader says so."""
MAX_BLOCK_BYTES = 64_000_000
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)
"""What h5py raises for a damaged file."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The frames of all videos of one side of a file, at the size they are wanted in."""

    path: Path
    key: str
    """Name of the dataset in the file."""
    shape: tuple[int, ...]
    """(N, H, W, 3) in the file."""
    size: tuple[int, int] | None
    """Height and width to resize to; None keeps the file's."""
    fit: Fit
    steps: Path | None = None
    """The .npz with one row of actions per frame; None without actions."""

    @property
    def name(self) -> str:
        """Name of the file, for errors."""
        return self.path.name


@dataclass(frozen=True, kw_only=True)
class Side:
    """What a file holds under "train" or "test"."""

    name: str
    shape: tuple[int, ...]
    """(N, H, W, 3)."""
    starts: np.ndarray
    """First frame of each video, int64 (n,), rising."""
    has_actions: bool
    chunk_frames: int = 0
    """Frames that are stored, and must be read, together; 0 for any number."""

    def table(self, path: Path, options: ReadOptions, steps: Path | None) -> Table:
        """Say how the frames are to be read."""
        key = f"{self.name}_data"
        return Table(path=path, key=key, shape=self.shape, size=options.shape, fit=options.fit, steps=steps)

    def place(self, row: int) -> tuple[int, int]:
        """Return the video that a row belongs to, and its number in there; -1 before the first video."""
        video = int(np.searchsorted(self.starts, row, side="right")) - 1
        return video, row - int(self.starts[max(0, video)])

    @property
    def stops(self) -> np.ndarray:
        """One past the last frame of each video, int64 (n,)."""
        return np.append(self.starts[1:], self.shape[0])


class Frames:
    """Frames of a table, resized when they are read."""

    def __init__(self, rows: _Flat | _Blocks | h5py.Dataset, table: Table) -> None:
        self._rows, self._table = rows, table

    def __getitem__(self, span: slice) -> np.ndarray:
        """Copy frames, uint8 (T, H, W, 3)."""
        try:
            frames: np.ndarray = self._rows[span]
        except DAMAGE as error:
            raise UserError(
                f"{self._table.name} cannot be read at frames {span.start} to {span.stop} of {self._table.key} "
                f"({reason(error)}); it is damaged, replace it."
            ) from None
        return fit_frames(frames, self._table.size, self._table.fit, self._table.name)


class Arrays:
    """Arrays of episodes wherever they lie: in .npz files or in tables of HDF5 files.

    HDF5 files are opened by the process that reads them, also after a fork; some stay open.
    """

    def __init__(self, files: ArrayFiles, *, in_order: bool = False, max_open: int = 64) -> None:
        """Prepare.

        Args:
            files: Open .npz files.
            in_order: Whether episodes will be read one after the other: frames that had to be read together are kept.
            max_open: HDF5 tables that stay open.
        """
        self.files, self._in_order, self._max_open = files, in_order, max_open
        self._open: OrderedDict[tuple[int, Table], Frames] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_open": OrderedDict()}

    def members(self, place: Path | Table) -> Mapping[str, Member]:
        """Name -> place of every array of an .npz or a table; a table's frames are "frames"."""
        if isinstance(place, Path):
            return self.files.members(place)
        frames = Member(offset=0, shape=place.shape, dtype=np.dtype(np.uint8), is_fortran=False)
        return {"frames": frames, **(self.files.members(place.steps) if place.steps else {})}

    def view(self, place: Path | Table, name: str) -> np.ndarray | Frames:
        """Return one array to take slices of; copy what you keep."""
        if isinstance(place, Path):
            return self.files.view(place, name)
        if name != "frames":
            assert place.steps is not None
            return self.files.view(place.steps, name)
        key = (os.getpid(), place)  # a handle of the parent process must not be read by its children
        frames = self._open.get(key)
        if frames is None:
            frames = self._open[key] = Frames(_rows(place, self._in_order), place)
            if len(self._open) > self._max_open:
                self._open.popitem(last=False)
        return frames


def read_sides(path: Path, options: ReadOptions) -> list[Side]:
    """Find out what a file holds, without its frames.

    Raises:
        Unreadable: If it is truncated, corrupt or no HDF5 file, or holds something else than videos.
        UserError: If the videos in it are not laid out as they must be.
    """
    try:
        with open_file(path) as file:
            sides = [side for name in SIDES if (side := _read_side(file, name, path.name)) is not None]
            held = ", ".join(sorted(file)[:8])
    except UserError:
        raise
    except DAMAGE as error:
        raise Unreadable(f"{path.name} is truncated, corrupt or no HDF5 file ({reason(error)})") from None
    if not held:
        raise Unreadable(f"{path.name} is empty; wanted train_data and train_idx (VideoGPT's layout)")
    if not sides:
        raise Unreadable(
            f"{path.name} holds no video but {held}; wanted train_data uint8 (N, H, W, 3) and train_idx (n,), or the "
            "same with test_ (VideoGPT's layout), or env and policy (RoboNet's)"
        )
    has, lacks = ([s.name for s in sides if s.has_actions is wanted] for wanted in (True, False))
    if has and lacks:
        raise UserError(f"{path.name} has {has[0]}_actions but no {lacks[0]}_actions; wanted both or none.")
    for side in sides:
        if options.shape is not None:
            check_fit(side.shape[1:3], options.shape, options.fit, path.name)
    return sides


def read_actions(path: Path, side: Side) -> np.ndarray:
    """Read the actions of a side as they are, (N,) or (N, A)."""
    try:
        with open_file(path) as file:
            return np.asarray(file[f"{side.name}_actions"][:])
    except DAMAGE as error:
        raise Unreadable(f"{path.name} is corrupt: {side.name}_actions cannot be read ({reason(error)})") from None


def align_rows(side: Side, rows: np.ndarray, shift: int) -> np.ndarray:
    """Move the rows of all videos to "row t leads from frame t to t+1".

    Args:
        side: The videos.
        rows: (N, ...).
        shift: Row t + shift belongs to the step from frame t to frame t + 1.

    Returns:
        (N, ...), zeros where the video has no such row.
    """
    numbers = np.arange(len(rows))
    video = np.searchsorted(side.starts, numbers, side="right")
    wanted = np.clip(numbers + shift, 0, len(rows) - 1)
    is_known = (numbers + shift == wanted) & (video[wanted] == video)
    return np.where(is_known.reshape(-1, *[1] * (rows.ndim - 1)), rows[wanted], np.zeros((), rows.dtype))


def spans(side: Side, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the frames of each video whose steps are known; all of them for shift 0 and 1.

    Returns:
        First frame and number of frames of each video, int64 (n,); the number is 0 or less when none remains.
    """
    firsts = side.starts + max(0, -shift)
    return firsts, side.stops - max(0, shift - 1) - firsts


def open_file(path: Path) -> h5py.File:
    """Open a file for reading."""
    import h5py

    return h5py.File(path, "r")


def reason(error: BaseException) -> str:
    """Say in a few words what h5py says of a damaged file."""
    text = " ".join(str(error).strip("'\"").split())
    return text.partition("(")[2].rstrip(")")[:120] or text[:120] or type(error).__name__


class _Flat:
    """A dataset that lies in one piece, read from its place in the file.

    Not mapped: touching a page of a map also reads those around it, which for a look at every video is the file.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], offset: int) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._shape, self._offset = shape, offset

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, stride = span.indices(self._shape[0])
        rows = np.empty((max(0, stop - start), *self._shape[1:]), np.uint8)
        left, place = rows.reshape(-1).data, self._offset + start * math.prod(self._shape[1:])
        while left:  # a single call reads 2 GB at most
            n = os.preadv(self._file, [left], place)
            if not n:
                raise OSError("the file ends before its last frame")
            left, place = left[n:], place + n
        return rows[::stride]


class _Blocks:
    """A dataset in chunks of many frames each: keeps the frames read last, as their neighbours come next."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._held = (0, np.empty((0, *dataset.shape[1:]), np.uint8))

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, stride = span.indices(self._dataset.shape[0])
        first, frames = self._held
        if not first <= start <= stop <= first + len(frames):
            n = self._dataset.chunks[0]
            first = start // n * n
            frames = self._dataset[first : -(-stop // n) * n]
            self._held = first, frames
        return frames[start - first : stop - first : stride].copy()


def _rows(table: Table, in_order: bool) -> _Flat | _Blocks | h5py.Dataset:
    """Choose how the frames of a table are read."""
    try:
        dataset = open_file(table.path)[table.key]
        if dataset.shape != table.shape or dataset.dtype != np.uint8:
            raise UserError(f"{table.name} was changed while it was in use; open it again.")
        offset = dataset.id.get_offset()
        # space that was never written has no place in the file; chunks, filters and other files have none in this one
        if offset is not None and dataset.id.get_storage_size() == math.prod(table.shape) and not dataset.external:
            return _Flat(table.path, table.shape, offset)
        block_bytes = _chunk_frames(dataset) * math.prod(table.shape[1:])
        return _Blocks(dataset) if in_order and 0 < block_bytes <= MAX_BLOCK_BYTES else dataset
    except DAMAGE as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{table.name} cannot be read ({reason(error)}); it is damaged, replace it.") from None


def _chunk_frames(dataset: h5py.Dataset) -> int:
    return int(dataset.chunks[0]) if dataset.chunks else 0


def _read_side(file: h5py.File, name: str, file_name: str) -> Side | None:
    """Read the index and the actions of one side; None when the file has no such side."""
    data, starts = f"{name}_data", f"{name}_idx"
    if data not in file and starts not in file:
        return None
    if data not in file or starts not in file:
        there, lacking = (data, starts) if data in file else (starts, data)
        raise UserError(f"{file_name} has {there} but no {lacking}; wanted both (VideoGPT's layout).")
    frames, index = _dataset(file, data, file_name), _dataset(file, starts, file_name)
    shape = frames.shape
    if frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
        raise UserError(f"{data} of {file_name} is {frames.dtype} {shape}; wanted uint8 (N, H, W, 3), values 0 to 255.")
    if index.dtype.kind not in "iu" or len(index.shape) != 1:
        raise UserError(
            f"{starts} of {file_name} is {index.dtype} {index.shape}; wanted the first frame of each video, int64 (n,)."
        )
    if shape[0] == 0 == index.shape[0]:
        return None
    begins = index[:].astype(np.int64)
    _check_starts(begins, shape[0], starts, file_name)
    has_actions = _check_actions(file, name, shape[0], file_name)
    return Side(name=name, shape=shape, starts=begins, has_actions=has_actions, chunk_frames=_chunk_frames(frames))


def _dataset(file: h5py.File, key: str, file_name: str) -> Any:
    import h5py

    found = file[key]
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise UserError(f"{key} of {file_name} is no array; wanted a dataset (VideoGPT's layout).")
    return found


def _check_starts(starts: np.ndarray, n_frames: int, key: str, file_name: str) -> None:
    if not len(starts):
        raise UserError(f"{key} of {file_name} is empty for {n_frames} frames; wanted the first frame of each video.")
    if starts[0] < 0 or starts.max() >= n_frames:
        raise UserError(
            f"{key} of {file_name} has starts in {starts.min()}..{starts.max()}; wanted numbers of the {n_frames} "
            f"frames, 0 to {n_frames - 1}."
        )
    if (wrong := np.flatnonzero(np.diff(starts) <= 0)).size:
        i = int(wrong[0]) + 1
        raise UserError(
            f"{key} of {file_name} has {starts[i]} after {starts[i - 1]} (entry {i}); wanted the first frame of each "
            "video, rising, each once."
        )


def _check_actions(file: h5py.File, name: str, n_frames: int, file_name: str) -> bool:
    """Check the actions of a side by their header; False when it has none."""
    key = f"{name}_actions"
    if key not in file:
        return False
    actions = _dataset(file, key, file_name)
    if actions.dtype.kind not in "iufb" or len(actions.shape) not in (1, 2):
        raise UserError(
            f"{key} of {file_name} is {actions.dtype} {actions.shape}; wanted numbers, (N,) ids or (N, A) vectors."
        )
    if actions.shape[0] != n_frames:
        raise UserError(
            f"{key} of {file_name} has {actions.shape[0]} rows for {n_frames} frames; wanted {n_frames}, one per frame."
        )
    return True
