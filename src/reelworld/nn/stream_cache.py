"""Keys and values of a stack of layers for streams that have come differently far.

Streams that are equally far, the usual case, are read and written as slices. Streams that go on from one share what it
had read: it is kept once, and read once for all of them.

Shapes: S layers, B streams, H heads, L places there are, C tokens that are common to all, T tokens, E width of a head
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelworld.nn.attention import CausalMask, Mask, PlaceMask, attention
from reelworld.nn.behind import attend_behind, to_share
from reelworld.nn.streams import Streams

__all__ = ["StreamCache"]


class StreamCache(Streams):
    """Keys and values (S, B, H, L - C, E), allocated once and written in place.

    Attributes:
        common: Keys and values (S, 1, H, C, E) of the first tokens of all streams, never written; None where C is 0.
            With it, streams are equally far.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, lengths: Tensor, common: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self.keys, self.values, self.lengths, self.common = keys, values, lengths, common

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int, int], like: Tensor) -> StreamCache:
        """Make room of a shape (S, B, H, L, E), on the device of ``like`` and of its type.

        On a CPU in float32, whatever the type: its products of one query in half precision take several times as long
        (docs/log.md).
        """
        dtype = torch.float32 if like.device.type == "cpu" and like.dtype.itemsize < 4 else like.dtype
        keys, values = (like.new_zeros(shape, dtype=dtype) for _ in range(2))
        return cls(keys, values, torch.zeros(shape[1], dtype=torch.int64))

    @classmethod
    def cat(cls, caches: Sequence[StreamCache]) -> StreamCache:
        """Copy several caches into one, their streams in this order."""
        keys, values = (torch.cat(tables, 1) for tables in zip(*(cache._whole() for cache in caches), strict=True))
        return cls(keys, values, torch.cat([cache.lengths for cache in caches]))

    @property
    def lengths(self) -> Tensor:
        """Tokens so far, the common ones included, int64 (B,), on the CPU."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: Tensor) -> None:
        self._lengths, self._longest = lengths, int(lengths.max())
        self._is_level = int(lengths.min()) == self._longest

    def places(self, n_tokens: int) -> Tensor:
        """Number the next tokens of each stream, int64 (B, T)."""
        return (self.lengths[:, None] + torch.arange(n_tokens)).to(self.keys.device)

    def mask(self, n_tokens: int) -> Mask | None:
        """Say what the next tokens see: all that are before them, and themselves."""
        if not self._is_level:
            return PlaceMask(places=self.places(n_tokens))
        return None if n_tokens == 1 else CausalMask(first=self._longest)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None) -> Tensor:
        """Write the next tokens of a layer, and let them attend to all up to them; each (B, H, T, E)."""
        if q.shape[2] > 1:
            self._part()
        keys, values = self._put(layer, k, v)
        told = q.to(keys.dtype)
        if self.common is None:
            return attention(told, keys, values, mask).to(q.dtype)
        common = self.common[0][layer], self.common[1][layer]
        return attend_behind(told, common, keys, values).to(q.dtype)

    def _put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the next tokens of a layer, (B, H, T, E); return all up to them but the common ones, (B, H, K, E)."""
        n_common = 0 if self.common is None else self.common[0].shape[3]
        n_tokens, end = keys.shape[2], self._longest - n_common + keys.shape[2]
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

    def index_select(self, streams: Tensor) -> StreamCache:
        """Copy the given streams; what several copies of one have in common is copied once."""
        is_one = len(streams) > 1 and bool((streams == streams[0]).all())
        if is_one and self.common is None:
            return self._forked(int(streams[0]), len(streams))
        return StreamCache(self.keys[:, streams], self.values[:, streams], self.lengths[streams], self.common)

    def _forked(self, stream: int, n: int) -> StreamCache:
        """Let n streams go on from one."""
        length = int(self.lengths[stream])
        common = to_share(*(table[:, stream : stream + 1, :, :length] for table in (self.keys, self.values)))
        shape = (self.keys.shape[0], n, self.keys.shape[2], self.keys.shape[3] - length, self.keys.shape[4])
        rooms = (self.keys.new_zeros(shape), self.values.new_zeros(shape))
        return StreamCache(*rooms, self.lengths[stream].repeat(n), common)

    def index_copy_(self, streams: Tensor, other: StreamCache) -> None:
        """Overwrite streams in place with those of another cache."""
        self._part()
        self.keys[:, streams], self.values[:, streams] = other._whole()
        lengths = self.lengths.clone()
        lengths[streams] = other.lengths
        self.lengths = lengths

    def _whole(self) -> tuple[Tensor, Tensor]:
        """Return keys and values, (S, B, H, L, E) each: a copy where some are common."""
        if self.common is None:
            return self.keys, self.values
        n = self.keys.shape[1]
        keys, values = (table.expand(-1, n, -1, -1, -1) for table in self.common)
        return torch.cat([keys, self.keys], 3), torch.cat([values, self.values], 3)

    def _part(self) -> None:
        """Give every stream what was common."""
        (self.keys, self.values), self.common = self._whole(), None
