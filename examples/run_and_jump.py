"""Run and jump: a game of two buttons that count together, and a policy that holds each combination for a while.

    cd examples
    reelworld record --play run_and_jump:RunJump-v0 --out recordings/mine
    reelworld record run_and_jump:RunJump-v0 --policy run_and_jump:holding --episodes 100 --out recordings/runjump

The right arrow runs, space jumps. A jump is higher while space is held, and only a running jump gets over a block.
The action space is MultiBinary, so a recording has a stream of buttons, and worlds of it take both at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

SIZE, GROUND, RUNNER_X = 64, 52, 18  # pixels; the runner stays at a column, the ground moves
PERIOD, BLOCK_AT, BLOCK_WIDTH, BLOCK_HEIGHT = 56, 36, 8, 8
TOP_SPEED, ACCELERATION = 3.0, 1.0  # pixels per step
LIFT, GRAVITY, GRAVITY_HELD = 5.0, 1.6, 0.8
COMBINATIONS = ((0, 0), (1, 0), (0, 1), (1, 1))  # (run, jump)


class RunJump(gym.Env):
    """A runner among blocks; reward 1 for each block that lies behind."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    action_space = gym.spaces.MultiBinary(2)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def get_keys_to_action(self) -> dict[tuple[int, ...], list[int]]:
        """Return the buttons of each key, as gymnasium.utils.play reads them."""
        return {(1073741903,): [1, 0], (32,): [0, 1]}  # pygame's right arrow and space

    def get_action_meanings(self) -> list[str]:
        """Return the names of the buttons."""
        return ["run", "jump"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start at a place that the seed decides."""
        super().reset(seed=seed)
        self.x, self.height = float(self.np_random.integers(0, 20)), 0.0
        self.speed = self.rise = 0.0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move for a frame with the buttons (run, jump), each 0 or 1."""
        run, jump = (bool(button) for button in action)
        change = ACCELERATION if run else -ACCELERATION
        self.speed = float(np.clip(self.speed + change, 0.0, TOP_SPEED))
        floor = self._floor(self.x)
        if self.height <= floor and jump:
            self.rise = LIFT
        if self.height > floor or self.rise > 0:
            self.height = max(floor, self.height + self.rise)
            self.rise -= GRAVITY_HELD if jump and self.rise > 0 else GRAVITY
        if self.height <= floor and self.rise < 0:
            self.rise = 0.0
        if self._floor(self.x + self.speed) > self.height:
            self.speed = 0.0  # against a block
        passed = (self.x + self.speed) // PERIOD - self.x // PERIOD
        self.x += self.speed
        return self._observation(), float(passed), False, False, {}

    def _floor(self, x: float) -> float:
        """Return the height of the ground under the runner, 6 pixels wide."""
        left, right = (x - BLOCK_AT) % PERIOD, (x + 5 - BLOCK_AT) % PERIOD
        return float(BLOCK_HEIGHT if left < BLOCK_WIDTH or right < BLOCK_WIDTH else 0)

    def _observation(self) -> np.ndarray:
        return np.array([self.x % PERIOD, self.height, self.speed, self.rise], np.float32)

    def render(self) -> np.ndarray:
        """Draw the runner, the ground and the blocks, uint8 (64, 64, 3)."""
        picture = np.full((SIZE, SIZE, 3), (120, 180, 235), np.uint8)
        columns = np.arange(SIZE) + round(self.x) - RUNNER_X
        picture[GROUND:] = np.where((columns // 4 % 2 == 0)[:, None], (96, 64, 40), (120, 84, 52))
        picture[GROUND : GROUND + 2] = (70, 150, 60)
        is_block = (columns - BLOCK_AT) % PERIOD < BLOCK_WIDTH
        picture[GROUND - BLOCK_HEIGHT : GROUND, is_block] = (150, 60, 50)
        foot = GROUND - round(self.height)
        top = max(0, foot - 10)
        picture[top : max(0, foot - 6), RUNNER_X : RUNNER_X + 6] = (250, 210, 160)
        picture[max(0, foot - 6) : foot, RUNNER_X : RUNNER_X + 6] = (240, 60, 120)
        return picture


def holding(simulator: Any, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Policy: hold a random combination of the buttons for 3 to 9 steps, then the next."""
    while True:
        buttons = np.array(COMBINATIONS[rng.integers(4)], np.float32)
        for _ in range(rng.integers(3, 10)):
            yield buttons


gym.register("RunJump-v0", lambda **options: RunJump(**options))
