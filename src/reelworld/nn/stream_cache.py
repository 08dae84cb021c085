"""Keys and values of a stack of layers for streams that have come differently far.

Streams that are equally far, the usual case, are read and written as slices.

Shapes: S layers, B streams, H heads, L places there are, T tokens, E width of a head
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelworld.nn.attention import CausalMask, Mask, PlaceMask

__all__ = ["StreamCache"]


class StreamCache:
    """Keys and values (S, B, H, L, E), allocated once and written in place.

    Attributes:
        lengths: Tokens so far, int64 (B,), on the CPU.
    """

    def __init__(self, keys: Tensor, values: Tensor, lengths: Tensor) -> None:
        self.keys, self.values, self.lengths = keys, values, lengths

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int, int], like: Tensor) -> StreamCache:
        """Make room of a shape (S, B, H, L, E), of the type and on the device of ``like``."""
        return cls(like.new_zeros(shape), like.new_zeros(shape), torch.zeros(shape[1], dtype=torch.int64))

    @classmethod
    def joined(cls, caches: Sequence[StreamCache]) -> StreamCache:
        """Copy several caches into one, their streams in this order."""
        keys, values = (torch.cat([getattr(cache, name) for cache in caches], 1) for name in ("keys", "values"))
        return cls(keys, values, torch.cat([cache.lengths for cache in caches]))

    def places(self, n_tokens: int) -> Tensor:
        """Number the next tokens of each stream, int64 (B, T)."""
        return (self.lengths[:, None] + torch.arange(n_tokens)).to(self.keys.device)

    def mask(self, n_tokens: int) -> Mask | None:
        """Say what the next tokens see: all that are before them, and themselves."""
        if not self._is_level:
            return PlaceMask(places=self.places(n_tokens))
        return None if n_tokens == 1 else CausalMask(first=int(self.lengths[0]))

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the next tokens of a layer, (B, H, T, E); return all up to them, (B, H, K, E)."""
        n_tokens, end = keys.shape[2], int(self.lengths.max()) + keys.shape[2]
        for table, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if self._is_level:
                table[:, :, end - n_tokens : end] = new
            else:
                rows = torch.arange(len(self.lengths), device=table.device)[:, None]
                table[rows, :, self.places(n_tokens)] = new.transpose(1, 2).to(table.dtype)
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, n_tokens: int) -> None:
        """Count the tokens that all layers have written."""
        self.lengths = self.lengths + n_tokens

    def select(self, streams: Tensor) -> StreamCache:
        """Copy the given streams."""
        return StreamCache(self.keys[:, streams], self.values[:, streams], self.lengths[streams])

    def replace(self, streams: Tensor, other: StreamCache) -> None:
        """Overwrite streams in place with those of another cache."""
        self.keys[:, streams], self.values[:, streams] = other.keys, other.values
        self.lengths = self.lengths.clone()
        self.lengths[streams] = other.lengths

    @property
    def _is_level(self) -> bool:
        return bool((self.lengths == self.lengths[0]).all())
