"""Who acts while a simulator is recorded: named policies, and mixtures of them.

A policy is a generator: it is started after a reset, asked for one action after the other, and may look at the
simulator (its state, its observation, its frame) each time it is asked. Its random numbers come from the
generator it is given and from nowhere else, so an episode is a function of its seed. When it ends, so does the
episode. Your own policy is named ``module:function``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from reelworld.config import closest
from reelworld.types import UserError

if TYPE_CHECKING:
    import numpy as np

    from reelworld.envs.simulator import Simulator

__all__ = ["POLICIES", "Policy", "parse_mixture", "resolve_policy"]

POLICIES = {
    "random": "reelworld.envs.policies.random:uniform",
    "explorer": "reelworld.envs.policies.minigrid:explorer",
    "carrier": "reelworld.envs.policies.minigrid:carrier",
    "solver": "reelworld.envs.policies.minigrid:solver",
    "glancer": "reelworld.envs.policies.minigrid:glancer",
    "waypoints": "reelworld.envs.policies.minigrid:waypoints",
    "driver": "reelworld.envs.policies.carracing:driver",
    "smooth": "reelworld.envs.policies.robots:smooth",
    "balancer": "reelworld.envs.policies.robots:balancer",
    "reacher": "reelworld.envs.policies.robots:reacher",
}
"""Short name -> 'module:function'."""


class Policy(Protocol):
    """Yields the actions of one episode."""

    def __call__(self, simulator: Simulator, rng: np.random.Generator) -> Iterator[Any]:
        """Yield ids in [0, n) or vectors (A,), as ``simulator.action_spec`` says, one per recorded step."""
        ...


def parse_mixture(text: str) -> dict[str, float]:
    """Read 'explorer:0.6,solver:0.2,mine.py_module:function:0.2' into name -> share of episodes (sum 1).

    A single name needs no share. A name is a key of ``POLICIES`` or 'module:function'.
    """
    shares: dict[str, float] = {}
    for entry in text.split(","):
        name, _, number = entry.strip().rpartition(":")
        try:
            share = float(number)
        except ValueError:
            name, share = entry.strip(), 1.0
        if not name or not 0 < share < float("inf") or name in shares:
            raise UserError(f"policy {text!r} has the entry {entry!r}; wanted NAME:SHARE once each, share above 0.")
        _check_name(name)
        shares[name] = share
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def resolve_policy(name: str) -> Policy:
    """Import a policy by its short name or 'module:function'."""
    from reelworld.envs.simulator import import_object

    _check_name(name)
    policy: Policy = import_object(POLICIES.get(name, name), "a policy function")
    return policy


def _check_name(name: str) -> None:
    if name not in POLICIES and ":" not in name:
        raise UserError(
            f"unknown policy {name!r}{closest(name, POLICIES) or ';'} Known: {', '.join(sorted(POLICIES))}, "
            "or your own as 'module:function'."
        )
