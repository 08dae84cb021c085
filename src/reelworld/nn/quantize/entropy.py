"""Entropy of soft choices of bits: exact for few bits, in groups for many.

A row of K log-odds chooses each of 2^K codes with the product of its bits' probabilities. Two entropies train such a
quantizer: that of each row's choice (low: rows are sure) and that of the mean choice (high: all codes are used).

Shapes: R rows, K bits, V = 2^K codes
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from reelworld.nn.quantize.distributed import sum_ranks

FULL_BITS = 12
"""Up to here every code of every row is counted by default."""
ENTRIES = 2**20
"""Probabilities of one piece of rows: 4 MiB."""
FLOOR = 1e-5
"""Smallest probability inside a logarithm, as in the field's reference code."""
TINY = 1e-30
"""Keeps the logarithm of a probability that is 0 in float32 finite, and its gradient."""


class SoftEntropy(Protocol):
    """Two entropies of the same soft choices."""

    def __call__(self, odds: Tensor, over_ranks: bool) -> tuple[Tensor, Tensor]:
        """Measure.

        Args:
            odds: Log-odds of each bit being 1, (R, K), most significant bit first.
            over_ranks: Whether the mean choice is that of all ranks' rows.

        Returns:
            Sum over rows of each choice's entropy, and the entropy of the mean choice; scalars, in nats.
        """


def default_entropy(n_bits: int) -> SoftEntropy:
    """Return the full form where it is affordable."""
    return FullEntropy() if n_bits <= FULL_BITS else GroupedEntropy()


def code_probabilities(odds_RK: Tensor) -> Tensor:
    """Return the probability of every code, (R, V)."""
    found_RV = odds_RK.new_ones(len(odds_RK), 1)
    for odd_R in odds_RK.unbind(1):
        bit_R2 = torch.stack([-odd_R, odd_R], 1).sigmoid()
        found_RV = (found_RV[:, :, None] * bit_R2[:, None]).flatten(1)
    return found_RV


def _entropy(p: Tensor, floor: float) -> Tensor:
    """Return the sum of -p log p, p no less than ``floor`` inside the logarithm."""
    return -(p * p.clamp(min=floor).log()).sum()


def _mean(total: Tensor, n_rows: int, over_ranks: bool) -> Tensor:
    """Divide sums over rows by their number, of this rank or of all."""
    count = total.new_tensor(float(n_rows))
    if over_ranks:
        total, count = sum_ranks(total), sum_ranks(count)
    return total / count.clamp(min=1)


class FullEntropy:
    """Over all 2^K codes of every row, with probabilities held above 1e-5 inside logarithms.

    Time grows with R 2^K; memory does not, because rows go through in pieces that are computed again for the gradient.

    Source: Yu et al. 2023 (arXiv:2310.05737), section 3.1.
    """

    def __call__(self, odds: Tensor, over_ranks: bool) -> tuple[Tensor, Tensor]:
        """Measure."""
        parts = odds.split(max(1, ENTRIES >> odds.shape[1]))
        sums = [checkpoint(_full, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        mean_V = _mean(torch.stack([s[1] for s in sums]).sum(0), len(odds), over_ranks)
        return torch.stack([s[0] for s in sums]).sum(), _entropy(mean_V, FLOOR)


def _full(odds_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the rows' entropies and the sum of their probabilities, (V,)."""
    found_RV = code_probabilities(odds_RK)
    return _entropy(found_RV, FLOOR), found_RV.sum(0)


class GroupedEntropy:
    """Bit by bit where that is exact, by groups of bits where it is not; no floor inside logarithms.

    A row's bits are independent, so the entropy of its choice is the sum over bits: exact. The mean choice's bits are
    not: its entropy is *approximated* by the sum over groups of neighbouring bits. That is an upper bound, exact when
    the groups are independent over the rows, or with one group of all bits. A group of g bits costs R 2^g operations
    and 2^g numbers of memory.

    Source: Zhao et al. 2024 (arXiv:2406.07548), section 4. Differs: within a group the mean choice is exact.

    Args:
        group_bits: Bits in a group; the last group takes what is left.
    """

    def __init__(self, group_bits: int = 9) -> None:
        if group_bits < 1:
            raise ValueError(f"groups have {group_bits} bits; they need at least 1.")
        self.group_bits = group_bits

    def __call__(self, odds: Tensor, over_ranks: bool) -> tuple[Tensor, Tensor]:
        """Measure."""
        groups = [_mean(_sum_of_codes(g), len(odds), over_ranks) for g in odds.split(self.group_bits, 1)]
        return _bit_entropies(odds).sum(), torch.stack([_entropy(mean, TINY) for mean in groups]).sum()


def _bit_entropies(odds: Tensor) -> Tensor:
    """Return the entropy of each bit in nats; every term is positive, so nothing cancels when bits are sure."""
    size = odds.abs()
    return F.softplus(-size) + size * torch.sigmoid(-size)


def _sum_of_codes(odds_RK: Tensor) -> Tensor:
    """Add up the probabilities of every code over rows, (V,), without a table of rows and codes.

    The probability of a code is a product of its first bits' and its last bits', so the sum is a matrix product.
    """
    first = odds_RK.shape[1] // 2
    high, low = code_probabilities(odds_RK[:, :first]), code_probabilities(odds_RK[:, first:])
    return (high.t() @ low).flatten()
