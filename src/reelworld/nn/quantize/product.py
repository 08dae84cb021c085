"""Several codebooks side by side: a vector is cut into equal pieces, and each piece has a code.

Source: Jegou et al. 2011 (product quantization), with the codebooks of this package.

Shapes: C codebooks, D width of a piece, ... any leading shape
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from reelworld.nn.quantize.quantizer import Quantized, Quantizer, side_by_side


class ProductQuantizer(Quantizer):
    """Each piece has a quantizer of its own, with numbers and statistics of its own.

    Args:
        quantizers: C of them, all of one width and one ``code_shape``.
    """

    def __init__(self, quantizers: Sequence[Quantizer]) -> None:
        super().__init__()
        kinds = {(q.width, q.code_shape) for q in quantizers}
        if len(kinds) != 1:
            raise ValueError(f"quantizers of widths and code shapes {sorted(kinds)}; they must all be of one kind.")
        self.quantizers = nn.ModuleList(quantizers)
        self.width = sum(q.width for q in quantizers)
        self.code_shape = (len(quantizers), *quantizers[0].code_shape)

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize rows (..., C * D); codes are (..., C)."""
        pairs = zip(self._parts(), self._pieces(rows), strict=True)
        found = [part.quantize(piece, generator) for part, piece in pairs]
        return side_by_side(found, torch.cat([f.vectors for f in found], -1))

    def nearest(self, rows: Tensor) -> Tensor:
        """Return the codes of rows (..., C * D), int64 (..., C)."""
        pairs = zip(self._parts(), self._pieces(rows), strict=True)
        return torch.stack([part.nearest(piece) for part, piece in pairs], rows.dim() - 1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (..., C), (..., C * D)."""
        pieces = codes.unbind(-len(self.code_shape))
        return torch.cat([part.lookup(piece) for part, piece in zip(self._parts(), pieces, strict=True)], -1)

    def _parts(self) -> list[Quantizer]:
        return cast("list[Quantizer]", list(self.quantizers))

    def _pieces(self, rows: Tensor) -> Sequence[Tensor]:
        out: Sequence[Tensor] = rows.unflatten(-1, (self.code_shape[0], -1)).unbind(-2)
        return out


class SharedProductQuantizer(Quantizer):
    """Product quantization with one quantizer shared by all pieces; it is trained on, and counts, all of them.

    Args:
        quantizer: Of one piece.
        n_pieces: C.
    """

    def __init__(self, quantizer: Quantizer, n_pieces: int) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.width = n_pieces * quantizer.width
        self.code_shape = (n_pieces, *quantizer.code_shape)

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize rows (..., C * D); codes are (..., C), numbers are those of the shared codebook."""
        found = self.quantizer.quantize(self._pieces(rows), generator)
        return found._replace(vectors=found.vectors.flatten(-2))

    def nearest(self, rows: Tensor) -> Tensor:
        """Return the codes of rows (..., C * D), int64 (..., C)."""
        return self.quantizer.nearest(self._pieces(rows))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (..., C), (..., C * D)."""
        return self.quantizer.lookup(codes).flatten(-2)

    def _pieces(self, rows: Tensor) -> Tensor:
        out: Tensor = rows.unflatten(-1, (self.code_shape[0], -1))
        return out
