"""Factored codebooks: a code is a mixed-radix number, and each digit has its own vocabulary.

A codebook of 2^18 codes becomes two of 512. Embeddings are sums over digits, logits are concatenated, and digits are
independent given the features. With one factor this is an ordinary codebook.

Source: 1xgpt (1X Technologies), as Open-MAGVIT2 (arXiv:2409.04410), section 3.2. Differs: any number of factors of any
sizes.

Shapes: ... any leading shape, K factors, V = sum of their sizes, D width
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.nn.random import Generators
from reelworld.types import Sampler, UserError


@dataclass(frozen=True)
class Factors:
    """The digits of a code, the fastest first (little endian)."""

    sizes: tuple[int, ...]
    """Values of each digit."""

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise UserError(f"a codebook has the factors {self.sizes}; wanted one or more, each at least 1.")

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return math.prod(self.sizes)

    def split(self, codes: Tensor) -> Tensor:
        """Turn codes (...) into digits, int64 (..., K)."""
        digits = []
        for size in self.sizes:
            digits.append(codes % size)
            codes = codes // size
        return torch.stack(digits, -1)

    def embed(self, tables: Iterable[nn.Module], codes: Tensor) -> Tensor:
        """Sum the vectors that a table per digit gives to codes (...): (..., D)."""
        digits = self.split(codes).unbind(-1)
        first, *rest = (table(digit) for table, digit in zip(tables, digits, strict=True))
        total: Tensor = sum(rest, first)
        return total

    def join(self, digits: Tensor) -> Tensor:
        """Turn digits (..., K) into codes (...)."""
        codes = torch.zeros_like(digits[..., 0])
        for digit, size in zip(reversed(digits.unbind(-1)), reversed(self.sizes), strict=True):
            codes = codes * size + digit
        return codes

    def parts(self, logits: Tensor) -> tuple[Tensor, ...]:
        """Cut logits (..., V) into those of each digit."""
        out: tuple[Tensor, ...] = logits.split(list(self.sizes), -1)
        return out

    def nll(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Return the negative log-likelihood of codes (...), in nats: the sum over their digits."""
        total = torch.zeros(codes.shape, device=logits.device)
        for part, digit in zip(self.parts(logits), self.split(codes).unbind(-1), strict=True):
            nats = functional.cross_entropy(part.float().flatten(0, -2), digit.flatten(), reduction="none")
            total = total + nats.view_as(total)
        return total

    def likeliest(self, logits: Tensor) -> Tensor:
        """Return the codes (...) of the likeliest digits."""
        return self.join(torch.stack([part.argmax(-1) for part in self.parts(logits)], -1))

    def draw(self, logits: Tensor, sampler: Sampler, generator: Generators) -> Tensor:
        """Draw codes (...): each digit by itself."""
        return self.join(torch.stack([sampler(part, generator) for part in self.parts(logits)], -1))


class FactoredEmbedding(nn.Module):
    """The sum of a vector per digit; one vector for all codes that are masked."""

    def __init__(self, factors: Factors, width: int, std: float = 0.02) -> None:
        super().__init__()
        self.factors = factors
        self.tables = nn.ModuleList([nn.Embedding(size, width) for size in factors.sizes])
        self.mask = nn.Parameter(std * torch.randn(width))
        for weight in self.tables.parameters():
            nn.init.normal_(weight, std=std)

    def forward(self, codes: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Embed codes.

        Args:
            codes: int64, (...).
            hidden: Masked codes, bool, (...); None for none.

        Returns:
            Vectors, (..., D).
        """
        total = self.factors.embed(self.tables, codes)
        return total if hidden is None else torch.where(hidden[..., None], self.mask.to(total.dtype), total)
