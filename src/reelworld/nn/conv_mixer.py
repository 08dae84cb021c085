"""Blocks on a grid of tokens: local mixing by a 3x3 convolution, global mixing by pooling.

On small worlds these learn several times faster than spatial attention: a rule such as "the cell in front of
the agent" is one set of weights for the whole grid instead of one per position (docs/log.md has the figures).

Shapes: F frames (batch and time together), R C grid rows and columns, D width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvMixerBlock(nn.Module):
    """Pre-norm residual block: 3x3 convolution plus the grid's mean and maximum, then a pointwise layer.

    The residual branch is zero at the start, so a fresh stack of blocks is the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.local = nn.Conv2d(width, width, 3, padding=1)
        self.pooled = nn.Linear(2 * width, width, bias=False)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens of each frame: (F, R, C, D) -> (F, R, C, D)."""
        h_FRCD = self.norm(x)
        pool_F2D = torch.cat([h_FRCD.mean((1, 2)), h_FRCD.amax((1, 2))], -1)
        # A (F, R, C, D) tensor seen as (F, D, R, C) already is channels_last: no copy.
        local_FRCD = self.local(h_FRCD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        mixed_FRCD = functional.gelu(local_FRCD + self.pooled(pool_F2D)[:, None, None])
        out: Tensor = x + self.out(mixed_FRCD)
        return out
