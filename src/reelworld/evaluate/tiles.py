"""Tile atlas of a game, and lookup of tiles in recorded and predicted frames.

Mean PSNR is insensitive to a small agent: with the agent erased a grid game still has more than 30 dB. If all frames
consist of a few distinct aligned patches, each predicted patch is matched to the nearest true one, and a frame is
either right or wrong. The atlas (the distinct patches) is built from the training split only.

Shapes: T frames, R C tile rows and columns, S tile side in pixels, K tiles in the atlas
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MAX_TILES = 512
UNKNOWN = -1
CHUNK_PATCHES = 4096


def tile_hashes(frames: np.ndarray, size: int) -> np.ndarray:
    """Return a 64-bit hash of every aligned patch.

    Args:
        frames: uint8, (T, H, W, 3), H and W multiples of ``size``.
        size: Side of a tile in pixels.

    Returns:
        uint64, (T, R, C).
    """
    patches = _patches(frames, size)
    padded = np.pad(patches, ((0, 0),) * 3 + ((0, -patches.shape[-1] % 8),))
    words = np.ascontiguousarray(padded).view(np.uint64)
    weights = np.random.default_rng(0).integers(1, 2**63, words.shape[-1], dtype=np.uint64) | np.uint64(1)
    # in a plain weighted sum, differences in the last byte of a word affect 8 bits only: fold them down
    folded = words >> np.uint64(32)
    folded ^= words
    return folded @ weights


@dataclass(frozen=True, kw_only=True)
class TileAtlas:
    """The distinct tiles of a data set."""

    size: int
    """Side of a tile in pixels."""
    tiles: np.ndarray
    """uint8, (K, S, S, 3), most frequent first."""
    hashes: np.ndarray
    """uint64, (K,)."""
    counts: np.ndarray
    """int64, (K,): occurrences of each tile."""

    @classmethod
    def build(cls, clips: Iterable[np.ndarray], size: int = 8, max_tiles: int = MAX_TILES) -> TileAtlas | None:
        """Collect the distinct tiles of clips of training frames.

        Args:
            clips: uint8 (T, H, W, 3) each.
            size: Side of a tile in pixels.
            max_tiles: Data with more distinct patches than this are not tile-based.

        Returns:
            The atlas, or None if frames do not divide into tiles or have too many distinct ones.
        """
        counts: dict[int, int] = {}
        tiles: dict[int, np.ndarray] = {}
        for frames in clips:
            if frames.shape[1] % size or frames.shape[2] % size:
                return None
            hashes = tile_hashes(frames, size)
            values, first, n = np.unique(hashes.reshape(-1), return_index=True, return_counts=True)
            if len(values) > max_tiles:
                return None
            patches = None
            for value, index, count in zip(values.tolist(), first.tolist(), n.tolist(), strict=True):
                if value not in tiles:
                    if patches is None:
                        patches = _patches(frames, size).reshape(-1, size, size, 3)
                    tiles[value] = patches[index].copy()
                counts[value] = counts.get(value, 0) + count
            if len(tiles) > max_tiles:
                return None
        if not tiles:
            return None
        order = sorted(tiles, key=lambda h: (-counts[h], h))
        return cls(
            size=size,
            tiles=np.stack([tiles[h] for h in order]),
            hashes=np.array(order, np.uint64),
            counts=np.array([counts[h] for h in order]),
        )

    def true_ids(self, frames: np.ndarray) -> np.ndarray:
        """Look up recorded tiles exactly.

        Args:
            frames: uint8, (..., H, W, 3).

        Returns:
            int64, (..., R, C); -1 for tiles that are not in the training split.
        """
        flat = frames.reshape(-1, *frames.shape[-3:])
        ids = self._lookup(tile_hashes(flat, self.size))
        return ids.reshape(*frames.shape[:-3], *ids.shape[1:])

    def nearest_ids(self, frames: np.ndarray) -> np.ndarray:
        """Read predicted tiles as the nearest ones of the atlas (squared distance of pixels).

        Args:
            frames: uint8, (..., H, W, 3).

        Returns:
            int64, (..., R, C).
        """
        flat = frames.reshape(-1, *frames.shape[-3:])
        hashes = tile_hashes(flat, self.size)
        values, first, inverse = np.unique(hashes.reshape(-1), return_index=True, return_inverse=True)
        ids = self._lookup(values)
        unknown = np.flatnonzero(ids == UNKNOWN)
        per_frame = hashes.shape[1] * hashes.shape[2]
        for i in range(0, len(unknown), CHUNK_PATCHES):
            chunk = unknown[i : i + CHUNK_PATCHES]
            at = first[chunk]
            patches = _patches(flat[at // per_frame], self.size).reshape(len(at), per_frame, -1)
            ids[chunk] = self._nearest(patches[np.arange(len(at)), at % per_frame])
        return ids[inverse].reshape(*frames.shape[:-3], *hashes.shape[1:])

    def _lookup(self, hashes: np.ndarray) -> np.ndarray:
        order = np.argsort(self.hashes)
        found = np.searchsorted(self.hashes, hashes, sorter=order).clip(0, len(order) - 1)
        ids = order[found]
        return np.where(self.hashes[ids] == hashes, ids, UNKNOWN)

    def _nearest(self, patches: np.ndarray) -> np.ndarray:
        known = self.tiles.reshape(len(self.tiles), -1).astype(np.float32)
        distance = (known**2).sum(1) - 2 * patches.astype(np.float32) @ known.T
        out: np.ndarray = distance.argmin(1)
        return out


def _patches(frames: np.ndarray, size: int) -> np.ndarray:
    """View frames (T, H, W, 3) as patches (T, R, C, S * S * 3)."""
    n, height, width, _ = frames.shape
    rows, columns = height // size, width // size
    split = frames.reshape(n, rows, size, columns, size, 3).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(n, rows, columns, size * size * 3)
