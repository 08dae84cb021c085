"""Driver for CarRacing with behaviour modes, so that recordings show more than good driving.

It steers to a point ahead on the track, at a speed that the bends ahead allow. Every 5-60 steps it changes its mode:
drive, hurry, weave, hold random keys, leave the road to one side (and return), stop. Random play would not move, and a
perfect driver never brakes on a straight or returns from the grass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reelworld.envs.presets import CAR_PEDALS, CAR_STEERINGS
from reelworld.envs.simulator import EnvAction, Simulator
from reelworld.types import ActionSpec, UserError

GAS, COAST, BRAKE = range(3)
MODES: dict[str, tuple[float, tuple[int, int]]] = {
    "drive": (0.32, (15, 60)),
    "hurry": (0.15, (10, 40)),
    "weave": (0.13, (10, 40)),
    "hold": (0.12, (5, 15)),
    "leave": (0.13, (10, 30)),
    "stop": (0.15, (6, 25)),
}
"""Behaviour mode -> (probability, (least, most) steps)."""
RANDOM_PROB = 0.05
"""Probability of a uniformly random pair of keys per step, in every mode."""


def driver(simulator: Simulator, rng: np.random.Generator) -> Iterator[EnvAction]:
    """Drive; yields ids of the nine joint or five stock actions, or (steer, gas, brake)."""
    env: Any = simulator.env.unwrapped
    if not hasattr(env, "track"):
        raise UserError(f"this policy needs CarRacing; {simulator.config.env_id} came, use 'random' or your own.")
    road = np.array([tile[2:4] for tile in env.track])
    while True:
        mode = str(rng.choice(list(MODES), p=[probability for probability, _ in MODES.values()]))
        dead_zone, side = rng.uniform(0.08, 0.2), float(rng.choice([-1, 1]))
        side *= rng.uniform(8, 14) if mode == "leave" else 1  # the road is 6.7 to each side
        held = int(rng.integers(-1, 2)), int(rng.integers(3))
        for t in range(int(rng.integers(*MODES[mode][1], endpoint=True))):
            steering, pedal = _act(env, road, mode, t, dead_zone, side, held)
            if rng.random() < RANDOM_PROB:
                steering, pedal = int(rng.integers(-1, 2)), int(rng.integers(3))
            yield encode_keys(simulator.action_spec, steering, pedal, rng)


def _act(
    env: Any, road: np.ndarray, mode: str, t: int, dead_zone: float, side: float, held: tuple[int, int]
) -> tuple[int, int]:
    """Choose steering (-1 left, 0, 1 right) and pedal for one step."""
    if mode == "hold":
        return held
    speed = float(np.hypot(*env.car.hull.linearVelocity))
    angle, bend = _preview_road(env, road, speed, side if mode == "leave" else 0)
    if mode == "weave":
        angle += 0.35 * side * (1 if t // 6 % 2 else -1)
    steering = 0 if abs(angle) < dead_zone else int(np.sign(angle))
    if mode == "stop":
        return steering, BRAKE if speed > 1 else COAST
    target = (55 if mode == "hurry" else 38) / (1 + 2.2 * bend)
    target = min(target, 15) if abs(angle) > 1 else target
    pedal = GAS if speed < target else BRAKE if speed > 1.15 * target + 3 else COAST
    return steering, pedal


def _preview_road(env: Any, road: np.ndarray, speed: float, aside: float) -> tuple[float, float]:
    """Return the angle to a point ahead, ``aside`` units right of the road, and the bend of the road beyond it.

    Returns:
        Both in radians; the angle is positive to the right.
    """
    hull = env.car.hull
    nearest = int(np.square(road - np.array(hull.position)).sum(1).argmin())
    n_tiles = 3 + int(0.08 * speed)
    target, after = road[(nearest + n_tiles + np.arange(2)) % len(road)]
    along = (after - target) / np.hypot(*(after - target))
    x, y = hull.GetLocalPoint((target + aside * along[::-1] * (1, -1)).tolist())
    ahead = (nearest + np.arange(0, 3 * n_tiles, 2)) % len(road)
    legs = np.diff(road[ahead], axis=0)
    headings = np.unwrap(np.arctan2(legs[:, 1], legs[:, 0]))
    return float(np.arctan2(x, y)), float(np.abs(headings - headings[0]).max())


def encode_keys(spec: ActionSpec, steering: int, pedal: int, rng: np.random.Generator) -> EnvAction:
    """Encode steering (-1 left, 0, 1 right) and pedal (0 gas, 1 coast, 2 brake) as an action of CarRacing."""
    if spec.kind == "continuous":
        return np.array([CAR_STEERINGS[steering + 1], *CAR_PEDALS[pedal]], np.float32)
    if spec.n == 9:
        return len(CAR_PEDALS) * (steering + 1) + pedal
    # Stock actions exclude each other: brake first, else steer two steps of three.
    if pedal == BRAKE or steering == 0 or rng.random() < 1 / 3:
        return {GAS: 3, COAST: 0, BRAKE: 4}[pedal]
    return 1 if steering > 0 else 2
