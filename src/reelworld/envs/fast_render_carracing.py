"""Fast rendering of CarRacing at an eighth of the cost, and nine joint keyboard actions.

The stock environment renders 1000x800 pixels at every physics step and shrinks them. Here a step renders nothing;
``render`` draws one frame at 5x4 times its size and takes the exact mean. The score is left out. Road tiles keep their
first colour: the stock ones change by 2.5 grey levels when the car has passed. The physics is the stock one.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pygame
from gymnasium.envs.box2d import car_racing
from gymnasium.envs.box2d.car_racing import CarRacing

from reelworld.envs.presets import CAR_PEDALS, CAR_STEERINGS
from reelworld.types import UserError

OVER_COLUMNS, OVER_ROWS = 5, 4
"""Supersampling along columns and rows; 5 x 4 keeps the stock 1000:800 shape of a square frame."""


class FastCarRacing(CarRacing):
    """CarRacing that renders on request only."""

    _surface: pygame.Surface | None = None
    _polygons: tuple[np.ndarray, list[tuple[int, ...]]] | None = None

    def __init__(self, *, size: tuple[int, int], **settings: Any) -> None:
        """Build the environment.

        Args:
            size: Rows and columns of frames.
            settings: Arguments of the stock environment.
        """
        super().__init__(**settings)
        self._size = size

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, object]]:
        """Start an episode; see the stock environment."""
        self._polygons = None
        out: tuple[np.ndarray, dict[str, object]] = super().reset(**kwargs)
        return out

    def _render(self, mode: str) -> np.ndarray:
        # The stock step requests its declared observation at every physics step: an empty one.
        return np.zeros(self.observation_space.shape or (), np.uint8)

    def render(self) -> np.ndarray:
        """Render the current state, uint8 (H, W, 3), H = W."""
        height, width = self._size
        if height != width:
            raise UserError(f"size {height}x{width} came; fast drawing of CarRacing makes square frames.")
        if self._surface is None:
            self._surface = pygame.Surface((width * OVER_COLUMNS, height * OVER_ROWS))
        big = self._draw(self._surface)
        # Sums of strided slices take a fifth of the time of a mean over two axes.
        rows = np.zeros((height, width * OVER_COLUMNS, 3), np.uint16)
        for i in range(OVER_ROWS):
            rows += big[i::OVER_ROWS]
        boxes = np.zeros((height, width, 3), np.uint16)
        for i in range(OVER_COLUMNS):
            boxes += rows[:, i::OVER_COLUMNS]
        return np.rint(boxes / (OVER_ROWS * OVER_COLUMNS)).astype(np.uint8)

    def _draw(self, surface: pygame.Surface) -> np.ndarray:
        assert self.car is not None
        width, height = surface.get_size()
        angle = -self.car.hull.angle
        zoom = 0.1 * car_racing.SCALE * max(1 - self.t, 0) + car_racing.ZOOM * car_racing.SCALE * min(self.t, 1)
        zoom *= width / car_racing.WINDOW_W
        scroll = -np.array(self.car.hull.position) * zoom
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        shift = scroll @ turn + (width / 2, height / 4)
        surface.fill((0, 0, 0))
        self._draw_ground(surface, turn * zoom, shift)
        self.car.draw(surface, zoom, tuple(shift), angle, False)
        flipped = pygame.transform.flip(surface, False, True)
        self.surf: Any = flipped  # the stock indicators are drawn into it
        self._render_indicators(width, height)
        return np.frombuffer(pygame.image.tobytes(flipped, "RGB"), np.uint8).reshape(height, width, 3)

    def _draw_ground(self, surface: pygame.Surface, turn: np.ndarray, shift: np.ndarray) -> None:
        """Draw the grass squares and road tiles inside the picture."""
        if self._polygons is None:
            self._polygons = self._ground()
        corners, colors = self._polygons
        points = corners @ turn + shift
        low, high = points.min(1), points.max(1)
        is_visible = ((high >= 0) & (low <= surface.get_size())).all(1)
        for index in np.flatnonzero(is_visible):
            pygame.draw.polygon(surface, colors[index], points[index].tolist())

    def _ground(self) -> tuple[np.ndarray, list[tuple[int, ...]]]:
        """Return corners (n, 4, 2) in world units and one colour each: field, grass squares, road tiles."""
        step, edge = car_racing.GRASS_DIM, car_racing.PLAYFIELD
        corners = [[(edge, edge), (edge, -edge), (-edge, -edge), (-edge, edge)]]
        corners += [
            [(x + step, y), (x, y), (x, y + step), (x + step, y + step)]
            for x in np.arange(-20, 20, 2) * step
            for y in np.arange(-20, 20, 2) * step
        ]
        colors = [tuple(int(c) for c in self.bg_color)]
        colors += [tuple(int(c) for c in self.grass_color)] * (len(corners) - 1)
        for polygon, color in self.road_poly:
            corners.append([(p[0], p[1]) for p in polygon])
            colors.append(tuple(int(c) for c in color))
        return np.array(corners), colors


class JointActions(gym.ActionWrapper):
    """Nine actions for the continuous CarRacing: left, straight, right x gas, coast, brake.

    The stock discrete actions exclude each other (no gas while steering), which feels wrong on a keyboard.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        if not isinstance(env.action_space, gym.spaces.Box):
            raise UserError("the nine joint actions came for the discrete CarRacing; add --wrapper none.")
        self.action_space = gym.spaces.Discrete(len(CAR_STEERINGS) * len(CAR_PEDALS))

    def action(self, action: int) -> np.ndarray:
        """Turn an id, 3 * steering + pedal, into (steer, gas, brake)."""
        steering, pedal = divmod(int(action), len(CAR_PEDALS))
        return np.array([CAR_STEERINGS[steering], *CAR_PEDALS[pedal]], np.float32)
