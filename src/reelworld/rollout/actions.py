"""Random and null actions of an action stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from reelworld.types import ActionSpec

HELD_PROB = 0.3
"""Probability that a random action holds a button."""


def null_action(spec: ActionSpec) -> Any:
    """Return the null action: the spec's own, else id 0 or the middle of the range."""
    if spec.null is not None:
        return spec.null
    if spec.kind == "discrete":
        return 0
    low, high = spec.low or (0.0,) * spec.n, spec.high or (0.0,) * spec.n
    return [(a + b) / 2 for a, b in zip(low, high, strict=True)]


def random_actions(spec: ActionSpec, n_steps: int, rng: np.random.Generator) -> np.ndarray:
    """Sample actions that are held for a few steps each, as a person's are; (S, ...)."""
    ends = np.cumsum(rng.integers(1, 9, n_steps))
    which = np.searchsorted(ends, np.arange(n_steps), side="right")
    if spec.kind == "discrete":
        held = rng.integers(0, spec.n, n_steps)[which]
        return held if spec.repeat == 1 else np.repeat(held[:, None], spec.repeat, 1)
    if spec.kind == "buttons":
        pressed = (rng.random((n_steps, spec.n)) < HELD_PROB).astype(np.float32)[which]
        return pressed if spec.repeat == 1 else np.repeat(pressed[:, None], spec.repeat, 1)
    low, high = spec.low or (-1.0,) * spec.n, spec.high or (1.0,) * spec.n
    vectors: np.ndarray = rng.uniform(low, high, (n_steps, spec.n)).astype(np.float32)[which]
    return vectors if spec.repeat == 1 else np.repeat(vectors[:, None], spec.repeat, 1)
