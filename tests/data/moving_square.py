"""Recordings of a red square that moves as its actions say, and the proof that a reader kept the two together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reelworld.data.dataset import Dataset

STEP = 3
"""Pixels that the square moves in a step: left for action 0, none for 1, right for 2."""


def episode(seed: int, n: int = 24, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Return frames uint8 (n, size, size, 3) and the ids int64 (n,) taken after each; the square never meets a wall."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((n, size, size, 3), np.uint8)
    frames[..., 1] = np.linspace(20, 90, size, dtype=np.uint8)
    x, y = int(rng.integers(12, size - 24)), int(rng.integers(8, size - 20))
    actions = np.zeros(n, np.int64)
    for t in range(n):
        frames[t, y : y + 12, x : x + 12] = (230, 40, 40)
        low, high = x < STEP, x > size - 12 - STEP
        actions[t] = rng.integers(1 if low else 0, 2 if high else 3)
        x += (int(actions[t]) - 1) * STEP
    frames[:, :6, :6] = (40, 40, 240)
    return frames, actions


def positions(frames: np.ndarray) -> np.ndarray:
    """Return the column of the square's middle in each frame, also after lossy compression and resizing."""
    wide = frames.astype(int)
    weights = np.clip(wide[..., 0] - np.maximum(wide[..., 1], wide[..., 2]) - 60, 0, None).sum(axis=1)
    return (weights * np.arange(frames.shape[2])).sum(axis=1) / weights.sum(axis=1)


def ids(actions: np.ndarray) -> np.ndarray:
    """Return discrete actions as they are."""
    return actions


def check_alignment(
    dataset: Dataset, to_ids: Callable[[np.ndarray], np.ndarray] = ids, stream: str = "action", slack: float = 0.5
) -> int:
    """Check that every action leads from its frame to the next one, and that no other alignment would do.

    Args:
        dataset: Recordings of ``episode``.
        to_ids: Turns the actions of a clip into 0, 1 and 2.
        stream: Name of the actions.
        slack: Pixels that a position may be off.

    Returns:
        Steps that were checked.
    """
    n_checked = n_wrong_if_shifted = 0
    for i in dataset.indices("all"):
        clip = dataset.read(i)
        moved = np.diff(positions(clip.frames)) / STEP
        taken = to_ids(clip.actions[stream])[:-1] - 1
        np.testing.assert_allclose(moved, taken, atol=slack / STEP)
        n_checked += len(taken)
        n_wrong_if_shifted += int((np.abs(moved[1:] - taken[:-1]) > 0.5).sum())
    assert n_wrong_if_shifted > n_checked / 4
    return n_checked
