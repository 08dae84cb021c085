"""Policies for robots: smooth noise for any continuous actions, and two controllers with behaviour modes.

``balancer`` swings the pole of a cart up and balances it, ``reacher`` moves a two-link arm to its target. Both change
between skill, noise and rest, so that recordings also show the pole fall, the arm wander, and rewards come and go.
Uniformly random actions are no use: they cancel out within a few steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from reelworld.envs.simulator import Simulator
from reelworld.types import UserError

Skill = Callable[[], np.ndarray]
"""Controller: returns an action (A,) for the current state, in halves of the actions' range."""
Modes = Mapping[str, tuple[float, tuple[int, int]]]
"""Behaviour mode ("skill", "noise", "rest") -> (probability, (least, most) steps)."""
MEMORY = 0.85
"""Autocorrelation of the noise from one step to the next."""
NOISE_STD = 0.6
"""Standard deviation of the noise, in halves of an action's range."""


def smooth(simulator: Simulator, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield noise that changes slowly (an Ornstein-Uhlenbeck process), clipped to the actions' bounds."""
    middle, half = _range(simulator)
    for noise in _noise(rng, len(middle)):
        yield (middle + half * np.clip(noise, -1, 1)).astype(np.float32)


def balancer(simulator: Simulator, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Swing the pole up and balance it; push it about or let it fall in between."""
    modes = {"skill": (0.6, (40, 100)), "noise": (0.25, (5, 20)), "rest": (0.15, (5, 20))}
    return _in_modes(simulator, rng, modes, _pole_controller(simulator))


def reacher(simulator: Simulator, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Move the fingertip to the target and hold it; wander off in between."""
    modes = {"skill": (0.45, (15, 50)), "noise": (0.45, (10, 40)), "rest": (0.1, (3, 10))}
    return _in_modes(simulator, rng, modes, _arm_controller(simulator))


def _in_modes(simulator: Simulator, rng: np.random.Generator, modes: Modes, skill: Skill) -> Iterator[np.ndarray]:
    """Change between skill, noise and rest."""
    middle, half = _range(simulator)
    noise = _noise(rng, len(middle))
    probabilities = [probability for probability, _ in modes.values()]
    while True:
        mode = str(rng.choice(list(modes), p=probabilities))
        for _ in range(int(rng.integers(*modes[mode][1], endpoint=True))):
            drift = next(noise)
            action = {"skill": skill() + 0.15 * drift, "noise": drift, "rest": 0 * drift}[mode]
            yield (middle + half * np.clip(action, -1, 1)).astype(np.float32)


def _noise(rng: np.random.Generator, n: int) -> Iterator[np.ndarray]:
    """Yield vectors (n,) of mean 0 and deviation ``NOISE_STD``, autocorrelated by ``MEMORY``."""
    value = NOISE_STD * rng.standard_normal(n)
    while True:
        yield value
        value = MEMORY * value + NOISE_STD * np.sqrt(1 - MEMORY**2) * rng.standard_normal(n)


def _range(simulator: Simulator) -> tuple[np.ndarray, np.ndarray]:
    """Return middle and half width of each action's range; 0 and 1 without bounds."""
    spec = simulator.action_spec
    if spec.kind != "continuous":
        raise UserError(f"this policy needs continuous actions; {simulator.config.env_id} has none, use 'random'.")
    low, high = (np.array(spec.low), np.array(spec.high)) if spec.low else (-np.ones(spec.n), np.ones(spec.n))
    return (low + high) / 2, (high - low) / 2


def _pole_controller(simulator: Simulator) -> Skill:
    """Return a controller that swings a pole up and balances it: the push (1,).

    Swing-up controls the energy of the pole; near the top, linear feedback of the state balances it.
    """
    data = _state(simulator, "dm_control/cartpole-*", "InvertedPendulum-v*")
    if data is None or len(data.qpos) != 2:
        raise UserError(f"this policy needs a cart with one pole; {simulator.config.env_id} came, use 'smooth'.")

    def push() -> np.ndarray:
        (place, angle), (speed, turn) = data.qpos, data.qvel
        lean = (angle + np.pi) % (2 * np.pi) - np.pi  # 0 is upright
        if abs(lean) < 0.5:
            return np.array([0.2 * place + 0.3 * speed + 3 * lean + 0.8 * turn])
        energy = turn**2 / (3 * 9.81) + np.cos(lean) - 1  # of a pole of 1 m, in units of its weight; 0 at the top
        return np.array([energy * turn * np.cos(lean) - 0.5 * place - 0.2 * speed])

    return push


def _arm_controller(simulator: Simulator) -> Skill:
    """Return a controller that moves the fingertip to the target: the torques of shoulder and wrist (2,).

    A spring between fingertip and target (Jacobian transpose), with damping of both joints.
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
        out: np.ndarray = stiffness * (lever_x * to_y - lever_y * to_x) - brake * data.qvel[:2]
        return out

    return pull


def _state(simulator: Simulator, *patterns: str) -> Any:
    """Return the live ``mujoco.MjData`` of an environment; None when its name matches no pattern."""
    if not any(fnmatchcase(simulator.config.env_id, pattern) for pattern in patterns):
        return None
    env: Any = simulator.env.unwrapped
    return env.data
