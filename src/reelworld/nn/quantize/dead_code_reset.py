"""Initialization of codebooks, and reset of dead codes.

Shapes: R rows, K codes, D width
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from reelworld.nn.quantize.distributed import first_rank


class DeadCodeReset(Protocol):
    """Initial codes, and replacement of dead ones; called in training with the same arguments on every rank."""

    def begin(self, vectors: Tensor, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the vectors (K, D) that a codebook starts from, given its initial ones and the first rows (..., D)."""

    def reset(self, vectors: Tensor, counts: Tensor, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return vectors (K, D) with dead codes replaced; ``counts`` (K,) are moving averages of rows per batch."""

    def is_dead(self, counts: Tensor) -> Tensor:
        """Return which codes ``reset`` replaces, bool (K,)."""


class NoReset:
    """Codes keep their initial vectors; dead ones stay dead."""

    def begin(self, vectors: Tensor, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the vectors as they are."""
        return vectors

    def reset(self, vectors: Tensor, counts: Tensor, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the vectors as they are."""
        return vectors

    def is_dead(self, counts: Tensor) -> Tensor:
        """Return that no code is dead."""
        return torch.zeros_like(counts, dtype=torch.bool)


class ResetFromBatch:
    """Codes begin as rows of the first batch; dead ones try a row of each batch until it gathers enough.

    In data-parallel training the first rank draws for all, from its own rows.

    Source: the code of VideoGPT (arXiv:2104.10157).

    Args:
        below: A code is dead while fewer rows per batch choose it, in the moving average.
    """

    def __init__(self, below: float = 1.0) -> None:
        self.below = below

    def begin(self, vectors: Tensor, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw K rows."""
        return first_rank(_draw(rows, len(vectors), generator))

    def reset(self, vectors: Tensor, counts: Tensor, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw as many rows as there are codes and give the dead ones theirs."""
        drawn = first_rank(_draw(rows, len(vectors), generator))
        return torch.where(self.is_dead(counts)[:, None], drawn, vectors)

    def is_dead(self, counts: Tensor) -> Tensor:
        """Return which codes too few rows choose."""
        return counts < self.below


def _draw(rows: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw n rows; where there are fewer, repeat them with a little noise."""
    flat = rows.detach().flatten(0, -2)
    if len(flat) == 0:
        raise ValueError("a codebook cannot learn from no rows. Pass a batch with at least one.")
    if len(flat) < n:
        flat = flat.repeat(-(-n // len(flat)), 1)
        noise = torch.randn(flat.shape, generator=generator, device=flat.device)
        flat = flat + noise * (0.01 * flat.shape[1] ** -0.5)
    return flat[torch.randperm(len(flat), generator=generator, device=flat.device)[:n]]
