"""Policies for recordings: named ones, your own, and mixtures.

A policy is a generator. It is started after a reset and yields one action per step; before each it may read the
simulator: its state, its observation, its frame. It draws random numbers only from the generator it is given, so an
episode is a function of its seed. The episode ends with the policy. Your own policy is named ``module:function``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from reelworld.config import closest
from reelworld.envs.old_api import describe_error
from reelworld.envs.simulator import EnvAction, Simulator, import_object
from reelworld.types import UserError

POLICIES = {
    "random": "reelworld.envs.policies.random:uniform",
    "explorer": "reelworld.envs.policies.minigrid:explorer",
    "carrier": "reelworld.envs.policies.minigrid:carrier",
    "solver": "reelworld.envs.policies.minigrid:solver",
    "glancer": "reelworld.envs.policies.minigrid:glancer",
    "waypoints": "reelworld.envs.policies.minigrid:waypoints",
    "driver": "reelworld.envs.policies.carracing:driver",
    "paddle": "reelworld.envs.policies.atari:paddle",
    "crossing": "reelworld.envs.policies.atari:crossing",
    "tennis": "reelworld.envs.policies.atari:tennis",
    "smooth": "reelworld.envs.policies.robots:smooth",
    "balancer": "reelworld.envs.policies.robots:balancer",
    "reacher": "reelworld.envs.policies.robots:reacher",
}
"""Short name -> 'module:function'."""


class Policy(Protocol):
    """Generator function of the actions of one episode."""

    def __call__(self, simulator: Simulator, rng: np.random.Generator) -> Iterator[EnvAction]:
        """Yield one action per recorded step: ids in [0, n) or vectors (A,), as in ``simulator.action_spec``."""
        ...


def parse_mixture(text: str) -> dict[str, float]:
    """Parse 'explorer:0.6,solver:0.2,my.module:function:0.2' into name -> probability of an episode.

    A single name needs no probability. A name is a key of ``POLICIES`` or 'module:function'. Probabilities are
    normalised to sum 1.
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
    _check_name(name)
    policy: Policy = import_object(POLICIES.get(name, name), "a policy function")
    return policy


def actions_of(name: str, simulator: Simulator, rng: np.random.Generator) -> Iterator[EnvAction]:
    """Start a policy and yield its actions.

    Args:
        name: Short name or 'module:function'.
        simulator: After a reset.
        rng: Random numbers of the policy.

    Raises:
        UserError: If it is no generator function of these two arguments, or fails.
    """
    policy = resolve_policy(name)
    try:
        actions = policy(simulator, rng)
        if not isinstance(actions, Iterator):
            raise UserError(
                f"policy {name} returned {type(actions).__name__}; wanted a generator function "
                "policy(simulator, rng) that yields one action per step."
            )
        yield from actions
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"policy {name} failed: {describe_error(error)}; wanted a generator function policy(simulator, rng) that "
            "yields one action per step."
        ) from error


def _check_name(name: str) -> None:
    if name not in POLICIES and ":" not in name:
        raise UserError(
            f"unknown policy {name!r}{closest(name, POLICIES) or ';'} Known: {', '.join(sorted(POLICIES))}, "
            "or your own as 'module:function'."
        )
