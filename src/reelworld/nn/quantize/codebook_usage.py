"""Codebook usage: perplexity of the codes.

Shapes: K codes, ... any shape
"""

from __future__ import annotations

import torch
from torch import Tensor

from reelworld.nn.quantize.distributed import gather_ranks, sum_ranks

MOST_BINS = 2**20
"""Codebook size above which codes are counted by sorting, not by one bin per code."""


@torch.no_grad()
def count_codes(codes: Tensor, n_codes: int, over_ranks: bool) -> Tensor:
    """Count how often each code occurs.

    Args:
        codes: int64 in [0, n_codes), any shape.
        n_codes: K.
        over_ranks: Whether the codes of all ranks are meant, not only this one's.

    Returns:
        int64, (K,).
    """
    counts = torch.bincount(codes.flatten(), minlength=n_codes)
    return sum_ranks(counts) if over_ranks else counts


@torch.no_grad()
def perplexity(counts: Tensor) -> Tensor:
    """Return exp(entropy) of codes that were used ``counts`` times, a scalar; 1 where there are none."""
    shares = counts / counts.sum().clamp(min=1)
    return (-(shares * (shares + 1e-10).log()).sum()).exp()


@torch.no_grad()
def perplexity_of(codes: Tensor, n_codes: int, over_ranks: bool) -> Tensor:
    """Return the perplexity of codes, however large the codebook; arguments as in ``count_codes``."""
    if n_codes <= MOST_BINS:
        return perplexity(count_codes(codes, n_codes, over_ranks))
    flat = gather_ranks(codes.flatten()) if over_ranks else codes.flatten()
    return perplexity(flat.unique(return_counts=True)[1])
