"""Uniformly random actions, for any environment."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reelworld.envs.simulator import EnvAction, Simulator


def uniform(simulator: Simulator, rng: np.random.Generator) -> Iterator[EnvAction]:
    """Draw actions uniformly; dimensions without bounds from a standard normal."""
    spec = simulator.action_spec
    while True:
        if spec.kind == "discrete":
            yield int(rng.integers(spec.n))
        elif spec.low:
            yield rng.uniform(spec.low, spec.high).astype(np.float32)
        else:
            yield rng.standard_normal(spec.n).astype(np.float32)
