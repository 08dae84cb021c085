"""Fixed-length windows over the episodes of a data set or a token store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np

from reelworld.data.folder import DataInfo, Episode
from reelworld.types import ActionSpec, Clip, UserError

__all__ = ["ClipIndex", "Merge", "Source", "check_lengths", "evenly_spaced", "merge_actions", "merged_specs"]

Merge = Literal["stack", "last", "sum"]
log = logging.getLogger(__name__)


class Source(Protocol):
    """What windows are cut from: frames (Dataset) or codes (CodeStore)."""

    @property
    def info(self) -> DataInfo:
        """What all episodes have in common."""
        ...

    @property
    def episodes(self) -> Sequence[Episode]:
        """All episodes."""
        ...

    def arrays(self, episode: int, start: int, stop: int, stride: int = 1) -> dict[str, np.ndarray]:
        """Copy a window of one episode."""
        ...

    def indices(self, split: str) -> list[int]:
        """Episodes of a split."""
        ...

    def sampling_weights(self, episodes: np.ndarray, n_frames: int) -> np.ndarray | None:
        """How often windows are to be drawn, by their episodes; None for all alike."""
        ...


def merge_actions(actions: np.ndarray, merge: Merge) -> np.ndarray:
    """Turn the k actions between two kept frames, (T, k, ...), into one, (T, ...), unless they are stacked."""
    if merge == "stack":
        return actions
    if merge == "last":
        return actions[:, -1]
    if np.issubdtype(actions.dtype, np.integer):
        raise UserError("discrete actions cannot be summed over a frame stride; use merge 'stack' or 'last'.")
    return actions.sum(axis=1, dtype=actions.dtype)


def merged_specs(specs: Mapping[str, ActionSpec], stride: int, merge: Merge) -> dict[str, ActionSpec]:
    """Describe the actions of one kept frame: with a stride, several may stay together or add up."""
    if merge == "sum":
        return {name: _summed(spec, stride) for name, spec in specs.items()}
    return {name: replace(spec, repeat=stride if merge == "stack" else 1) for name, spec in specs.items()}


def _summed(spec: ActionSpec, stride: int) -> ActionSpec:
    """Describe sums of ``stride`` vectors: range, null action and keys grow with them. Ids are not summed."""
    if spec.kind == "discrete":
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

    def __init__(self, source: Source, split: str, length: int, stride: int = 1, merge: Merge = "stack") -> None:
        """Index the windows.

        Args:
            source: Data set or token store.
            split: "train", "val", "test" or "all".
            length: Kept frames per window.
            stride: Frames from one kept frame to the next.
            merge: What becomes of the ``stride`` actions between two kept frames.

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
        self.source, self.length, self.stride, self.merge = source, length, stride, merge
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

    def weights(self) -> np.ndarray | None:
        """Say how often each window is to be drawn for training, float64 (n_windows,); None for all alike.

        Raises:
            UserError: If they are of a mixture of data sets, one of which has no window.
        """
        return self.source.sampling_weights(self.index[:, 0], self.span)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        """Copy window ``i``: frames uint8 (T, H, W, 3) or codes (T, N), and the rows that belong to them.

        "class_id", int64 (), is there when the data have classes.
        """
        episode, start = (int(x) for x in self.index[i])
        stop = start + (self.length - 1) * self.stride + 1
        arrays = self.source.arrays(episode, start, stop, self.stride)
        if self.source.info.classes:
            arrays["class_id"] = np.array(self.source.episodes[episode].class_id, np.int64)
        if self.stride == 1 or self.merge == "stack":
            return arrays
        return {k: merge_actions(v, self.merge) if k.startswith("actions/") else v for k, v in arrays.items()}

    def clip(self, i: int) -> Clip:
        """Copy window ``i`` of a data set as a clip."""
        arrays = self[i]
        return Clip(
            frames=arrays["frames"],
            actions={k.removeprefix("actions/"): v for k, v in arrays.items() if k.startswith("actions/")},
            rewards=arrays.get("rewards"),
            terminated=arrays.get("terminated"),
            truncated=arrays.get("truncated"),
            fps=self.source.info.fps / self.stride,
            source=self.source.episodes[int(self.index[i, 0])].source,
            class_id=int(arrays["class_id"]) if "class_id" in arrays else None,
        )


def evenly_spaced(n: int, most: int) -> list[int]:
    """Pick at most ``most`` of the numbers below n, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist()


def check_lengths(source: Source, split: str, length: int, stride: int, field: str) -> None:
    """Say before anything is trained that every clip of a split is too short for a window.

    Args:
        source: Data set or token store.
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
    ClipIndex(source, split, length, stride)  # says that a split is empty


def _no_window(source: Source, split: str, members: list[int], span: int) -> UserError:
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
