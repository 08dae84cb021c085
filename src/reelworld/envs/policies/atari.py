"""Policies for Atari games that follow the ball or cross the road, with a skill that differs between episodes.

They read the console's memory (``ALEInterface.getRAM``); the addresses are those that the games use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reelworld.envs.simulator import EnvAction, Simulator

NOOP, FIRE, UP, RIGHT, LEFT = 0, 1, 1, 2, 3
"""Ids of the small action sets: Breakout NOOP, FIRE, RIGHT, LEFT; Freeway NOOP, UP, DOWN; Pong as Breakout, with RIGHT
up and LEFT down."""
SKILLS = (0.02, 0.06, 0.15)
"""Probability of each step that some random action is held for a while."""
LEAD = 3
"""Distance from the aim that is left alone."""


def paddle(simulator: Simulator, rng: np.random.Generator) -> Iterator[EnvAction]:
    """Play Breakout: serve, and keep the paddle below the ball, or off by an aim that changes now and then."""
    followed, aim = _follow(simulator, rng), 0
    for _ in range(int(rng.integers(10))):
        yield int(rng.choice([NOOP, RIGHT, LEFT]))
    yield FIRE
    waited = 0
    while True:
        ball_x, ball_y, paddle_x = (int(simulator_memory(simulator)[i]) for i in (99, 101, 72))
        if rng.random() < 0.05:
            aim = int(rng.integers(-6, 7))
        waited = waited + 1 if ball_y == 0 else 0
        if waited:  # no ball: serve after a moment
            yield FIRE if waited > 3 else int(rng.choice([NOOP, RIGHT, LEFT]))
            continue
        distance = ball_x - paddle_x - 4 + aim
        yield followed(RIGHT if distance > LEAD else LEFT if distance < -LEAD else NOOP)


def crossing(simulator: Simulator, rng: np.random.Generator) -> Iterator[EnvAction]:
    """Play Freeway: walk up."""
    followed = _follow(simulator, rng)
    while True:
        yield followed(UP)


def tennis(simulator: Simulator, rng: np.random.Generator) -> Iterator[EnvAction]:
    """Play Pong: keep the paddle at the height of the ball."""
    followed, aim = _follow(simulator, rng), 0
    while True:
        ball_y, paddle_y = (int(simulator_memory(simulator)[i]) for i in (54, 51))
        if rng.random() < 0.05:
            aim = int(rng.integers(-6, 7))
        distance = ball_y - paddle_y - 7 + aim
        yield followed(LEFT if distance > LEAD else RIGHT if distance < -LEAD else NOOP)


def simulator_memory(simulator: Simulator) -> Any:
    """Return the 128 bytes of the console's memory."""
    return simulator.env.unwrapped.ale.getRAM()  # type: ignore[attr-defined]


def _follow(simulator: Simulator, rng: np.random.Generator) -> Any:
    """Return a filter of wanted actions: now and then a random one is held for up to seven steps."""
    share, n_actions = float(rng.choice(SKILLS)), simulator.action_spec.n
    held: list[int] = []

    def act(wanted: int) -> int:
        if not held and rng.random() < share:
            held.extend([int(rng.integers(n_actions))] * int(rng.integers(1, 8)))
        return held.pop() if held else wanted

    return act
