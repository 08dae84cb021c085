"""The full view of a MiniGrid world, drawn from a table of its distinct tiles.

The library draws 64 tiles one by one (about 2,000 frames a second); looking them up gives tens of thousands.
Tiles come from the library's own ``Grid.render_tile`` under its own key, so the pixels are the same bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from minigrid.core.grid import Grid

__all__ = ["TileAtlas"]


class TileAtlas:
    """Distinct tiles met so far, at one tile size and without highlighting."""

    def __init__(self, tile_size: int) -> None:
        self.tile_size = tile_size
        self._ids: dict[Any, int] = {}
        self._tiles = np.zeros((0, tile_size, tile_size, 3), np.uint8)

    def paint(self, env: Any) -> np.ndarray:
        """Draw an environment's grid and agent, uint8 (rows * tile_size, columns * tile_size, 3)."""
        grid, known = env.grid, self._ids
        keys: list[Any] = [cell and cell.encode() for cell in grid.grid]
        agent = int(env.agent_pos[1]) * grid.width + int(env.agent_pos[0])
        keys[agent] = (keys[agent], int(env.agent_dir))
        try:
            ids = [known[key] for key in keys]
        except KeyError:
            ids = [self._id(key, cell) for key, cell in zip(keys, grid.grid, strict=True)]
        size, rows, columns = self.tile_size, grid.height, grid.width
        tiles = self._tiles[ids].reshape(rows, columns, size, size, 3)
        return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3)

    def _id(self, key: Any, cell: Any) -> int:
        if key not in self._ids:
            direction = key[1] if isinstance(key, tuple) and len(key) == 2 else None
            tile = Grid.render_tile(cell, agent_dir=direction, highlight=False, tile_size=self.tile_size)
            # Cached tiles are floats; assigning them into a uint8 image truncates, and so must we.
            self._tiles = np.concatenate([self._tiles, tile.astype(np.uint8)[None]])
            self._ids[key] = len(self._ids)
        return self._ids[key]
