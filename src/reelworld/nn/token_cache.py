"""Keys and values of the tokens so far: a step reads what its token may see and nothing else.

Two layouts with one interface: ``RowTokenCache`` for CPUs, ``TokenCache`` for other devices. Which tokens a token sees
is the same for all layers of a stack: they share one ``VisibleBlocks``, which works it out once per token.

Shapes: B streams, H heads, L tokens of a whole sequence, T tokens, K visible tokens, E F width of a head's keys and
  values, S blocks of a sequence, W tokens per block, G pieces of a head's values, V = F / G
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from reelworld.nn.large_pages import LargePages
from reelworld.nn.row_sums import ROW, row_sums, row_width

__all__ = ["Cache", "RowTokenCache", "TokenCache", "VisibleBlocks", "prefix_block"]


def prefix_block(dtype: torch.dtype) -> int:
    """Return how many tokens share a row of keys where a token sees all before it (``RowTokenCache``)."""
    return ROW[dtype.itemsize]


class VisibleBlocks:
    """Which tokens each token sees: itself and those before it in the blocks that its own block sees."""

    def __init__(self, block: int, layout: Tensor | None = None) -> None:
        """Describe it.

        Args:
            block: Tokens per block.
            layout: bool, (S, S): whether tokens in block i see those in block j; None lets all see all before them.
        """
        self.block, self.layout = block, None if layout is None else layout.cpu()
        # the last question and its answer; read and written whole, so that threads may share a sight
        self._blocks: tuple[int, Tensor] | None = None
        self._tokens: tuple[object, Tensor] | None = None
        self._rows: tuple[tuple[object, ...], Rows] | None = None

    def count(self, position: int) -> int:
        """Count the tokens that the token at a position sees, K."""
        return len(self.blocks(position)) * self.block - self.block + position % self.block + 1

    def blocks(self, position: int) -> Tensor:
        """List the blocks that the token at a position sees, ascending, int64; its own is the last."""
        own, last = position // self.block, self._blocks
        if last is None or last[0] != own:
            seen = torch.arange(own + 1) if self.layout is None else self.layout[own, : own + 1].nonzero().flatten()
            self._blocks = last = (own, seen)
        return last[1]

    def tokens(self, position: int, device: torch.device) -> Tensor:
        """List the tokens that the token at a position sees, int64 (K,)."""
        asked, last = (position, device), self._tokens
        if last is None or last[0] != asked:
            numbers = self.blocks(position)[:, None] * self.block + torch.arange(self.block)
            self._tokens = last = (asked, numbers.flatten()[: self.count(position)].to(device))
        return last[1]

    def rows(self, position: int, cache: RowTokenCache) -> Rows:
        """List the rows of a cache's tables that a step at a position reads."""
        asked, last = (position, cache.keys.shape, cache.values.shape), self._rows
        if last is None or last[0] != asked:
            blocks = self.blocks(position)
            is_same_block = last is not None and last[1].blocks is blocks and last[0][1:] == asked[1:]
            known = last[1] if last is not None and is_same_block else cache.rows(blocks)
            self._rows = last = (asked, known.up_to(self.count(position)))
        return last[1]


class Cache(Protocol):
    """What a layer of attention keeps of the tokens so far."""

    length: int
    """Tokens so far."""

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Begin with the keys (B, H, T, E) and values (B, H, T, F) of T tokens."""
        ...

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add the keys (B, H, E) and values (B, H, F) of one token."""
        ...

    def read(self, queries: Tensor) -> Tensor:
        """Let the queries (B, H, E) of the last token attend to what it sees: (B, H * F)."""
        ...

    def select(self, streams: Tensor) -> Cache:
        """Copy the given streams."""
        ...


class TokenCache:
    """Keys (B, H, L, E) and values (B, H, L, F) of one layer, allocated once and written in place."""

    def __init__(
        self, shape: tuple[int, int, int, int], value_width: int, like: Tensor, sight: VisibleBlocks,
        pages: LargePages | None = None,
    ) -> None:  # fmt: skip
        """Make room.

        Args:
            shape: (B, H, L, E).
            value_width: F.
            like: Gives type and device.
            sight: Which tokens are visible.
            pages: Gives the memory; None takes the device's own.
        """
        self.keys, self.values = (
            like.new_zeros(s) if pages is None else pages.zeros(s, like.dtype)
            for s in (shape, (*shape[:3], value_width))
        )
        self.sight, self.length = sight, 0

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Begin with T tokens at once."""
        self.length = keys.shape[2]
        self.keys[:, :, : self.length] = keys
        self.values[:, :, : self.length] = values

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add a token."""
        self.keys[:, :, self.length] = keys
        self.values[:, :, self.length] = values
        self.length += 1

    def read(self, queries: Tensor) -> Tensor:
        """Attend for the last token."""
        if self.sight.layout is None:
            keys, values = self.keys[:, :, : self.length], self.values[:, :, : self.length]
        else:
            seen = self.sight.tokens(self.length - 1, self.keys.device)
            keys, values = self.keys[:, :, seen], self.values[:, :, seen]
        queries = queries.to(keys.dtype).unsqueeze(2)
        return functional.scaled_dot_product_attention(queries, keys, values).flatten(1)

    def select(self, streams: Tensor) -> TokenCache:
        """Copy the given streams."""
        copy = object.__new__(TokenCache)
        copy.keys, copy.values = self.keys[streams], self.values[streams]
        copy.sight, copy.length = self.sight, self.length
        return copy


class Rows(NamedTuple):
    """The rows of a ``RowTokenCache`` that a step reads, and where each sum of rows begins and the last ends."""

    blocks: Tensor
    """The blocks that are seen."""
    key_rows: Tensor
    key_starts: Tensor
    scale: Tensor
    """The scale of the scores, once per visible block, (n, 1)."""
    all_value_rows: Tensor
    """The rows of all tokens of the blocks, one line per sum."""
    ones: Tensor
    """1 for each piece of a value, (G, 1)."""
    n_tokens: int = 0
    """Tokens that are seen, K."""
    value_rows: Tensor = torch.empty(0)
    value_starts: Tensor = torch.empty(0)

    def up_to(self, n_tokens: int) -> Rows:
        """See the first K tokens of the blocks."""
        n_sums = len(self.all_value_rows)
        return self._replace(
            n_tokens=n_tokens,
            value_rows=self.all_value_rows[:, :n_tokens].flatten(),
            value_starts=torch.arange(0, n_sums * n_tokens + 1, n_tokens, dtype=torch.int32),
        )


class RowTokenCache:
    """The same laid out for sums of rows (``nn.row_sums``), on the CPU.

    Keys lie as (B, H, S, E, W): a row holds one number of the keys of W tokens, and the scores of these tokens are
    the sum of E rows, each times a number of the query. Values lie as (B, H, G, L, V): a row holds a piece of one
    token's value, and the mixed value is the sum of K rows, each times a token's weight.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        value_width: int,
        dtype: torch.dtype,
        sight: VisibleBlocks,
        pages: LargePages,
    ) -> None:
        """Make room.

        Args:
            shape: (B, H, L, E).
            value_width: F.
            dtype: Of keys and values.
            sight: Which tokens are visible.
            pages: Gives the memory.
        """
        streams, heads, length, width = shape
        piece = row_width(value_width, dtype)
        n_blocks = math.ceil(length / sight.block)
        self.keys = pages.zeros((streams, heads, n_blocks, width, sight.block), dtype)
        self.values = pages.zeros((streams, heads, value_width // piece, length, piece), dtype)
        self.key_rows, self.value_rows = self.keys.view(-1, sight.block), self.values.view(-1, piece)
        self.sight, self.length = sight, 0

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Begin with T tokens at once."""
        self.length = keys.shape[2]
        whole, rest = divmod(self.length, self.sight.block)
        in_blocks, behind = keys.split([self.length - rest, rest], 2)
        self.keys[:, :, :whole] = in_blocks.unflatten(2, (whole, self.sight.block)).mT
        if rest:
            self.keys[:, :, whole, :, :rest] = behind.mT
        self.values[:, :, :, : self.length] = self._in_pieces(values.contiguous()).transpose(2, 3)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add a token."""
        block, place = divmod(self.length, self.sight.block)
        self.keys.select(2, block).select(-1, place).copy_(keys)
        self.values.select(3, self.length).copy_(self._in_pieces(values))
        self.length += 1

    def read(self, queries: Tensor) -> Tensor:
        """Attend for the last token."""
        streams, heads = self.keys.shape[:2]
        rows = self.sight.rows(self.length - 1, self)
        q_BHSE = queries.unsqueeze(2) * rows.scale
        scores = row_sums(self.key_rows, rows.key_rows, rows.key_starts, q_BHSE.reshape(-1)).view(streams, heads, -1)
        weights_BHGK = scores[..., : rows.n_tokens].softmax(-1).unsqueeze(2) * rows.ones
        return row_sums(self.value_rows, rows.value_rows, rows.value_starts, weights_BHGK.reshape(-1)).view(streams, -1)

    def select(self, streams: Tensor) -> RowTokenCache:
        """Copy the given streams."""
        copy = object.__new__(RowTokenCache)
        copy.keys, copy.values = self.keys[streams], self.values[streams]
        copy.key_rows = copy.keys.view(-1, self.keys.shape[-1])
        copy.value_rows = copy.values.view(-1, self.values.shape[-1])
        copy.sight, copy.length = self.sight, self.length
        return copy

    def rows(self, blocks: Tensor) -> Rows:
        """List the rows that steps read which see some blocks."""
        streams, heads, n_blocks, width, block = self.keys.shape
        pieces, length, dtype = *self.values.shape[2:4], self.keys.dtype
        numbers = blocks.int()[:, None]
        within = numbers * width + torch.arange(width, dtype=torch.int32)
        key_rows = _offsets(streams * heads, n_blocks * width) + within.flatten()
        tokens = numbers * block + torch.arange(block, dtype=torch.int32)
        return Rows(
            blocks=blocks,
            key_rows=key_rows.flatten(),
            key_starts=torch.arange(0, key_rows.numel() + 1, width, dtype=torch.int32),
            scale=torch.full((len(blocks), 1), width**-0.5, dtype=dtype),
            all_value_rows=_offsets(streams * heads * pieces, length) + tokens.flatten(),
            ones=torch.ones(pieces, 1, dtype=dtype),
        )

    def _in_pieces(self, values: Tensor) -> Tensor:
        """Turn (..., F) into (..., G, V)."""
        return values.view(*values.shape[:-1], self.values.shape[2], self.values.shape[4])


def _offsets(n: int, step: int) -> Tensor:
    """Return where each of n equal tables begins, int32 (n, 1)."""
    return torch.arange(0, n * step, step, dtype=torch.int32)[:, None]
