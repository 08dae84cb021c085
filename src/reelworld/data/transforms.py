"""Transforms of data sets for ``Dataset.map``: other actions, fewer arrays, fewer frames.

Shapes: T frames
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reelworld.data.dataset import Dataset
from reelworld.data.episodes import Arrays, stored_arrays
from reelworld.types import ActionSpec


def with_actions(dataset: Dataset, stream: str, spec: ActionSpec, rows: Sequence[np.ndarray]) -> Dataset:
    """Replace the recorded actions by one stream of others.

    Args:
        dataset: The recordings; the result has them as ``recorded``.
        stream: Name of the new stream.
        spec: Its actions.
        rows: Per episode, int64 (T,): row t is taken after frame t; the last is padding.
    """
    labelled = dataset.map(ReplaceActions(stream, rows), replace(dataset.info, actions={stream: spec}))
    return replace(labelled, recorded=dataset)


@dataclass(frozen=True)
class ReplaceActions:
    """Transform that puts rows in place of all actions; for windows of neighbouring frames only."""

    stream: str
    rows: Sequence[np.ndarray]

    def __call__(self, arrays: Arrays, episode: int, window: slice) -> Arrays:
        """Replace the actions."""
        assert window.step == 1
        kept = {k: v for k, v in arrays.items() if not k.startswith("actions/")}
        return {**kept, f"actions/{self.stream}": self.rows[episode][window].copy()}


@dataclass(frozen=True)
class KeepArrays:
    """Transform that keeps the arrays of these names."""

    names: set[str]

    def __call__(self, arrays: Arrays, episode: int, window: slice) -> Arrays:
        """Keep the arrays that were named."""
        return {k: v for k, v in arrays.items() if k in self.names}


def subsample(dataset: Dataset, stride: int) -> Dataset:
    """Keep every k-th frame: each episode becomes k episodes, one for each frame to begin at."""
    if stride == 1:
        return dataset
    episodes = [
        replace(
            e,
            n_frames=len(range(first, e.n_frames, stride)),
            arrays=replace(stored, first=stored.first + first, n_rows=e.n_frames - first, every=stride),
        )
        for e in dataset.episodes
        for stored in [stored_arrays(e)]
        for first in range(min(stride, e.n_frames))
    ]
    return replace(dataset, episodes=tuple(episodes))
