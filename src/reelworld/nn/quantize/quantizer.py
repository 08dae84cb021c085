"""Interface of quantizers: vectors in; codes, the codes' vectors and the distance to them out.

Quantizers compose. A leaf (a codebook, FSQ, LFQ, BSQ) has one codebook; ``product.py`` and ``residual.py`` put several
together; ``layout.py`` adds projections and the channel order of video.

Shapes: ... any leading shape, D width, C codebooks
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Quantized(NamedTuple):
    """Result of quantizing some rows. Numbers per codebook are scalars, or (C,) where a quantizer has C codebooks."""

    codes: Tensor
    """int64, (...), or (..., C)."""
    vectors: Tensor
    """(..., D): the codes' vectors; gradients reach the input by the quantizer's estimator."""
    squared_error: Tensor
    """Sum over all entries of the squared distance from the input to the (fixed) codes' vectors; moves the input.
    Divided by ``n_entries`` and weighted, this is the commitment loss."""
    perplexity: Tensor
    """exp(entropy) of the codes of this batch; in training, of all ranks' batches together."""
    n_entries: int
    """Count of the numbers that each entry of ``squared_error`` and ``codebook_error`` sums up."""
    codebook_error: Tensor
    """The same sum, for the (fixed) input; moves codebooks that learn by gradients, 0 for all others."""
    row_entropy: Tensor
    """Sum over rows of the entropy of each row's soft choice, in nats; 0 for quantizers without a temperature."""
    batch_entropy: Tensor
    """Entropy of the mean soft choice, in nats; in training, of all ranks' rows. 0 without a temperature."""


class Quantizer(nn.Module, ABC):
    """Turns vectors of ``width`` numbers into codes, int64 (..., *code_shape), and back."""

    width: int
    """D of input and output."""
    code_shape: tuple[int, ...] = ()
    """Of the codes of one vector: () for one codebook, (C,) for C."""

    @abstractmethod
    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize rows (..., D); in training mode, learn from them.

        Args:
            rows: Any float type; computed in float32.
            generator: Of whatever the quantizer draws.
        """

    @abstractmethod
    def nearest(self, rows: Tensor) -> Tensor:
        """Return the codes of rows (..., D), int64 (..., *code_shape); the state is not updated."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (..., *code_shape), float (..., D)."""


def side_by_side(parts: Sequence[Quantized], vectors: Tensor) -> Quantized:
    """Join the results of several codebooks for the same rows.

    Args:
        parts: One per codebook, all of the same shape.
        vectors: What they make together, (..., D).
    """
    row_dims = vectors.dim() - 1
    return Quantized(
        codes=torch.stack([p.codes for p in parts], row_dims),
        vectors=vectors,
        squared_error=torch.stack([p.squared_error for p in parts]),
        perplexity=torch.stack([p.perplexity for p in parts]),
        n_entries=parts[0].n_entries,
        codebook_error=torch.stack([p.codebook_error for p in parts]),
        row_entropy=torch.stack([p.row_entropy for p in parts]),
        batch_entropy=torch.stack([p.batch_entropy for p in parts]),
    )
