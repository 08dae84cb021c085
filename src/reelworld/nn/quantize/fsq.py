"""Finite scalar quantization: each dimension is rounded to a few levels, the digits make the code.

Source: Mentzer et al. 2023 (arXiv:2309.15505), section 3. Codes are mixed-radix numbers, first digit fastest,
as in the authors' code.

Shapes: K digits (dimensions), ... any leading shape
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["FSQ", "code_digits"]


def code_digits(levels: Sequence[int]) -> Tensor:
    """List the digits of every code, int64 (codebook size, K)."""
    codes = torch.arange(math.prod(levels))
    digits = []
    for level in levels:
        digits.append(codes % level)
        codes = codes // level
    return torch.stack(digits, -1)


class FSQ(nn.Module):
    """Round each of K dimensions to ``levels[k]`` values in [-1, 1], straight-through.

    Source: arXiv:2309.15505, section 3 and appendix A (the bound with its shift for even levels).
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        basis = [math.prod(levels[:k]) for k in range(len(levels))]
        self.register_buffer("basis", torch.tensor(basis), persistent=False)
        self.codebook_size = math.prod(levels)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize.

        Args:
            latent: Unbounded values, float, (..., K).

        Returns:
            Values in [-1, 1] with a straight-through gradient, (..., K), and codes, int64, (...).
        """
        bounded = self.bound(latent.float())
        rounded = bounded + (bounded.round() - bounded).detach()
        half = self.levels // 2
        digits = (rounded.detach() + half).long()
        return rounded / half, (digits * self.basis).sum(-1)

    def bound(self, latent: Tensor) -> Tensor:
        """Squash each dimension to the range that rounds to its levels."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = (offset / half).atanh()
        return (latent + shift).tanh() * half - offset

    def values(self, codes: Tensor) -> Tensor:
        """Turn codes, int64 (...), into the values that decoding expects, (..., K)."""
        half = self.levels // 2
        digits = (codes.unsqueeze(-1) // self.basis) % self.levels
        return (digits - half) / half
