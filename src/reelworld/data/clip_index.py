"""Fixed-length windows over the episodes of a data set, of frames or of codes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Literal

import numpy as np

from reelworld.data.dataset import Dataset, to_clip
from reelworld.data.episodes import Arrays
from reelworld.types import ActionSpec, Clip, UserError

Merge = Literal["stack", "last", "sum"]
log = logging.getLogger(__name__)


def merge_actions(actions: np.ndarray, merge: Merge, is_buttons: bool = False) -> np.ndarray:
    """Turn the k actions between two kept frames, (T, k, ...), into one, (T, ...), unless they are stacked.

    Args:
        actions: Of a stream.
        merge: Treatment of the k actions.
        is_buttons: They are buttons: one that was held in any of the k steps is held in a sum.
    """
    if merge == "stack":
        return actions
    if merge == "last":
        return actions[:, -1]
    if is_buttons:
        held: np.ndarray = actions.max(axis=1)
        return held
    if np.issubdtype(actions.dtype, np.integer):
        raise UserError("discrete actions cannot be summed over a frame stride; use merge 'stack' or 'last'.")
    out: np.ndarray = actions.sum(axis=1, dtype=actions.dtype)
    return out


def merged_specs(specs: Mapping[str, ActionSpec], stride: int, merge: Merge) -> dict[str, ActionSpec]:
    """Describe the actions of one kept frame: with a stride, several may be stacked or summed."""
    if merge == "sum":
        return {name: _summed(spec, stride) for name, spec in specs.items()}
    return {name: replace(spec, repeat=stride if merge == "stack" else 1) for name, spec in specs.items()}


def _summed(spec: ActionSpec, stride: int) -> ActionSpec:
    """Describe sums of ``stride`` vectors: range, null action and keys are scaled. Ids and buttons are not summed."""
    if spec.kind != "continuous":
        return spec

    def times(value: int | tuple[float, ...]) -> tuple[float, ...]:
        return tuple(stride * v for v in (value if isinstance(value, tuple) else (value,)))

    return replace(
        spec,
        low=times(spec.low),
        high=times(spec.high),
        null=None if spec.null is None else times(spec.null),
        keys={key: times(value) for key, value in spec.keys.items()},
    )


class ClipIndex:
    """Every window of ``length`` kept frames that fits into an episode of a split."""

    def __init__(
        self,
        source: Dataset,
        split: str,
        length: int,
        stride: int = 1,
        merge: Merge = "stack",
        *,
        goal_first: bool = False,
    ) -> None:
        """Index the windows.

        Args:
            source: Episodes, of frames or of codes.
            split: "train", "val", "test" or "all".
            length: Kept frames per window.
            stride: Frames from one kept frame to the next.
            merge: Treatment of the ``stride`` actions between two kept frames.
            goal_first: Move the last frame of a window, the goal, to its front (see ``goal_to_front``).

        Raises:
            UserError: If the split is empty or every episode of it is shorter than the window.
        """
        if length < 1 or stride < 1:
            raise UserError(f"windows of {length} frames with stride {stride} were asked for; both must be at least 1.")
        discrete = [n for n, spec in source.info.actions.items() if spec.kind == "discrete"]
        if merge == "sum" and stride > 1 and discrete:
            raise UserError(
                f"action stream {discrete[0]!r} is discrete and cannot be summed over {stride} frames; "
                "use merge 'stack' or 'last'."
            )
        self.source, self.length, self.stride, self.merge, self.goal_first = source, length, stride, merge, goal_first
        self.span = span = (length - 1) * stride + 1
        members = source.indices(split)
        fitting = [i for i in members if source.episodes[i].n_frames >= span]
        self.n_too_short = len(members) - len(fitting)
        if not fitting:
            raise _no_window(source, split, members, span)
        if self.n_too_short:
            log.warning(
                "%d of %d %s episodes are shorter than a window of %d frames and are left out",
                *(self.n_too_short, len(members), split, span),
            )
        starts = [np.arange(source.episodes[i].n_frames - span + 1) for i in fitting]
        episodes = np.repeat(fitting, [len(s) for s in starts])
        self.index = np.stack([episodes, np.concatenate(starts)], axis=1).astype(np.int64)
        """int64 (n_windows, 2): episode and first frame of each window."""

    def __len__(self) -> int:
        return len(self.index)

    def with_index(self, index: np.ndarray) -> ClipIndex:
        """Return the same kind of windows at other positions, int64 (n, 2): episode and first frame of each."""
        other = copy(self)
        other.index = index
        return other

    def weights(self) -> np.ndarray | None:
        """Return how often each window is drawn for training, float64 (n_windows,); None for all alike.

        Raises:
            UserError: If they are of several data sets, one of which has no window.
        """
        return self.source.sampling_weights(self.index[:, 0], self.span)

    def __getitem__(self, i: int) -> Arrays:
        """Copy window ``i``: frames uint8 (T, H, W, 3) or codes (T, N), and the rows that belong to them.

        "class_id", int64 (), is there when the data have classes.
        """
        arrays = self._read(i)
        if self.goal_first:
            arrays = goal_to_front(arrays)
        if self.source.info.classes:
            arrays["class_id"] = np.array(self.source.episodes[int(self.index[i, 0])].class_id, np.int64)
        return arrays

    def _read(self, i: int) -> Arrays:
        """Copy the rows of window ``i`` in their order."""
        episode, start = (int(x) for x in self.index[i])
        arrays = self.source.arrays(episode, start, start + self.span, self.stride)
        if self.stride == 1 or self.merge == "stack":
            return arrays
        for name, spec in self.source.info.actions.items():
            key = f"actions/{name}"
            arrays[key] = merge_actions(arrays[key], self.merge, spec.kind == "buttons")
        return arrays

    def clip(self, i: int) -> Clip:
        """Copy window ``i`` as a clip; with ``goal_first``, of its T - 1 frames before the goal."""
        episode = self.source.episodes[int(self.index[i, 0])]
        class_id = episode.class_id if self.source.info.classes else None
        arrays, goal = self._read(i), None
        if self.goal_first:
            goal = arrays["frames"][-1]
            arrays = {k: v[:-1] for k, v in arrays.items()}
        return replace(to_clip(arrays, self.source.info.fps / self.stride, episode.source, class_id), goal=goal)


def goal_to_front(arrays: Arrays) -> Arrays:
    """Move the last frame of a window, the goal, to its front; all other rows move with their frames.

    ``actions[t]`` still leads from row t to row t + 1, except for the first row: no action leads from the goal to the
    first frame. The row that leads to the goal is the last one, in place of padding.
    Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), appendix A.2: a clip of T frames is read in the order T, 1, 2
    to T - 1, so that the first frames, the context, are the goal and the frames that the clip begins with.
    """
    return {k: np.roll(v, 1, 0) for k, v in arrays.items()}


def evenly_spaced(n: int, most: int) -> list[int]:
    """Pick at most ``most`` of the numbers below n, evenly spaced, including the first and the last."""
    out: list[int] = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist()
    return out


def check_lengths(source: Dataset, split: str, length: int, stride: int, field: str) -> None:
    """Refuse, before anything is trained, a split whose every clip is too short for a window.

    Args:
        source: Episodes, of frames or of codes.
        split: "train", "val" or "test".
        length: Kept frames per window.
        stride: Frames from one kept frame to the next.
        field: Config field that ``length`` comes from; the message names its flag.
    """
    span = (length - 1) * stride + 1
    longest = max((source.episodes[i].n_frames for i in source.indices(split)), default=span)
    if longest < span:
        most, flag = (longest - 1) // stride + 1, f"--{field.replace('_', '-')}"
        advice = f"give {flag} {most} (or less), or longer recordings" if most > 1 else "give longer recordings"
        raise UserError(
            f"every {split} episode is shorter than the {span} frames that {flag} {length} and --frame-stride "
            f"{stride} need (the longest has {longest}); {advice}."
        )
    ClipIndex(source, split, length, stride)  # refuses an empty split


def _no_window(source: Dataset, split: str, members: list[int], span: int) -> UserError:
    if not members:
        counts = {s: len(source.indices(s)) for s in ("train", "val", "test")}
        return UserError(
            f"the {split} split has no episodes ({counts}); give at least three recordings that differ, "
            "or use another split."
        )
    longest = max(source.episodes[i].n_frames for i in members)
    return UserError(
        f"every {split} episode is shorter than a window of {span} frames (the longest has {longest}); "
        f"use windows of at most {longest} frames or a smaller stride, or give longer recordings."
    )
