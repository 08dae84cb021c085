"""Uniformly random actions, for any environment."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reelworld.envs.simulator import EnvAction, Simulator, StreamAction
from reelworld.types import ActionSpec


def uniform(simulator: Simulator, rng: np.random.Generator) -> Iterator[EnvAction]:
    """Draw actions of every stream uniformly; dimensions without bounds from a standard normal."""
    specs = simulator.action_specs
    while True:
        actions = {name: _draw(spec, rng) for name, spec in specs.items()}
        yield actions if len(specs) > 1 else next(iter(actions.values()))


def _draw(spec: ActionSpec, rng: np.random.Generator) -> StreamAction:
    if spec.kind == "discrete":
        return int(rng.integers(spec.n))
    if spec.kind == "buttons":
        return rng.integers(0, 2, spec.n).astype(np.float32)
    if spec.low:
        return rng.uniform(spec.low, spec.high).astype(np.float32)
    return rng.standard_normal(spec.n).astype(np.float32)
