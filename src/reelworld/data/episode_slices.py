"""A stretch of one episode file as arrays, with the steps between two kept frames kept together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from reelworld.data.folder import action_keys
from reelworld.types import UserError

__all__ = ["STEP_KEYS", "Places", "Stretch", "group_rows", "read_rows", "read_steps"]


class Places(Protocol):
    """Arrays by the place of an episode: ``ArrayFiles`` or ``hdf5.Arrays``."""

    def members(self, place: Any) -> Mapping[str, Any]:
        """Names of the arrays of a place."""
        ...

    def view(self, place: Any, name: str) -> Any:
        """One array, of which slices can be taken."""
        ...


class Stretch:
    """Frames of one episode, read only where they are asked for."""

    def __init__(self, frames: Any, first: int, shape: tuple[int, ...]) -> None:
        self._frames, self._first, self.shape = frames, first, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: int | slice) -> np.ndarray:
        """Copy a frame, uint8 (H, W, 3), or a range of them."""
        if isinstance(wanted, slice):
            start, stop, _ = wanted.indices(len(self))
            return np.asarray(self._frames[self._first + start : self._first + stop])
        t = self._first + wanted % len(self)
        return np.asarray(self._frames[t : t + 1])[0]


STEP_KEYS = ("rewards", "terminated", "truncated")


def group_rows(rows: np.ndarray, n_frames: int, stride: int) -> np.ndarray:
    """Put the ``stride`` rows between two kept frames together.

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


def read_rows(
    files: Places, place: Any, main: str, span: tuple[int, int], window: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """Copy a window out of an episode file.

    Args:
        files: Open files.
        place: The episode's .npz, or the table it is in; both have a ``name``.
        main: Name of the array with one row per frame: "frames" or "codes".
        span: First row of the episode in the file, and its number of frames.
        window: Start, stop and stride, counted from the episode's first frame.

    Returns:
        ``main`` (T, ...), "actions/<stream>" (T, ...) or (T, stride, ...), "rewards" (T,) summed over the
        stride, "terminated" and "truncated" (T,), true if any step of the stride was.
    """
    (first, n_frames), (start, stop, stride) = span, window
    if not 0 <= start < stop <= n_frames or stride < 1:
        raise UserError(
            f"frames {start} to {stop} (stride {stride}) of {place.name} were asked for; it has {n_frames} frames."
        )
    arrays = {main: np.array(files.view(place, main)[first + start : first + stop : stride])}
    kept = len(arrays[main])
    return arrays | read_steps(
        files, place, slice(first + start, first + min(start + kept * stride, n_frames)), kept, stride
    )


def read_steps(files: Places, place: Any, steps: slice, kept: int, stride: int = 1) -> dict[str, np.ndarray]:
    """Copy the rows of a stretch without its frames; see ``read_rows``."""
    members = files.members(place)
    names = action_keys(list(members))
    arrays = {f"actions/{s}": group_rows(files.view(place, n)[steps], kept, stride) for n, s in names.items()}
    for name in STEP_KEYS:
        if name in members:
            rows = group_rows(files.view(place, name)[steps], kept, stride)
            if stride > 1:
                rows = np.add.reduce(rows, axis=1, dtype=rows.dtype) if name == "rewards" else rows.max(axis=1)
            arrays[name] = rows
    return arrays
