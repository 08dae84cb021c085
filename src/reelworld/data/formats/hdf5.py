"""HDF5 files in VideoGPT's layout: one file of many videos, read by window and never copied.

``train_data`` uint8 (N, H, W, 3) holds the frames of all videos one after the other, ``train_idx`` (n,) the first
frame of each; a video ends where the next one begins. ``test_data`` and ``test_idx`` are the test split.
``train_actions`` and ``test_actions`` (N, ...) are optional. Only the frames of a window are read, also of chunked and
compressed datasets. Frames are resized on reading, not into the cache: a file of any length opens at once, without a
second copy. For long trainings, store the file at the training's frame size.
Source: VideoGPT, data preparation. There, one window is drawn per video and never its last one, and a video of
exactly the window's length is an error; here every video is an episode and every window of it counts.

Shapes: N frames of all videos, n videos, H W pixel rows and columns
"""

from __future__ import annotations

import math
import os
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import h5py
import numpy as np

from reelworld.data.action_alignment import check_actions, common_specs, describe_actions
from reelworld.data.array_store import FilePool, NpzStore, Rows, Unreadable
from reelworld.data.cache import Decoded
from reelworld.data.episodes import DataInfo, Episode, StoredArrays
from reelworld.data.formats.npz import UNDOCUMENTED
from reelworld.data.formats.reader import Contents, FileRequest, cached_actions, read_cached
from reelworld.data.resize import check_fit, common_size, fit_frames
from reelworld.data.resize_options import ReadOptions
from reelworld.types import Fit, UserError

ENDINGS = (".hdf5", ".h5")
SPLIT_NAMES = ("train", "test")
MANY_FRAMES = 32
"""Chunks of more frames than this make reading a window slow; a note says so."""
MAX_BLOCK_BYTES = 64_000_000
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)
"""Errors that h5py raises for a damaged file."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Videos of a file under "train" or "test"."""

    name: str
    shape: tuple[int, ...]
    """(N, H, W, 3)."""
    starts: np.ndarray
    """First frame of each video, int64 (n,), rising."""
    has_actions: bool
    chunk_frames: int = 0
    """Frames that are stored, and must be read, together; 0 for any number."""

    @property
    def stops(self) -> np.ndarray:
        """One past the last frame of each video, int64 (n,)."""
        return np.append(self.starts[1:], self.shape[0])

    def frame_ranges(self, shift: int) -> list[tuple[int, int]]:
        """Return first frame and number of frames of each video that have steps; all frames for shift 0 and 1.

        The number is 0 or less when none remains.
        """
        firsts = self.starts + max(0, -shift)
        lasts = self.stops - max(0, shift - 1)
        return list(zip(firsts.tolist(), (lasts - firsts).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class SplitStore:
    """Frames of a split, resized when they are read, and its actions.

    The file is opened by the process that reads it, also after a fork.
    """

    path: Path
    key: str
    """Name of the dataset in the file."""
    shape: tuple[int, ...]
    """(N, H, W, 3) in the file."""
    size: tuple[int, int] | None
    """Height and width to resize to; None keeps the file's."""
    fit: Fit
    pool: FilePool
    steps: NpzStore | None = None
    """Actions with one row per frame; None without actions."""
    first: int = 0
    """Frame of the dataset that is frame 0 here."""
    first_step: int = 0
    """Row of ``steps`` that belongs to frame 0."""

    @property
    def name(self) -> str:
        """Name of the file, for errors."""
        return self.path.name

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Array name -> shape in the file."""
        return {"frames": self.shape, **(self.steps.shapes if self.steps else {})}

    def view(self, name: str) -> Rows:
        """Return one array to take slices of."""
        if name != "frames":
            assert self.steps is not None
            return self.steps.view(name)[self.first_step :]
        # a handle of the parent process must not be read by its children
        key = (os.getpid(), self.path, self.key, self.size, self.fit)
        rows = self.pool.get(key, lambda: _Frames(_rows(self), self.name, self.key, self.size, self.fit))
        return rows if not self.first else _Later(rows, self.first)

    def as_stored(self, pool: FilePool) -> SplitStore:
        """Return the frames as the file has them."""
        return replace(self, size=None, pool=pool)


def read(request: FileRequest) -> Contents:
    """List the videos of a file; its frames stay there, its actions are aligned once, into the cache."""
    name, options = request.name, request.options
    splits = read_splits(request.path, options)
    shift = options.action_shift or 0 if splits[0].has_actions else 0
    # actions do not depend on the size of the frames
    unsized = replace(request, options=replace(options, size=None, fit="none"))
    steps = {s.name: read_cached(unsized, partial(_aligned, unsized, s), (), s.name) for s in splits if s.has_actions}
    actions = common_specs({f"{name} ({split})": cached_actions(store, name) for split, store in steps.items()})
    episodes = []
    for split in splits:
        key = f"{split.name}_data"
        store = SplitStore(
            path=request.path, key=key, shape=split.shape, size=options.shape, fit=options.fit,
            pool=request.tables, steps=steps.get(split.name),
        )  # fmt: skip
        episodes += [
            Episode(
                source=f"{request.source}/{split.name}/{i:06d}",
                n_frames=n_frames,
                split=split.name,
                file=request.file,
                first=first,
                arrays=StoredArrays(store, first, n_frames),
            )
            for i, (first, n_frames) in enumerate(split.frame_ranges(shift))
            if n_frames > 0
        ]
    if not episodes:
        raise UserError(f"no video of {name} is long enough for an action shift of {shift}; use a smaller one.")
    notes = _notes(name, splits, options)
    if n_lost := sum(len(s.starts) for s in splits) - len(episodes):
        notes.append(f"{n_lost} videos of {name} are left out: an action shift of {shift} leaves no step in them")
    sizes = Counter({options.shape or (s.shape[1], s.shape[2]): len(s.starts) for s in splits})
    height, width = common_size(sizes)
    info = DataInfo(fps=options.fps, height=height, width=width, actions=actions)
    return Contents(info=info, episodes=tuple(episodes), notes=tuple(notes))


def _notes(name: str, splits: Sequence[Split], options: ReadOptions) -> list[str]:
    """List the assumptions about a file, and its unusual properties."""
    notes = []
    if splits[0].has_actions and options.action_shift is None:
        notes.append(UNDOCUMENTED.format("HDF5"))
    for split in splits:
        array = f"{split.name}_data of {name}"
        if split.starts[0]:
            notes.append(f"{split.starts[0]} frames of {array} are not used: they lie before the first start")
        if split.chunk_frames > MANY_FRAMES:
            notes.append(
                f"{array} is stored in chunks of {split.chunk_frames} frames, so reading is slow; store it without "
                f"compression, or with chunks=(1, {split.shape[1]}, {split.shape[2]}, 3)"
            )
    return notes


def _aligned(request: FileRequest, split: Split) -> Decoded:
    """Return the actions of one split, a row for each of its frames, and their spec.

    Row t leads from frame t to t+1; it is zero where the video has no such row.
    """
    name, shift, starts = request.name, request.options.action_shift or 0, split.starts
    try:
        with open_file(request.path) as file:
            raw = np.asarray(file[f"{split.name}_actions"][:])
    except DAMAGE as error:
        raise Unreadable(f"{name} is corrupt: {split.name}_actions cannot be read ({reason(error)})") from None
    if raw.dtype.kind == "f" and (wrong := np.argwhere(~np.isfinite(raw))).size:
        row = int(wrong[0][0])
        video_number = int(np.searchsorted(starts, row, side="right")) - 1
        raise UserError(
            f"actions of {split.name} video {video_number} in {name} hold NaN or infinity (first in its row "
            f"{row - int(starts[max(0, video_number)])}); wanted finite numbers: mend the file."
        )
    raw = check_actions(raw, f"{split.name} videos in {name}")
    rows = np.arange(len(raw))
    video = np.searchsorted(starts, rows, side="right")
    shifted = np.clip(rows + shift, 0, len(raw) - 1)
    has_step = (rows + shift == shifted) & (video[shifted] == video)
    aligned = np.where(has_step.reshape(-1, *[1] * (raw.ndim - 1)), raw[shifted], np.zeros((), raw.dtype))
    return {"actions": aligned}, {"actions": {"action": describe_actions(raw)}}


def open_file(path: Path) -> h5py.File:
    """Open a file for reading."""
    return h5py.File(path, "r")


def holds(path: Path, group: str, prefix: str = "") -> bool:
    """Return True for a readable file that has a group or dataset, with a member of this prefix if one is given."""
    try:
        with open_file(path) as file:
            return group in file and (not prefix or any(name.startswith(prefix) for name in file[group]))
    except DAMAGE:
        return False


def reason(error: BaseException) -> str:
    """Shorten an error of h5py about a damaged file."""
    text = " ".join(str(error).strip("'\"").split())
    return text.partition("(")[2].rstrip(")")[:120] or text[:120] or type(error).__name__


def read_splits(path: Path, options: ReadOptions) -> list[Split]:
    """Read the index of a file, without its frames.

    Raises:
        Unreadable: If it is truncated, corrupt or no HDF5 file, or holds something else than videos.
        UserError: If the videos in it are not laid out as they must be.
    """
    try:
        with open_file(path) as file:
            splits = [split for name in SPLIT_NAMES if (split := _read_split(file, name, path.name)) is not None]
            held = ", ".join(sorted(file)[:8])
    except UserError:
        raise
    except DAMAGE as error:
        raise Unreadable(f"{path.name} is truncated, corrupt or no HDF5 file ({reason(error)})") from None
    if not held:
        raise Unreadable(f"{path.name} is empty; wanted train_data and train_idx (VideoGPT's layout)")
    if not splits:
        raise Unreadable(
            f"{path.name} holds no video but {held}; wanted train_data uint8 (N, H, W, 3) and train_idx (n,), or the "
            "same with test_ (VideoGPT's layout), or another layout of docs/data.md"
        )
    has, lacks = ([s.name for s in splits if s.has_actions is expected] for expected in (True, False))
    if has and lacks:
        raise UserError(f"{path.name} has {has[0]}_actions but no {lacks[0]}_actions; wanted both or none.")
    for split in splits:
        if options.shape is not None:
            check_fit(split.shape[1:3], options.shape, options.fit, path.name)
    return splits


def _read_split(file: h5py.File, name: str, file_name: str) -> Split | None:
    """Read the index of one split and check its actions; None when the file has no such split."""
    data, starts = f"{name}_data", f"{name}_idx"
    if data not in file and starts not in file:
        return None
    if data not in file or starts not in file:
        present, absent = (data, starts) if data in file else (starts, data)
        raise UserError(f"{file_name} has {present} but no {absent}; wanted both (VideoGPT's layout).")
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
    firsts = index[:].astype(np.int64)
    _check_starts(firsts, shape[0], starts, file_name)
    has_actions = _check_actions(file, name, shape[0], file_name)
    return Split(name=name, shape=shape, starts=firsts, has_actions=has_actions, chunk_frames=_chunk_frames(frames))


def _dataset(file: h5py.File, key: str, file_name: str) -> h5py.Dataset:
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise UserError(f"{key} of {file_name} is no array; wanted a dataset (VideoGPT's layout).")
    return dataset


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
    """Check the actions of a split by their header; False when it has none."""
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


# ------------------------------------------------------------------ reading frames


class _Frames:
    """Frames of a split, resized when they are read."""

    def __init__(self, rows: Rows, name: str, key: str, size: tuple[int, int] | None, fit: Fit) -> None:
        self._rows, self._name, self._key, self._size, self._fit = rows, name, key, size, fit

    def __getitem__(self, span: slice) -> np.ndarray:
        """Copy frames, uint8 (T, H, W, 3)."""
        try:
            frames = self._rows[span]
        except DAMAGE as error:
            raise UserError(
                f"{self._name} cannot be read at frames {span.start} to {span.stop} of {self._key} "
                f"({reason(error)}); it is damaged, replace it."
            ) from None
        return fit_frames(frames, self._size, self._fit, self._name)


class _Later:
    """Rows of another array from one on."""

    def __init__(self, rows: Rows, first: int) -> None:
        self._rows, self._first = rows, first

    def __getitem__(self, span: slice) -> np.ndarray:
        return self._rows[slice(span.start + self._first, span.stop + self._first, span.step)]


class _Flat:
    """A contiguous dataset, read from its place in the file.

    Not mapped: reading a page of a map also reads its neighbours; a scan of all videos would read the whole file.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], offset: int) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._shape, self._offset = shape, offset

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, stride = span.indices(self._shape[0])
        rows = np.empty((max(0, stop - start), *self._shape[1:]), np.uint8)
        left, position = rows.reshape(-1).data, self._offset + start * math.prod(self._shape[1:])
        while left:  # a single call reads 2 GB at most
            n = os.preadv(self._file, [left], position)
            if not n:
                raise OSError("the file ends before its last frame")
            left, position = left[n:], position + n
        return rows[::stride]


class _Blocks:
    """A dataset in chunks of many frames each: keeps the frames read last, as their neighbours come next."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._block = (0, np.empty((0, *dataset.shape[1:]), np.uint8))

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, stride = span.indices(self._dataset.shape[0])
        first, frames = self._block
        if not first <= start <= stop <= first + len(frames):
            n = self._dataset.chunks[0]
            first = start // n * n
            frames = self._dataset[first : -(-stop // n) * n]
            self._block = first, frames
        return frames[start - first : stop - first : stride].copy()


def _rows(store: SplitStore) -> Rows:
    """Open the frames of a split in the fastest way that their storage allows."""
    try:
        dataset = open_file(store.path)[store.key]
        if dataset.shape != store.shape or dataset.dtype != np.uint8:
            raise UserError(f"{store.name} was changed while it was in use; open it again.")
        offset = dataset.id.get_offset()
        # unwritten space has no offset in the file; nor have chunks, filtered data and data in other files
        if offset is not None and dataset.id.get_storage_size() == math.prod(store.shape) and not dataset.external:
            return _Flat(store.path, store.shape, offset)
        block_bytes = _chunk_frames(dataset) * math.prod(store.shape[1:])
        is_kept = store.pool.in_order and 0 < block_bytes <= MAX_BLOCK_BYTES
        rows: Rows = _Blocks(dataset) if is_kept else dataset
        return rows
    except DAMAGE as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{store.name} cannot be read ({reason(error)}); it is damaged, replace it.") from None


def _chunk_frames(dataset: h5py.Dataset) -> int:
    return int(dataset.chunks[0]) if dataset.chunks else 0
