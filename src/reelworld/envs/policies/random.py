"""Uniformly random actions, for any environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from reelworld.envs.simulator import Simulator

__all__ = ["uniform"]


def uniform(simulator: Simulator, rng: np.random.Generator) -> Iterator[Any]:
    """Draw every action anew; dimensions without bounds are drawn from a standard normal."""
    spec = simulator.action_spec
    while True:
        if spec.kind == "discrete":
            yield int(rng.integers(spec.n))
        elif spec.low:
            yield rng.uniform(spec.low, spec.high).astype(np.float32)
        else:
            yield rng.standard_normal(spec.n).astype(np.float32)
