"""Who moves robots: smooth noise for any continuous actions, and two that know their task, with moods.

``balancer`` swings the pole of a cart up and balances it, ``reacher`` moves a two-link arm to its target. Both take to
noise or let go every now and then, so that a world sees the pole fall, the arm wander, and rewards come and go.
Uniformly random actions cancel out within a few steps: a robot then trembles on the spot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.envs.simulator import Simulator

__all__ = ["balancer", "reacher", "smooth"]

Skill = Callable[[], np.ndarray]
MEMORY = 0.85
"""Share of the noise that stays from one step to the next."""
SPREAD = 0.6
"""Standard deviation of the noise, in halves of an action's range."""


def smooth(simulator: Simulator, rng: np.random.Generator) -> Iterator[Any]:
    """Yield noise that changes slowly (an Ornstein-Uhlenbeck process), clipped to the actions' bounds."""
    middle, half = _range(simulator)
    for noise in _noise(rng, len(middle)):
        yield (middle + half * np.clip(noise, -1, 1)).astype(np.float32)


def balancer(simulator: Simulator, rng: np.random.Generator) -> Iterator[Any]:
    """Swing the pole up and balance it; push it about or let it fall in between."""
    moods = {"skill": (0.6, (40, 100)), "noise": (0.25, (5, 20)), "rest": (0.15, (5, 20))}
    return _moody(simulator, rng, moods, _pole(simulator))


def reacher(simulator: Simulator, rng: np.random.Generator) -> Iterator[Any]:
    """Move the fingertip to the target and hold it there; wander off in between."""
    moods = {"skill": (0.45, (15, 50)), "noise": (0.45, (10, 40)), "rest": (0.1, (3, 10))}
    return _moody(simulator, rng, moods, _arm(simulator))


def _moody(
    simulator: Simulator,
    rng: np.random.Generator,
    moods: dict[str, tuple[float, tuple[int, int]]],
    skill: Skill,
) -> Iterator[Any]:
    """Change between skill, noise and rest: name -> (share of changes, least and most steps)."""
    middle, half = _range(simulator)
    noise = _noise(rng, len(middle))
    shares = [share for share, _ in moods.values()]
    while True:
        mood = str(rng.choice(list(moods), p=shares))
        for _ in range(int(rng.integers(*moods[mood][1], endpoint=True))):
            drift = next(noise)
            wanted = {"skill": skill() + 0.15 * drift, "noise": drift, "rest": 0 * drift}[mood]
            yield (middle + half * np.clip(wanted, -1, 1)).astype(np.float32)


def _noise(rng: np.random.Generator, n: int) -> Iterator[np.ndarray]:
    """Yield vectors (n,) of mean 0 and deviation ``SPREAD``, each near the one before."""
    value = SPREAD * rng.standard_normal(n)
    while True:
        yield value
        value = MEMORY * value + SPREAD * np.sqrt(1 - MEMORY**2) * rng.standard_normal(n)


def _range(simulator: Simulator) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half width of each action's range; 0 and 1 where there are no bounds."""
    spec = simulator.action_spec
    if spec.kind != "continuous":
        raise UserError(f"this policy needs continuous actions; {simulator.config.env_id} has none, use 'random'.")
    low, high = (np.array(spec.low), np.array(spec.high)) if spec.low else (-np.ones(spec.n), np.ones(spec.n))
    return (low + high) / 2, (high - low) / 2


def _pole(simulator: Simulator) -> Skill:
    """Return what brings a pole up and keeps it there: a function that gives the push (1,), in halves of the range.

    Below, the cart moves so that the pole gains the energy that it has at the top; near the top, the state is fed back.
    """
    data = _state(simulator, "dm_control/cartpole-*", "InvertedPendulum-v*")
    if data is None or len(data.qpos) != 2:
        raise UserError(f"this policy needs a cart with one pole; {simulator.config.env_id} came, use 'smooth'.")

    def push() -> np.ndarray:
        (place, angle), (speed, turn) = data.qpos, data.qvel
        lean = (angle + np.pi) % (2 * np.pi) - np.pi  # 0 is upright
        if abs(lean) < 0.5:
            return np.array([0.2 * place + 0.3 * speed + 3 * lean + 0.8 * turn])
        missing = (
            turn**2 / (3 * 9.81) + np.cos(lean) - 1
        )  # energy of a pole of 1 m, in units of its weight; 0 at the top
        return np.array([missing * turn * np.cos(lean) - 0.5 * place - 0.2 * speed])

    return push


def _arm(simulator: Simulator) -> Skill:
    """Return what pulls the fingertip to the target: a function that gives both torques (2,), in halves of the range.

    A spring between fingertip and target, turned into torques of shoulder and wrist, and a brake on both.
    """
    data = _state(simulator, "dm_control/reacher-*", "Reacher-v*")
    if data is None:
        raise UserError(f"this policy needs a reacher; {simulator.config.env_id} came, use 'smooth'.")
    is_suite = simulator.config.env_id.startswith("dm_control/")
    tip = (data.geom("finger") if is_suite else data.body("fingertip")).xpos
    target = data.geom("target").xpos
    stiffness, brake = (80, 0.2) if is_suite else (20, 0.1)

    def pull() -> np.ndarray:
        lever_x, lever_y = (tip[:2] - data.xanchor[:2, :2]).T  # from each joint to the fingertip
        to_x, to_y = target[:2] - tip[:2]
        return stiffness * (lever_x * to_y - lever_y * to_x) - brake * data.qvel[:2]

    return pull


def _state(simulator: Simulator, *patterns: str) -> Any:
    """Return MuJoCo's live state of an environment, ``mujoco.MjData``; None when it matches none of the patterns."""
    if not any(fnmatchcase(simulator.config.env_id, pattern) for pattern in patterns):
        return None
    env: Any = simulator.env.unwrapped
    return env.data
