"""Wrappers of any quantizer: projections before and after it, and the channel order of video.

Shapes: E width outside, D width inside, ... any leading shape, B batch
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reelworld.nn.quantize.quantizer import Quantized, Quantizer


class Projected(Quantizer):
    """Apply ``before`` to the rows, quantize, and apply ``after`` to the codes' vectors.

    Args:
        quantizer: Of width D.
        width: E.
        before: (..., E) -> (..., D).
        after: (..., D) -> (..., E).
    """

    def __init__(self, quantizer: Quantizer, width: int, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.quantizer, self.before, self.after = quantizer, before, after
        self.width, self.code_shape = width, quantizer.code_shape

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize rows (..., E); errors and entropies are those of the inside, vectors are (..., E)."""
        found = self.quantizer.quantize(self.before(rows), generator)
        return found._replace(vectors=self.after(found.vectors))

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Return the codes of rows (..., E)."""
        return self.quantizer.nearest(self.before(rows))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes, (..., E)."""
        vectors: Tensor = self.after(self.quantizer.lookup(codes))
        return vectors


def project(quantizer: Quantizer, width: int, *, bias: bool = True) -> Projected:
    """Put linear maps from and to ``width`` around a quantizer."""
    before, after = nn.Linear(width, quantizer.width, bias=bias), nn.Linear(quantizer.width, width, bias=bias)
    return Projected(quantizer, width, before, after)


class ChannelsFirst(Quantizer):
    """Takes and gives vectors along dimension 1, as convolutions do: (B, D, ...), for example (B, D, T, H, W).

    Codes are (B, ..., *code_shape).

    Args:
        quantizer: Of vectors along the last dimension.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.width, self.code_shape = quantizer.width, quantizer.code_shape

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize (B, D, ...)."""
        found = self.quantizer.quantize(rows.movedim(1, -1), generator)
        return found._replace(vectors=found.vectors.movedim(-1, 1))

    def nearest(self, rows: Tensor) -> Tensor:
        """Return the codes of (B, D, ...)."""
        return self.quantizer.nearest(rows.movedim(1, -1))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes, (B, D, ...)."""
        return self.quantizer.lookup(codes).movedim(-1, 1)
