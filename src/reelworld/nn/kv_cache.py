"""Ring buffer of the last frames' keys and values: a step costs one frame, however long the past.

Shapes: B batch (streams), G grid positions per stream, H heads, W window (frames kept), D width of a head
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelworld.nn.streams import Streams

__all__ = ["FrameCache"]


class FrameCache(Streams):
    """Keys and values of the last W frames of one attention layer, written in place.

    Attributes:
        keys: (B * G, H, W, D).
        values: (B * G, H, W, D).
        positions: Frame number in each slot, int64, (B, W); -1 marks an empty one.
        cursor: Slot that is written next; the same for all streams.
    """

    def __init__(self, keys: Tensor, values: Tensor, positions: Tensor, cursor: int = 0) -> None:
        self.keys, self.values, self.positions, self.cursor = keys, values, positions, cursor

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, positions: Tensor, window: int) -> FrameCache:
        """Start from T frames read at once: keys and values (B * G, H, T, D), positions (B, T)."""
        keep = min(keys.shape[2], window)
        rows, heads, _, width = keys.shape
        cache = cls(
            keys.new_zeros(rows, heads, window, width),
            keys.new_zeros(rows, heads, window, width),
            positions.new_full((positions.shape[0], window), -1),
            keep % window,
        )
        cache.keys[:, :, :keep] = keys[:, :, keys.shape[2] - keep :]
        cache.values[:, :, :keep] = values[:, :, keys.shape[2] - keep :]
        cache.positions[:, :keep] = positions[:, positions.shape[1] - keep :]
        return cache

    @classmethod
    def cat(cls, caches: Sequence[FrameCache]) -> FrameCache:
        """Copy several caches into one, their streams in this order, each with the order of its frames."""
        cursor = caches[0].cursor
        turned = [cache._turned(cursor - cache.cursor) for cache in caches]
        keys, values, positions = (torch.cat(parts) for parts in zip(*turned, strict=True))
        return cls(keys, values, positions, cursor)

    def write(self, keys: Tensor, values: Tensor, positions: Tensor) -> None:
        """Store one frame over the oldest: keys and values (B * G, H, 1, D), positions (B,)."""
        self.number(positions[:, None])
        self.put(keys, values)
        self.advance(1)

    def number(self, positions: Tensor) -> None:
        """Say which frames lie at the cursor and behind it, (B, T); what lay there is forgotten."""
        for i, slot in enumerate(self._slots(positions.shape[1])):
            self.positions[:, slot] = positions[:, i]

    def put(self, keys: Tensor, values: Tensor) -> None:
        """Store frames at the cursor and behind it, (B * G, H, T, D); the next ones go over them."""
        for i, slot in enumerate(self._slots(keys.shape[2])):
            self.keys[:, :, slot] = keys[:, :, i]
            self.values[:, :, slot] = values[:, :, i]

    def advance(self, frames: int) -> None:
        """Keep the first frames that were put: the next ones go behind them."""
        self.cursor = (self.cursor + frames) % self.keys.shape[2]

    def index_select(self, streams: Tensor) -> FrameCache:
        """Copy the given streams, e.g. to fork or to save a session."""
        return FrameCache(
            self._grouped(self.keys)[streams].flatten(0, 1),
            self._grouped(self.values)[streams].flatten(0, 1),
            self.positions[streams],
            self.cursor,
        )

    def index_copy_(self, streams: Tensor, other: FrameCache) -> None:
        """Overwrite streams in place with those of another cache, keeping the order of its frames."""
        keys, values, positions = other._turned(self.cursor - other.cursor)
        self._grouped(self.keys)[streams] = other._grouped(keys)
        self._grouped(self.values)[streams] = other._grouped(values)
        self.positions[streams] = positions

    def _turned(self, turn: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys, values and positions as they lie when the ring is turned by some slots."""
        if turn == 0:
            return self.keys, self.values, self.positions
        return self.keys.roll(turn, 2), self.values.roll(turn, 2), self.positions.roll(turn, 1)

    def _slots(self, frames: int) -> list[int]:
        window = self.keys.shape[2]
        assert frames <= window, (frames, window)
        return [(self.cursor + i) % window for i in range(frames)]

    def _grouped(self, x: Tensor) -> Tensor:
        return x.view(self.positions.shape[0], -1, *x.shape[1:])
