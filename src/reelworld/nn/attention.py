"""Attention, and the one place where masks are built.

Positions are always an argument, never counted here, so that packed, cached and sliding sequences are the
same code.

Shapes: B batch, G rows of the batch that share a mask, H heads, Q K queries and keys, D width of a head
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

__all__ = ["MaskSpec", "attention"]


@dataclass(frozen=True, kw_only=True)
class MaskSpec:
    """Which keys a query may see, by their positions."""

    q_positions: Tensor
    """Frame number of each query, int64, (Q,) for all rows or (B / G, Q)."""
    k_positions: Tensor
    """Frame number of each key, int64, (K,) or (B / G, K); negative marks an empty cache slot."""
    window: int
    """A query sees keys of lag 0 <= q - k < window."""
    group: int = 1
    """G: consecutive rows of the batch that share a mask (e.g. the positions of one frame)."""

    def dense(self, lag_bias: Tensor) -> Tensor:
        """Build the additive mask (H, Q, K) or (B, H, Q, K) from a bias per head and lag, (H, window)."""
        lags = self.q_positions.unsqueeze(-1) - self.k_positions.unsqueeze(-2)
        hidden = (lags < 0) | (lags >= self.window) | (self.k_positions < 0).unsqueeze(-2)
        bias = lag_bias[:, lags.clamp(0, self.window - 1)].masked_fill(hidden, float("-inf"))
        if bias.dim() == 3:
            return bias
        return bias.transpose(0, 1).repeat_interleave(self.group, 0)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: MaskSpec, lag_bias: Tensor) -> Tensor:
    """Attend with a mask given by positions.

    Args:
        q: Queries, (B, H, Q, D).
        k: Keys, (B, H, K, D).
        v: Values, (B, H, K, D).
        mask: Who sees whom.
        lag_bias: Bias per head and lag, (H, window), added to the logits.

    Returns:
        Mixed values, (B, H, Q, D).
    """
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.dense(lag_bias).to(q.dtype))
