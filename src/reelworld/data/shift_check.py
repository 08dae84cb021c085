"""Check of the alignment of actions and frames: do actions fit the changes of the picture better one step away?

For each shift k, ridge regression predicts the action in row t + k from the change between frames t and t + 1, beyond
what the change before it and the two rows before tell. The gain in explained variance is greatest where the actions
take effect; it is measured on episodes that the regression has not seen. Changes are described by the similarity of
pairs of patches, before and after, with pairs drawn from the recording, summed over quarters of the picture.

Shapes: N transitions, F features, D width of actions, S pixels of a reduced picture's side
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from reelworld.data.dataset import Dataset
from reelworld.types import ActionSpec

SHIFTS = (-1, 0, 1)
MAX_TRANSITIONS = 6000
MIN_TRANSITIONS = 200
SIDE, PATCH, STRIDE, N_PATCHES, N_FOLDS = 32, 6, 2, 64, 5
BLOCK = 60
"""Transitions of a block: the unit of the standard error, and of what a regression has not seen."""
CHUNK = 256
"""Transitions whose patches are in memory at a time."""
RIDGE = 1.0
MIN_GAIN, MIN_Z = 0.01, 2.0
"""Least explained variance of another shift, and least difference to where the actions stand in standard errors."""


@dataclass(frozen=True, kw_only=True)
class ShiftCheck:
    """Result of the check of one action stream."""

    gains: Mapping[int, float]
    """Shift k -> explained variance of the action in row t + k by the change from frame t to frame t + 1."""
    z: Mapping[int, float]
    """Shift k -> its gain minus that of shift 0, in standard errors over stretches of the recording."""
    n: int
    """Transitions."""

    @property
    def better(self) -> int:
        """The shift at which the actions fit clearly better than where they stand; 0 if there is none."""
        best = max(SHIFTS, key=lambda k: self.gains[k])
        return best if best and self.gains[best] > MIN_GAIN and self.z[best] > MIN_Z else 0


def check_shift(dataset: Dataset, seed: int = 0) -> dict[str, ShiftCheck]:
    """Check every action stream of a recording.

    Args:
        dataset: With frames and actions.
        seed: Of the choice of episodes and patches.

    Returns:
        Stream name -> result; empty when there are too few transitions or the picture never changes.
    """
    rng = np.random.default_rng(seed)
    stretches = _choose(dataset, rng)
    if sum(n for _, n in stretches) < MIN_TRANSITIONS or not dataset.info.actions:
        return {}
    pictures, rows = [], []
    for episode, n in stretches:
        clip = dataset.read(episode, 0, n)
        pictures.append(np.stack([_reduce(frame) for frame in clip.frames]))
        rows.append(clip.actions)
    changes = _describe(pictures, rng)
    if changes is None:
        return {}
    # transition t uses the change before it and rows t - 3 to t + 1; an episode's last row is padding
    now = np.concatenate([c[3:-1] for c in changes])
    before = np.concatenate([c[2:-2] for c in changes])
    lengths = [len(c) - 4 for c in changes]
    stretch = np.repeat(np.arange(len(lengths)), lengths)  # long ones are several blocks, so that there are enough
    block = stretch * 1000 + np.concatenate([np.arange(n) // BLOCK for n in lengths])
    found = {}
    for name, spec in dataset.info.actions.items():
        values = [_vectors(r[name], spec) for r in rows]
        gains = {}
        for k in SHIFTS:
            target, *past = (
                np.concatenate([v[3 + k - lag : len(v) - 2 + k - lag] for v in values]) for lag in (0, 1, 2)
            )
            gains[k] = _gain(target, np.hstack([before, *past]), now, block)
        found[name] = ShiftCheck(
            gains={k: float(g.mean()) for k, g in gains.items()},
            z={k: _standard_errors(gains[k] - gains[0]) for k in SHIFTS},
            n=len(now),
        )
    return found


def _standard_errors(differences: np.ndarray) -> float:
    spread = float(differences.std(ddof=1)) / len(differences) ** 0.5
    return float(differences.mean()) / spread if spread > 0 else 0.0


def _choose(dataset: Dataset, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw episodes and the number of their first frames to use, until there are enough."""
    chosen, total = [], 0
    episodes = rng.permutation(len(dataset.episodes)).tolist()
    most = max(MAX_TRANSITIONS // min(len(episodes), 2 * N_FOLDS), 1)
    for i in episodes:
        n = min(dataset.episodes[i].n_frames, most)
        if n >= 6 and total < MAX_TRANSITIONS:
            chosen.append((i, n))
            total += n
    return chosen


def _reduce(frame: np.ndarray) -> np.ndarray:
    """Shrink a frame to at most SIDE pixels per side, float32 in [0, 1]."""
    height, width = frame.shape[:2]
    size = (min(width, SIDE), min(height, SIDE))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX), np.float32) / 255


def _vectors(rows: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Return actions as float vectors (T, D): one-hot ids, or the numbers; the last of several per frame."""
    if spec.repeat > 1:
        rows = rows[:, -1]
    vectors: np.ndarray = np.eye(spec.n)[rows] if spec.kind == "discrete" else rows
    return vectors.astype(np.float32)


def _patches(pictures: np.ndarray) -> np.ndarray:
    """Cut pairs of patches, before and after, out of all transitions: (N, rows, columns, F)."""
    pairs = np.concatenate([pictures[:-1], pictures[1:]], -1)
    windows = np.lib.stride_tricks.sliding_window_view(pairs, (PATCH, PATCH), (1, 2))[:, ::STRIDE, ::STRIDE]
    n, rows, columns = windows.shape[:3]
    return windows.reshape(n, rows, columns, -1)


def _describe(episodes: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray] | None:
    """Return the features of every change, (T - 1, F) per episode; None if nothing changes anywhere."""
    drawn = []
    for pictures in episodes:
        patches = _patches(pictures[: CHUNK // 4]).reshape(-1, 2 * 3 * PATCH * PATCH)
        # channels stand before the pixels of a patch: first half the picture before, second half after
        halves = patches.reshape(len(patches), 2, -1)
        moving = np.flatnonzero(np.abs(halves[:, 1] - halves[:, 0]).max(1) > 0.03)
        if len(moving):
            drawn.append(patches[rng.choice(moving, min(len(moving), N_PATCHES), replace=False)])
    if not drawn:
        return None
    exemplars = np.concatenate(drawn)
    exemplars = exemplars[rng.permutation(len(exemplars))[:N_PATCHES]]
    return [_features(pictures, exemplars) for pictures in episodes]


def _features(pictures: np.ndarray, exemplars: np.ndarray) -> np.ndarray:
    out = []
    square = (exemplars**2).sum(1)
    for start in range(0, len(pictures) - 1, CHUNK):
        patches = _patches(pictures[start : start + CHUNK + 1])
        n, rows, columns, width = patches.shape
        flat = patches.reshape(-1, width)
        distance = np.sqrt(np.maximum(0, (flat**2).sum(1)[:, None] + square - 2 * flat @ exemplars.T))
        similarity = np.maximum(0, distance.mean(1, keepdims=True) - distance)
        moves = np.abs(flat.reshape(len(flat), 2, -1)[:, 1] - flat.reshape(len(flat), 2, -1)[:, 0]).max(1) > 0.03
        similarity = (similarity * moves[:, None]).reshape(n, rows, columns, -1)
        middle, centre = rows // 2, columns // 2
        quarters = [
            similarity[:, r, c].sum((1, 2))
            for r in (slice(middle), slice(middle, None))
            for c in (slice(centre), slice(centre, None))
        ]
        out.append(np.concatenate(quarters, 1))
    return np.concatenate(out)


def _gain(target: np.ndarray, controls: np.ndarray, change: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return how much more of the target's variance is explained with the change than without.

    Args:
        target: (N, D).
        controls: (N, F).
        change: (N, F').
        block: int (N,): stretch of the recording; a block is predicted by regressions that have not seen it.

    Returns:
        The gain within each block, as a fraction of the whole variance; their mean is the gain.
    """
    scale = target.std(0)
    if not (scale > 1e-6).any():
        return np.zeros(len(np.unique(block)))
    target = (target - target.mean(0))[:, scale > 1e-6] / scale[scale > 1e-6]
    blocks, number = np.unique(block, return_inverse=True)
    folds = number % N_FOLDS
    less = _errors(target, controls, folds) - _errors(target, np.hstack([controls, change]), folds)
    sums = np.bincount(number, less)
    return sums * len(blocks) / float((target**2).sum())


def _errors(target: np.ndarray, inputs: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the squared error of each row under a ridge regression on the other folds, (N,)."""
    inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-6)
    errors = np.zeros(len(target))
    for fold in range(N_FOLDS):
        train, test = folds != fold, folds == fold
        x, y = inputs[train], target[train]
        gram = x.T @ x + RIDGE * len(x) * np.eye(x.shape[1], dtype=x.dtype)
        weights = np.linalg.solve(gram, x.T @ y)
        errors[test] = ((target[test] - inputs[test] @ weights) ** 2).sum(1)
    return errors
