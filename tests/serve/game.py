"""Toy environment with known pixels: the square of ``squares`` in gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from tests.serve.squares import SIZE, SquareWorld, picture, turn_world

from reelworld.config import to_json
from reelworld.envs.presets import SimulatorConfig

ID = "tests.serve.game:Square-v0"
MODULE = "tests.serve.game"


class SquareGame(gym.Env):
    """Right, down, left; the seed says where it begins; it ends after ``length`` steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space = gym.spaces.Discrete(3)
    observation_space = gym.spaces.Box(0, 7, (2,), np.int64)

    def __init__(self, length: int = 99, height: int = SIZE, render_mode: str | None = None) -> None:
        self.length, self.height, self.render_mode = length, height, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cell, self.n_steps = np.array([(seed or 0) % 8, 3]), 0
        return self.cell, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.cell = np.clip(self.cell + [(1, 0), (0, 1), (-1, 0)][action], 0, 7)
        self.n_steps += 1
        return self.cell, 0.25, self.n_steps >= self.length, False, {}

    def render(self) -> np.ndarray:
        return picture(*self.cell)[: self.height]


class Blind(SquareGame):
    metadata = {"render_modes": ["human"]}  # noqa: RUF012


gym.register("Square-v0", SquareGame)
gym.register("Blind-v0", Blind)


def learned_world(stride: int = 1, simulator: dict[str, Any] | None = None, **world: Any) -> SquareWorld:
    """A world that says it was learned from the game."""
    described = to_json(SimulatorConfig(env_id=ID)) | (simulator or {})
    made = turn_world(**world)
    made.info.provenance = {"data": {"simulator": described}, "config": {"frame_stride": stride}}
    return made
