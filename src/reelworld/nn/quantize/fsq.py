"""Finite scalar quantization: each dimension is rounded to a few levels, the digits make the code.

Source: Mentzer et al. 2023 (arXiv:2309.15505), section 3. Codes are mixed-radix numbers, first digit fastest,
as in the authors' code.

Shapes: K digits (dimensions), ... any leading shape
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from reelworld.nn.quantize.codebook_usage import perplexity_of
from reelworld.nn.quantize.quantizer import Quantized, Quantizer
from reelworld.nn.quantize.straight_through import straight_through

MARGIN = 1e-3
"""Share by which the squashed range differs from the levels' range."""
MOST_LEVELS = 1000
"""With more, the margin is wider than half a level and there are digits outside the levels."""


def code_digits(levels: Sequence[int]) -> Tensor:
    """List the digits of every code, int64 (codebook size, K)."""
    codes = torch.arange(math.prod(levels))
    digits = []
    for level in levels:
        digits.append(codes % level)
        codes = codes // level
    return torch.stack(digits, -1)


class FiniteScalar(Quantizer):
    """Round each of K dimensions to ``levels[k]`` values in [-1, 1], straight-through; no parameters.

    Subclasses differ in the bounding function of a dimension and in its levels.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or not all(2 <= level <= MOST_LEVELS for level in levels) or math.prod(levels) >= 2**63:
            raise ValueError(
                f"levels are {list(levels)}; FSQ wants 2 to {MOST_LEVELS} per dimension and fewer than 2^63 codes."
                " Pass e.g. [8, 5, 5, 5]."
            )
        self.width = len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        basis = [math.prod(levels[:k]) for k in range(len(levels))]
        self.register_buffer("basis", torch.tensor(basis), persistent=False)
        self.codebook_size = math.prod(levels)

    @abstractmethod
    def bound(self, latent: Tensor) -> Tensor:
        """Squash (..., K) to positions; neighbouring levels are 1 apart."""

    @abstractmethod
    def to_level(self, position: Tensor) -> Tensor:
        """Return the position of the nearest level."""

    @abstractmethod
    def first_level(self) -> Tensor:
        """Return the position of each dimension's first level, (K,)."""

    @abstractmethod
    def value(self, position: Tensor) -> Tensor:
        """Turn positions into values in [-1, 1]."""

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize unbounded values (..., K); vectors are values in [-1, 1]. Needs no loss term of its own."""
        with torch.autocast(rows.device.type, enabled=False):
            bounded = self.bound(rows.float())
            position = straight_through(bounded, self.to_level(bounded))
            codes = self._codes(position)
            vectors = self.value(position)
            zero = vectors.new_zeros(())
            return Quantized(
                codes=codes,
                vectors=vectors,
                squared_error=(self.value(bounded) - vectors.detach()).pow(2).sum(),
                perplexity=perplexity_of(codes, self.codebook_size, over_ranks=self.training),
                n_entries=rows.numel(),
                codebook_error=zero,
                row_entropy=zero,
                batch_entropy=zero,
            )

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Return the codes of unbounded values (..., K), int64 (...)."""
        with torch.autocast(rows.device.type, enabled=False):
            return self._codes(self.to_level(self.bound(rows.float())))

    def lookup(self, codes: Tensor) -> Tensor:
        """Turn codes, int64 (...), into the values that decoding expects, (..., K)."""
        digits = (codes.unsqueeze(-1) // self.basis) % self.levels
        return self.value(digits + self.first_level())

    def _codes(self, position: Tensor) -> Tensor:
        digits = (position.detach() - self.first_level()).round().long()
        return (digits * self.basis).sum(-1)


class _Centred(FiniteScalar):
    """Levels at whole numbers around 0; the value 0 is always one of them, and an even number leaves +1 out."""

    def to_level(self, position: Tensor) -> Tensor:
        """Round, halves to even."""
        return position.round()

    def first_level(self) -> Tensor:
        """Return minus half the levels, (K,)."""
        return -(self.levels // 2)

    def value(self, position: Tensor) -> Tensor:
        """Divide by half the levels."""
        return position / (self.levels // 2)


class FSQ(_Centred):
    """The form in common use: an input of 0 has the value 0.

    Source: arXiv:2309.15505, section 3, and the bound with its shift for even levels of the authors' notebook. Differs:
    the shift undoes the squashing (atanh), and the squashed range is a little wider than the levels, not narrower.
    """

    def bound(self, latent: Tensor) -> Tensor:
        """Squash each dimension to the range that rounds to its levels."""
        half = (self.levels - 1) * (1 + MARGIN) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = (offset / half).atanh()
        return (latent + shift).tanh() * half - offset


class NotebookFSQ(_Centred):
    """As the authors' notebook has it, for weights that were trained with it.

    Source: arXiv:2309.15505, appendix A.1. Its shift for even levels is tan, not atanh: an input of 0 is near the
    value 0, not on it.
    """

    def bound(self, latent: Tensor) -> Tensor:
        """Squash each dimension to the range that rounds to its levels."""
        half = (self.levels - 1) * (1 - MARGIN) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = (offset / half).tan()
        return (latent + shift).tanh() * half - offset


class SymmetricFSQ(FiniteScalar):
    """Levels are spaced evenly from -1 to 1, also where their number is even: two levels make a sign.

    Source: the bottleneck of Parker et al. 2024 (arXiv:2411.19842). Differs: no noise in place of rounding.
    """

    def bound(self, latent: Tensor) -> Tensor:
        """Squash each dimension to [0, levels - 1]."""
        return (self.levels - 1) * (latent.tanh() + 1) / 2

    def to_level(self, position: Tensor) -> Tensor:
        """Round, halves up."""
        return (position + 0.5).floor()

    def first_level(self) -> Tensor:
        """Return zeros, (K,)."""
        return torch.zeros_like(self.levels)

    def value(self, position: Tensor) -> Tensor:
        """Stretch to [-1, 1]."""
        return 2 * position / (self.levels - 1) - 1
