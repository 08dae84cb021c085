"""Fast rendering of MiniGrid's map: a lookup in a table of its distinct tiles.

The library copies 64 tiles one by one (about 2,000 frames per second); a lookup makes tens of thousands. Tiles come
from the library's own ``Grid.render_tile`` under its own key, so the pixels are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import gymnasium as gym
import numpy as np
from minigrid.core.grid import Grid


class TileRenderer(gym.Wrapper):
    """MiniGrid environment whose map is rendered from cached tiles.

    The library itself renders where cells in view are highlighted or the view is the agent's. Otherwise the egocentric
    observation, 9/10 of the time of a step, is computed on request only: see ``observe``.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        inner: Any = env.unwrapped
        self._is_plain = not (inner.highlight or inner.agent_pov)
        if self._is_plain:
            inner.gen_obs = dict
        self._ids: dict[Any, int] = {}
        self._tiles = np.zeros((0, inner.tile_size, inner.tile_size, 3), np.uint8)

    def observe(self) -> dict[str, Any]:
        """Compute the agent's observation of the current state."""
        inner: Any = self.env.unwrapped
        out: dict[str, Any] = type(inner).gen_obs(inner)
        return out

    def render(self) -> Any:
        """Render grid and agent, uint8 (rows * tile_size, columns * tile_size, 3)."""
        if not self._is_plain:
            return self.env.render()
        inner: Any = self.env.unwrapped
        grid, known = inner.grid, self._ids
        keys: list[Any] = [cell and cell.encode() for cell in grid.grid]
        agent = int(inner.agent_pos[1]) * grid.width + int(inner.agent_pos[0])
        keys[agent] = (keys[agent], int(inner.agent_dir))
        try:
            ids = [known[key] for key in keys]
        except KeyError:
            ids = [self._id(key, cell) for key, cell in zip(keys, grid.grid, strict=True)]
        size, rows, columns = inner.tile_size, grid.height, grid.width
        tiles = self._tiles[ids].reshape(rows, columns, size, size, 3)
        return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3)

    def _id(self, key: Hashable, cell: Any) -> int:
        if key not in self._ids:
            direction = key[1] if isinstance(key, tuple) and len(key) == 2 else None
            tile = Grid.render_tile(cell, agent_dir=direction, highlight=False, tile_size=self._tiles.shape[1])
            # The library caches tiles as floats and truncates when it assigns them into a uint8 image.
            self._tiles = np.concatenate([self._tiles, tile.astype(np.uint8)[None]])
            self._ids[key] = len(self._ids)
        return self._ids[key]
