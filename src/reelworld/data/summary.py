"""Figures about a data set: the content of ``reelworld inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from reelworld.data.dataset import Dataset
from reelworld.data.splits import SPLITS
from reelworld.types import ActionSpec

N_BINS = 41
"""Bars of the histogram of one continuous dimension; odd, so that zero can have its own."""
CHUNK_BYTES = 50_000_000
"""Frames that are held in memory at a time."""
MAX_COMPARED_FRAMES = 100_000
"""Frames compared for changes; of larger data sets, episodes evenly spaced."""


@dataclass(frozen=True, kw_only=True)
class StreamSummary:
    """One action stream."""

    spec: ActionSpec
    n_steps: int
    counts: tuple[tuple[int, ...], ...]
    """Discrete: one row, steps per id. Continuous: one row of bins per dimension, from low to high."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures about a data set; all are JSON values."""

    path: str
    n_episodes: int
    n_frames: int
    episode_frames: tuple[int, int, int]
    """Shortest, median and longest episode."""
    height: int
    width: int
    fps: float
    seconds: float
    """Duration of all episodes; 0 when the frame rate is unknown."""
    splits: Mapping[str, tuple[int, int]]
    """Split -> episodes and frames."""
    fraction_changed: float
    """Fraction of steps after which any pixel differs."""
    fraction_pixels: float
    """Mean fraction of pixels that differ after a step that changes something."""
    n_compared: int
    """Steps that were compared."""
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Class -> split -> episodes; empty when the data have no classes."""
    actions: Mapping[str, StreamSummary] = field(default_factory=dict)
    mean_return: float | None = None
    """Mean sum of rewards per episode; None without rewards."""
    n_ended: int | None = None
    """Episodes that terminated; None when unknown."""
    n_duplicates: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def summarize(dataset: Dataset, progress: Callable[[int, int], object] | None = None) -> Summary:
    """Read a data set once and count.

    Args:
        dataset: Data set to count.
        progress: Called with episodes done and their total.
    """
    info, episodes = dataset.info, dataset.episodes
    lengths = np.array([e.n_frames for e in episodes])
    n_frames = int(lengths.sum())
    every = -(-n_frames // MAX_COMPARED_FRAMES)
    tally = _Tally(info.actions)
    for i in range(len(episodes)):
        tally.add(dataset, i, compare=i % every == 0)
        if progress:
            progress(i + 1, len(episodes))
    of_split = {s: [i for i, e in enumerate(episodes) if e.split == s] for s in SPLITS}
    return Summary(
        path=dataset.path.name,
        n_episodes=len(episodes),
        n_frames=n_frames,
        episode_frames=(int(lengths.min()), int(np.median(lengths)), int(lengths.max())),
        height=info.height,
        width=info.width,
        fps=info.fps,
        seconds=n_frames / info.fps if info.fps else 0.0,
        splits={s: (len(ids), int(lengths[ids].sum())) for s, ids in of_split.items()},
        fraction_changed=tally.n_changed / max(1, tally.n_compared),
        fraction_pixels=tally.pixels / max(1, tally.n_changed),
        n_compared=tally.n_compared,
        classes=_count_classes(dataset),
        actions=tally.streams(),
        mean_return=float(np.mean(tally.returns)) if tally.returns else None,
        n_ended=sum(tally.ended) if tally.ended else None,
        n_duplicates=dataset.n_duplicates,
        problems=dataset.problems,
        notes=dataset.notes,
    )


def _count_classes(dataset: Dataset) -> dict[str, dict[str, int]]:
    counts = Counter((e.class_id, e.split) for e in dataset.episodes)
    return {name: {s: counts[i, s] for s in SPLITS} for i, name in enumerate(dataset.info.classes)}


class _Tally:
    """Running counts over episodes."""

    def __init__(self, specs: Mapping[str, ActionSpec]) -> None:
        self.n_compared, self.n_changed, self.pixels = 0, 0, 0.0
        self.returns: list[float] = []
        self.ended: list[bool] = []
        self._specs, self._n_steps = specs, 0
        self._counts = {
            name: np.zeros((1, s.n) if s.kind == "discrete" else (s.n, N_BINS), np.int64) for name, s in specs.items()
        }

    def add(self, dataset: Dataset, episode: int, compare: bool) -> None:
        """Count one episode, a chunk of frames at a time; its last row of actions is padding."""
        n = dataset.episodes[episode].n_frames
        chunk = max(2, CHUNK_BYTES // (dataset.info.height * dataset.info.width * 3))
        rows = dataset.steps(episode)
        if compare:
            for start in range(0, n - 1, chunk):
                frames = dataset.arrays(episode, start, min(start + chunk + 1, n))["frames"]
                changed = (frames[1:] != frames[:-1]).any(axis=3).mean(axis=(1, 2))
                self.n_compared += len(changed)
                self.n_changed += int((changed > 0).sum())
                self.pixels += float(changed.sum())
        self._n_steps += n - 1
        for name, spec in self._specs.items():
            self._counts[name] += _histogram(rows[f"actions/{name}"][:-1], spec)
        if "rewards" in rows:
            self.returns.append(float(rows["rewards"][:-1].sum()))
        if "terminated" in rows:
            self.ended.append(bool(rows["terminated"][:-1].any()))

    def streams(self) -> dict[str, StreamSummary]:
        return {
            name: StreamSummary(
                spec=spec, n_steps=self._n_steps, counts=tuple(tuple(row) for row in self._counts[name].tolist())
            )
            for name, spec in self._specs.items()
        }


def _histogram(actions: np.ndarray, spec: ActionSpec) -> np.ndarray:
    if spec.kind == "discrete":
        return np.bincount(actions, minlength=spec.n)[None]
    low, high = spec.low or actions.min(axis=0), spec.high or actions.max(axis=0)
    columns = [
        np.histogram(np.clip(column, a, b), N_BINS, (a, b) if b > a else (a - 0.5, a + 0.5))[0]
        for column, a, b in zip(actions.T, low, high, strict=True)
    ]
    return np.stack(columns)
