"""Quantizers of bits: the sign of each dimension is a bit, the bits make the code; there is no codebook to learn.

Shapes: R rows, K bits, ... any leading shape
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from reelworld.nn.quantize.codebook_usage import perplexity_of
from reelworld.nn.quantize.entropy import SoftEntropy, default_entropy
from reelworld.nn.quantize.quantizer import Quantized, Quantizer
from reelworld.nn.quantize.straight_through import straight_through

MOST_BITS = 62
"""Codes are int64."""


class BitQuantizer(Quantizer):
    """Each of K dimensions becomes minus or plus ``scale``; first dimension, most significant bit; 0 becomes minus.

    The soft choice behind the entropies is softmax over codes c of 2 * inverse_temperature * z.c.

    Args:
        n_bits: K.
        scale: Size of each entry of a code's vector.
        inverse_temperature: How sharp the soft choice is.
        entropy: How entropies are measured; full up to 12 bits, in groups beyond, unless given.
    """

    places: Tensor

    def __init__(
        self, n_bits: int, *, scale: float, inverse_temperature: float, entropy: SoftEntropy | None = None
    ) -> None:
        super().__init__()
        if not 1 <= n_bits <= MOST_BITS:
            raise ValueError(f"a code of {n_bits} bits; wanted 1 to {MOST_BITS}. Use several codebooks for more.")
        self.width, self.codebook_size = n_bits, 2**n_bits
        self.scale, self.inverse_temperature = scale, inverse_temperature
        self.entropy = entropy or default_entropy(n_bits)
        self.register_buffer("places", 2 ** torch.arange(n_bits - 1, -1, -1), persistent=False)

    @abstractmethod
    def project(self, rows: Tensor) -> Tensor:
        """Map rows (..., K) to the space of the codes."""

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize rows (..., K), straight-through; ``entropy_penalty`` of the result makes codes sure and used."""
        with torch.autocast(rows.device.type, enabled=False):
            rows = self.project(rows.float())
            codes = self._codes(rows)
            chosen = self.lookup(codes)
            odds_RK = (4 * self.inverse_temperature * self.scale) * rows.flatten(0, -2)
            row_entropy, batch_entropy = self.entropy(odds_RK, over_ranks=self.training)
            error = (rows - chosen).pow(2).sum()
            return Quantized(
                codes=codes,
                vectors=straight_through(rows, chosen),
                squared_error=error,
                perplexity=perplexity_of(codes, self.codebook_size, over_ranks=self.training),
                n_entries=rows.numel(),
                codebook_error=error.new_zeros(()),
                row_entropy=row_entropy,
                batch_entropy=batch_entropy,
            )

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Return the codes of rows (..., K), int64 (...)."""
        return self._codes(rows)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes, int64 (...), float32 (..., K)."""
        bits = (codes.unsqueeze(-1) & self.places) != 0
        return (bits.float() * 2 - 1) * self.scale

    def _codes(self, rows: Tensor) -> Tensor:
        return ((rows > 0) * self.places).sum(-1)


class LFQ(BitQuantizer):
    """Lookup-free quantization: signs of the rows as they are.

    Source: Yu et al. 2023 (arXiv:2310.05737), section 3.1. The published temperature suits inputs far below 1 in size:
    for inputs of size 1 every choice is sure and the entropies have no gradient. Put a normalization in front.

    Args:
        n_bits: K.
        scale: Size of each entry of a code's vector.
        inverse_temperature: How sharp the soft choice is.
        entropy: How entropies are measured; full up to 12 bits, in groups beyond, unless given.
    """

    def __init__(
        self,
        n_bits: int,
        *,
        scale: float = 1.0,
        inverse_temperature: float = 100.0,
        entropy: SoftEntropy | None = None,
    ) -> None:
        super().__init__(n_bits, scale=scale, inverse_temperature=inverse_temperature, entropy=entropy)

    def project(self, rows: Tensor) -> Tensor:
        """Return the rows as they are."""
        return rows


class BSQ(BitQuantizer):
    """Binary spherical quantization: rows are scaled to one length, that of the codes.

    Source: Zhao et al. 2024 (arXiv:2406.07548), section 4.

    Args:
        n_bits: K.
        length: What rows and codes' vectors are scaled to.
        inverse_temperature: How sharp the soft choice is.
        entropy: How entropies are measured; full up to 12 bits, in groups beyond, unless given.
    """

    def __init__(
        self,
        n_bits: int,
        *,
        length: float = 1.0,
        inverse_temperature: float = 1.0,
        entropy: SoftEntropy | None = None,
    ) -> None:
        self.length = length
        super().__init__(n_bits, scale=length * n_bits**-0.5, inverse_temperature=inverse_temperature, entropy=entropy)

    def project(self, rows: Tensor) -> Tensor:
        """Scale to one length; a row of zeros stays."""
        return F.normalize(rows, dim=-1) * self.length


def entropy_penalty(found: Quantized, diversity: float = 1.0) -> Tensor:
    """Return the mean entropy of a row's choice minus ``diversity`` times that of the batch; a scalar, in nats.

    Source: Yu et al. 2023 (arXiv:2310.05737), section 3.1; of several codebooks, the mean.
    """
    return found.row_entropy.sum() / max(found.codes.numel(), 1) - diversity * found.batch_entropy.mean()
