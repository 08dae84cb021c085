"""Attention and its masks.

Positions are always an argument, never counted here, so that packed, cached and sliding sequences are the
same code.

Shapes: B batch, G rows of the batch that share a mask, H heads, Q K queries and keys, C common keys, D width of a head,
  L tokens of a sequence, S blocks of a sequence
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Mask(Protocol):
    """Visible keys of each query."""

    def dense(self, q: Tensor, k: Tensor) -> Tensor | None:
        """Build a mask that is added to the scores (float) or marks visible keys (bool); None: all are visible."""
        ...

    def is_triangle(self, q: Tensor, k: Tensor) -> bool:
        """Return True if query i attends to exactly the keys up to i; kernels then need no mask."""
        ...


@dataclass(frozen=True, kw_only=True)
class FrameMask:
    """Causal by frame within a window, with a learned bias per head and lag."""

    q_positions: Tensor
    """Frame number of each query, int64, (Q,) for all rows or (B / G, Q)."""
    k_positions: Tensor
    """Frame number of each key, int64, (K,) or (B / G, K); negative marks an empty cache slot."""
    lag_bias: Tensor
    """Bias added to the scores, (H, window); a query attends to keys of lag 0 <= q - k < window."""
    drafts: tuple[Tensor, Tensor] | None = None
    """As in ``WindowMask``."""
    group: int = 1
    """G: consecutive rows of the batch that share a mask (e.g. the positions of one frame)."""

    def dense(self, q: Tensor, k: Tensor) -> Tensor:
        """Build the additive mask (H, Q, K) or (B, H, Q, K)."""
        window = self.lag_bias.shape[1]
        lags = self.q_positions.unsqueeze(-1) - self.k_positions.unsqueeze(-2)
        hidden = _beyond(lags, self.k_positions, window, self.drafts)
        bias = self.lag_bias[:, lags.clamp(0, window - 1)].masked_fill(hidden, float("-inf")).to(q.dtype)
        if bias.dim() == 3:
            return bias
        return bias.transpose(0, 1).repeat_interleave(self.group, 0)

    def is_triangle(self, q: Tensor, k: Tensor) -> bool:
        """There is a bias: no."""
        return False


@dataclass(frozen=True, kw_only=True)
class WindowMask:
    """Causal by frame within a window; built once for all layers."""

    q_positions: Tensor
    """Frame number of each query, int64, (Q,) for all rows or (B / G, Q)."""
    k_positions: Tensor
    """Frame number of each key, int64, (K,) or (B / G, K); negative marks an empty cache slot."""
    window: int
    """A query attends to keys of lag 0 <= q - k < window."""
    drafts: tuple[Tensor, Tensor] | None = None
    """Drafts among queries and keys, bool (Q,) and (K,). A draft has the number of a settled frame: it sees itself and
    settled frames before it, and nothing else sees it. None: there are none, or they come last."""
    group: int = 1
    """G: consecutive rows of the batch that share a mask (e.g. the positions of one frame)."""
    is_row: bool = False
    """True when queries and keys are the same frames, one after the other, no more than the window."""

    @cached_property
    def added(self) -> Tensor:
        """Additive mask, float32, (Q, K) or (B, 1, Q, K)."""
        lags = self.q_positions.unsqueeze(-1) - self.k_positions.unsqueeze(-2)
        hidden = _beyond(lags, self.k_positions, self.window, self.drafts)
        added = torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, float("-inf"))
        return added if added.dim() == 2 else added[:, None].repeat_interleave(self.group, 0)

    def dense(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the additive mask, (Q, K) or (B, 1, Q, K)."""
        return self.added.to(q.dtype)

    def is_triangle(self, q: Tensor, k: Tensor) -> bool:
        """Return ``is_row``."""
        return self.is_row


def _beyond(lags: Tensor, k_positions: Tensor, window: int, drafts: tuple[Tensor, Tensor] | None) -> Tensor:
    """Mark keys of the future, before the window, in an empty slot, or of another frame's draft, bool, like lags."""
    hidden = (lags < 0) | (lags >= window) | (k_positions < 0).unsqueeze(-2)
    if drafts is None:
        return hidden
    q_drafts, k_drafts = (d.unsqueeze(axis) for d, axis in zip(drafts, (-1, -2), strict=True))
    return hidden | (k_drafts & ~(q_drafts & (lags == 0))) | (q_drafts & ~k_drafts & (lags == 0))


@dataclass(frozen=True, kw_only=True)
class CausalMask:
    """Causal by token: query i is token ``first + i``, key j is token j; a query attends to the keys up to itself."""

    first: int = 0
    """Number of tokens before the first query."""

    def dense(self, q: Tensor, k: Tensor) -> Tensor | None:
        """Build the mask, bool (Q, K); None where the only query sees all keys."""
        n_queries, n_keys = q.shape[-2], k.shape[-2]
        if n_queries == 1 and n_keys == self.first + 1:
            return None
        rows = torch.arange(self.first, self.first + n_queries, device=q.device)
        return torch.arange(n_keys, device=q.device) <= rows[:, None]

    def is_triangle(self, q: Tensor, k: Tensor) -> bool:
        """True for a whole sequence."""
        return self.first == 0 and q.shape[-2] == k.shape[-2]


@dataclass(frozen=True, kw_only=True)
class PositionMask:
    """Causal by token, for rows of different lengths: key j is token j; a query attends up to its own position."""

    positions: Tensor
    """Number of each query's token, int64, (B, Q)."""

    def dense(self, q: Tensor, k: Tensor) -> Tensor:
        """Build the mask, bool (B, 1, Q, K)."""
        return torch.arange(k.shape[-2], device=q.device) <= self.positions[:, None, :, None]

    def is_triangle(self, q: Tensor, k: Tensor) -> bool:
        """Rows differ: no."""
        return False


@dataclass(frozen=True, kw_only=True)
class BlockMask:
    """Causal by token, and only between blocks of tokens that a layout connects; built once for a stack of layers."""

    layout: Tensor
    """bool, (S, S): True if queries in block i may attend to keys in block j."""
    block: int
    """Tokens per block."""
    queries: int
    """Q."""
    first: int = 0
    """Number of tokens before the first query; keys are these and the queries' own."""

    @cached_property
    def seen(self) -> Tensor:
        """Visible keys of each query, bool (Q, K)."""
        end, device = self.first + self.queries, self.layout.device
        rows, columns = torch.arange(self.first, end, device=device), torch.arange(end, device=device)
        return self.layout[rows // self.block][:, columns // self.block] & (columns <= rows[:, None])

    def dense(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the mask, bool (Q, K)."""
        return self.seen

    def is_triangle(self, q: Tensor, k: Tensor) -> bool:
        """Blocks may be hidden: no."""
        return False


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask | None = None, dropout: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attend to the keys that a mask leaves visible.

    Args:
        q: Queries, (B, H, Q, D).
        k: Keys, (B, H, K, D).
        v: Values, (B, H, K, E).
        mask: Visible keys; None: every query attends to every key.
        dropout: Probability that a weight is dropped; 0 outside training.
        scale: Of the scores; None is D ** -0.5.

    Returns:
        Mixed values, (B, H, Q, E).
    """
    is_triangle = mask is not None and mask.is_triangle(q, k)
    dense = None if mask is None or is_triangle else mask.dense(q, k)
    if not is_triangle and _is_short(q, k, dropout):
        return _short_attention(q, k, v, dense, q.shape[-1] ** -0.5 if scale is None else scale)
    return functional.scaled_dot_product_attention(q, k, v, dense, dropout, is_triangle, scale=scale)


FEW_QUERIES, FEW_KEYS = 4, 64
"""Up to which the products were measured to be faster (benchmarks/maskgit_cache.py)."""


def _is_short(q: Tensor, k: Tensor, dropout: float) -> bool:
    """Return whether two batched products are faster than the fused kernel: twice for a frame's step on a CPU."""
    is_step = q.device.type == "cpu" and q.dtype == torch.float32 and not torch.is_grad_enabled() and not dropout
    is_short = 0 < q.shape[-2] <= FEW_QUERIES and 0 < k.shape[-2] <= FEW_KEYS
    return is_step and is_short and q.dim() == 4


def _short_attention(q: Tensor, k: Tensor, v: Tensor, dense: Tensor | None, scale: float) -> Tensor:
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)).mul_(scale).unflatten(0, q.shape[:2])
    if dense is not None:
        scores = scores.add_(dense) if dense.is_floating_point() else scores.masked_fill_(~dense, float("-inf"))
    out: Tensor = torch.bmm(scores.softmax(-1).flatten(0, 1), v.flatten(0, 1)).unflatten(0, q.shape[:2])
    return out
