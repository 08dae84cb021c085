"""KV caches: keys and values of past tokens, so that a step costs its new tokens only.

``KVCache`` keeps all tokens of a stack of layers, ``FrameCache`` a ring of the last frames.

Shapes: S layers, B streams, H heads, L tokens that there is room for, C tokens of a shared prefix, T tokens, E F width
  of a head's keys and values, G grid positions per stream, W window (frames kept), D width of a head
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelworld.nn.attention import CausalMask, Mask, PositionMask, attention
from reelworld.nn.decode import as_prefix, huge_page_zeros, shared_prefix_attention
from reelworld.nn.streams import Streams


class KVCache(Streams):
    """Keys (S, B, H, L - C, E) and values (S, B, H, L - C, F), allocated once and written in place.

    Streams of equal length, the usual case, are read and written as slices. Copies of one stream share what it has
    read as a prefix: it is kept once, and read once for all of them.

    Attributes:
        prefix: Keys (S, 1, H, C, E) and values of the first tokens of all streams, never written; None where C is 0.
            With it, streams have equal lengths.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, lengths: Tensor, prefix: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self.keys, self.values, self.lengths, self.prefix = keys, values, lengths, prefix

    @classmethod
    def empty(
        cls, shape: tuple[int, int, int, int, int], like: Tensor, value_width: int = 0, is_half: bool = False
    ) -> KVCache:
        """Make room.

        Args:
            shape: (S, B, H, L, E).
            like: Tensor of the device and type.
            value_width: F; 0 for E.
            is_half: Keep half precision on a CPU too. Torch's products of one query take several times as long in it
                there (docs/log.md), so float32 is the default; compiled code reads half as much.
        """
        is_cpu = like.device.type == "cpu"
        dtype = torch.float32 if is_cpu and not is_half and like.dtype.itemsize < 4 else like.dtype
        shapes = (shape, (*shape[:4], value_width or shape[4]))
        keys, values = (huge_page_zeros(s, dtype) if is_cpu else like.new_zeros(s) for s in shapes)
        return cls(keys, values, torch.zeros(shape[1], dtype=torch.int64))

    @property
    def lengths(self) -> Tensor:
        """Tokens so far, those of the prefix included, int64 (B,), on the CPU."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: Tensor) -> None:
        self._lengths, self.longest = lengths, int(lengths.max())
        self._is_level = int(lengths.min()) == self.longest

    def positions(self, n_tokens: int) -> Tensor:
        """Number the next tokens of each stream, int64 (B, T)."""
        return (self.lengths[:, None] + torch.arange(n_tokens)).to(self.keys.device)

    def mask(self, n_tokens: int) -> Mask | None:
        """Make the causal mask of the next tokens."""
        if not self._is_level:
            return PositionMask(positions=self.positions(n_tokens))
        return None if n_tokens == 1 else CausalMask(first=self.longest)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None) -> Tensor:
        """Append the next tokens of a layer, and let them attend to all up to them; each (B, H, T, E)."""
        if q.shape[2] > 1:
            self.unshare()
        keys, values = self.append(layer, k, v)
        query = q.to(keys.dtype)
        if self.prefix is None:
            return attention(query, keys, values, mask).to(q.dtype)
        prefix = self.prefix[0][layer], self.prefix[1][layer]
        return shared_prefix_attention(query, prefix, keys, values).to(q.dtype)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the next tokens of a layer, (B, H, T, E); return all up to them but the prefix, (B, H, K, E)."""
        n_prefix = 0 if self.prefix is None else self.prefix[0].shape[3]
        n_tokens, end = keys.shape[2], self.longest - n_prefix + keys.shape[2]
        for table, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if self._is_level:
                table[:, :, end - n_tokens : end] = new
            else:
                rows = torch.arange(len(self.lengths), device=table.device)[:, None]
                table[rows, :, self.positions(n_tokens)] = new.transpose(1, 2).to(table.dtype)
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, n_tokens: int) -> None:
        """Count the tokens that all layers have appended; a negative number drops the last ones."""
        self.lengths = self.lengths + n_tokens

    @classmethod
    def cat(cls, caches: Sequence[KVCache]) -> KVCache:
        """Copy several caches into one, their streams in this order."""
        keys, values = (torch.cat(tables, 1) for tables in zip(*(cache._whole() for cache in caches), strict=True))
        return cls(keys, values, torch.cat([cache.lengths for cache in caches]))

    def index_select(self, streams: Tensor) -> KVCache:
        """Copy the given streams; several copies of one share its tokens as a prefix."""
        is_one = len(streams) > 1 and bool((streams == streams[0]).all())
        if is_one and self.prefix is None:
            return self._forked(int(streams[0]), len(streams))
        return KVCache(self.keys[:, streams], self.values[:, streams], self.lengths[streams], self.prefix)

    def _forked(self, stream: int, n: int) -> KVCache:
        length = int(self.lengths[stream])
        prefix = as_prefix(*(table[:, stream : stream + 1, :, :length] for table in (self.keys, self.values)))
        room = (self.keys.shape[0], n, self.keys.shape[2], self.keys.shape[3] - length)
        keys, values = (table.new_zeros(*room, table.shape[4]) for table in (self.keys, self.values))
        return KVCache(keys, values, self.lengths[stream].repeat(n), prefix)

    def index_copy_(self, streams: Tensor, other: KVCache) -> None:
        """Overwrite streams in place with those of another cache."""
        self.unshare()
        self.keys[:, streams], self.values[:, streams] = other._whole()
        lengths = self.lengths.clone()
        lengths[streams] = other.lengths
        self.lengths = lengths

    def unshare(self) -> None:
        """Give every stream a copy of the prefix."""
        (self.keys, self.values), self.prefix = self._whole(), None

    def _whole(self) -> tuple[Tensor, Tensor]:
        """Return keys and values, (S, B, H, L, E) each: a copy where there is a prefix."""
        if self.prefix is None:
            return self.keys, self.values
        n = self.keys.shape[1]
        keys, values = (table.expand(-1, n, -1, -1, -1) for table in self.prefix)
        return torch.cat([keys, self.keys], 3), torch.cat([values, self.values], 3)


class FrameCache(Streams):
    """Keys and values of the last W frames of a stack of layers, in a ring that is written in place.

    Attributes:
        keys: (S, B * G, H, W, D).
        values: (S, B * G, H, W, D).
        positions: Frame number in each slot, int64, (B, W); -1 marks an empty one.
        lengths: Number of the frame that comes next in each stream, int64, (B,).
        cursor: Slot that is written next; the same for all streams.
    """

    def __init__(self, keys: Tensor, values: Tensor, positions: Tensor, lengths: Tensor, cursor: int = 0) -> None:
        self.keys, self.values, self.positions, self.lengths, self.cursor = keys, values, positions, lengths, cursor

    @classmethod
    def of(cls, layers: Sequence[tuple[Tensor, Tensor]], streams: int, window: int) -> FrameCache:
        """Start from T frames that were read at once.

        Args:
            layers: Keys and values of each layer, (B * G, H, T, D).
            streams: B.
            window: W.
        """
        keys, values = (torch.stack(tables) for tables in zip(*layers, strict=True))
        frames, device = keys.shape[3], keys.device
        keep = min(frames, window)
        shape = (*keys.shape[:3], window, keys.shape[4])
        positions = torch.full((streams, window), -1, device=device)
        lengths = torch.full((streams,), frames, device=device)
        cache = cls(keys.new_zeros(shape), values.new_zeros(shape), positions, lengths, keep % window)
        cache.keys[..., :keep, :] = keys[..., frames - keep :, :]
        cache.values[..., :keep, :] = values[..., frames - keep :, :]
        cache.positions[:, :keep] = torch.arange(frames - keep, frames, device=device)
        return cache

    def reserve(self, frames: int) -> Tensor:
        """Number the next frames, int64 (B, T); what their slots held is dropped."""
        numbers = self.lengths[:, None] + torch.arange(frames, device=self.lengths.device)
        for i, slot in enumerate(self._slots(frames)):
            self.positions[:, slot] = numbers[:, i]
        return numbers

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the reserved frames of a layer, (B * G, H, T, D); return all of it, (B * G, H, W, D) each."""
        for i, slot in enumerate(self._slots(keys.shape[2])):
            self.keys[layer, :, :, slot] = keys[:, :, i]
            self.values[layer, :, :, slot] = values[:, :, i]
        return self.keys[layer], self.values[layer]

    def advance(self, frames: int) -> None:
        """Keep the first frames that were put: the next ones are written after them."""
        self.cursor = (self.cursor + frames) % self.keys.shape[3]
        self.lengths = self.lengths + frames

    @classmethod
    def cat(cls, caches: Sequence[FrameCache]) -> FrameCache:
        """Copy several caches into one, their streams in this order, each with the order of its frames."""
        cursor = caches[0].cursor
        rotated = [cache._rotated(cursor - cache.cursor) for cache in caches]
        keys, values, positions = zip(*rotated, strict=True)
        lengths = torch.cat([cache.lengths for cache in caches])
        return cls(torch.cat(keys, 1), torch.cat(values, 1), torch.cat(positions), lengths, cursor)

    def index_select(self, streams: Tensor) -> FrameCache:
        """Copy the given streams, e.g. to fork or to save a session."""
        return FrameCache(
            self._grouped(self.keys)[:, streams].flatten(1, 2),
            self._grouped(self.values)[:, streams].flatten(1, 2),
            self.positions[streams],
            self.lengths[streams],
            self.cursor,
        )

    def index_copy_(self, streams: Tensor, other: FrameCache) -> None:
        """Overwrite streams in place with those of another cache, keeping the order of its frames."""
        keys, values, positions = other._rotated(self.cursor - other.cursor)
        self._grouped(self.keys)[:, streams] = other._grouped(keys)
        self._grouped(self.values)[:, streams] = other._grouped(values)
        self.positions[streams] = positions
        self.lengths = self.lengths.index_copy(0, streams.to(self.lengths.device), other.lengths)

    def _rotated(self, slots: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys, values and positions with the ring rotated by some slots."""
        if slots == 0:
            return self.keys, self.values, self.positions
        return self.keys.roll(slots, 3), self.values.roll(slots, 3), self.positions.roll(slots, 1)

    def _slots(self, frames: int) -> list[int]:
        window = self.keys.shape[3]
        assert frames <= window, (frames, window)
        return [(self.cursor + i) % window for i in range(frames)]

    def _grouped(self, x: Tensor) -> Tensor:
        """Turn (S, B * G, ...) into (S, B, G, ...)."""
        out: Tensor = x.unflatten(1, (self.positions.shape[0], -1))
        return out
