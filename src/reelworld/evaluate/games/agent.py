"""Location of the agent in tile-based games without labels: the agent is the tile that moves.

In a step that changes exactly two cells, the tile that leaves one and appears in the other is an agent tile, unless it
fills many cells of one frame, as the floor does. Further agent tiles (other directions, an agent in a doorway, on the
goal) are inferred from steps that change one or two cells. The result is used only if nearly every recorded frame has
exactly one such tile.

Shapes: T frames, R C tile rows and columns, K tiles of the atlas
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from reelworld.evaluate.tiles import TileAtlas

NOWHERE, SEVERAL = -1, -2
"""In place of a cell's number: no agent was found, or more than one."""
MIN_FRACTION = 0.99


@dataclass(frozen=True)
class AgentFinder:
    """Tiles with the agent."""

    is_agent: np.ndarray
    """bool, (K + 1,): per tile of the atlas; the last entry is for unknown tiles and False."""

    @classmethod
    def learn(cls, atlas: TileAtlas, clips: Iterable[np.ndarray]) -> AgentFinder | None:
        """Find the agent's tiles in recordings.

        Args:
            atlas: Tiles of the game.
            clips: Tile ids of recordings, int64 (T, R, C) each, -1 for unknown tiles.

        Returns:
            None if no set of tiles occurs exactly once in nearly every frame.
        """
        recordings = [ids.reshape(len(ids), -1) for ids in clips]
        n_tiles = len(atlas.tiles)
        often = np.zeros(n_tiles, bool)
        pairs, singles = [], []
        for ids in recordings:
            counts = _counts(ids, n_tiles)
            often |= (counts > 1).any(0)
            changed = ids[1:] != ids[:-1]
            n_changed = changed.sum(1)
            pairs.append(_changes(ids, changed, n_changed == 2, 2))
            singles.append(_changes(ids, changed, n_changed == 1, 1))
        is_agent = _grow(np.concatenate(pairs), np.concatenate(singles), often)
        finder = cls(is_agent=np.append(is_agent, False))
        cells = np.concatenate([finder.cells(ids[:, None]) for ids in recordings])
        return finder if is_agent.any() and (cells >= 0).mean() >= MIN_FRACTION else None

    def cells(self, ids: np.ndarray) -> np.ndarray:
        """Return the cell of the agent.

        Args:
            ids: int64, (..., R, C), as the atlas gives them.

        Returns:
            int64, (...): number of the cell, rows first; ``NOWHERE`` or ``SEVERAL`` where there is not one agent.
        """
        here = self.is_agent[ids].reshape(*ids.shape[:-2], -1)
        n = here.sum(-1)
        return np.where(n == 1, here.argmax(-1), np.where(n == 0, NOWHERE, SEVERAL))


def most_frequent(cells: np.ndarray) -> np.ndarray:
    """Return the agent's cell in most samples.

    Args:
        cells: int64, (n, S): a cell per sample; negative for samples without an agent or with several (not counted).

    Returns:
        int64, (n,): the most frequent cell; in a tie, that of the first sample. ``NOWHERE`` if no sample counts.
    """
    votes = (cells[:, :, None] == cells[:, None, :]).sum(2)
    votes[cells < 0] = 0
    first = votes.argmax(1)  # of equal numbers the first
    winner = cells[np.arange(len(cells)), first]
    return np.where(votes.max(1) > 0, winner, NOWHERE)


def _counts(ids: np.ndarray, n_tiles: int) -> np.ndarray:
    """Count every tile in every frame: ids (T, cells) -> (T, K)."""
    frame = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)
    known = ids >= 0
    flat = frame[known] * n_tiles + ids[known]
    return np.bincount(flat, minlength=len(ids) * n_tiles).reshape(len(ids), n_tiles)


def _changes(ids: np.ndarray, changed: np.ndarray, steps: np.ndarray, n: int) -> np.ndarray:
    """List the tiles before and after the steps that change exactly ``n`` cells, int64 (steps, 2, n)."""
    t, cell = np.nonzero(changed & steps[:, None])
    before, after = ids[t, cell], ids[t + 1, cell]
    return np.stack([before.reshape(-1, n), after.reshape(-1, n)], 1)


def _grow(pairs: np.ndarray, singles: np.ndarray, often: np.ndarray) -> np.ndarray:
    """Begin with the tiles that move, then add the tiles that they turn into and come from; bool (K,)."""
    is_agent = np.zeros(len(often), bool)
    for (left, right), (left_after, right_after) in pairs.tolist():
        for leaves, arrives in ((left, right_after), (right, left_after)):
            if leaves == arrives >= 0 and not often[leaves]:
                is_agent[leaves] = True
    grown = None
    while grown is None or (grown != is_agent).any():
        grown = is_agent.copy()
        for before, after in pairs.tolist():
            _pass_on(is_agent, before, after, often)
            _pass_on(is_agent, after, before, often)
        for before, after in singles.tolist():
            _pass_on(is_agent, before, after, often)
            _pass_on(is_agent, after, before, often)
    return is_agent


def _pass_on(is_agent: np.ndarray, here: list[int], there: list[int], often: np.ndarray) -> None:
    """Mark the agent's tile ``there`` if exactly one cell ``here`` has it: the other cell if two changed."""
    agents = [i for i, tile in enumerate(here) if tile >= 0 and is_agent[tile]]
    if len(agents) != 1 or any(tile >= 0 and is_agent[tile] for tile in there):
        return
    new = there[-1 - agents[0]]  # the other of two cells, the same one of one
    if new >= 0 and not often[new]:
        is_agent[new] = True
