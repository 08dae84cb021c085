"""Residual vector quantization: each codebook encodes the residual of the previous ones.

Source: Zeghidour et al. 2021 (arXiv:2107.03312), algorithm 1. Differs: no levels are dropped in training.

Shapes: Q levels, D width, ... any leading shape
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from reelworld.nn.quantize.quantizer import Quantized, Quantizer, side_by_side


class ResidualQuantizer(Quantizer):
    """Q quantizers, one after the other; the vector of Q codes is the sum of theirs.

    Args:
        levels: All of one width and one ``code_shape``, coarsest first.
    """

    def __init__(self, levels: Sequence[Quantizer]) -> None:
        super().__init__()
        kinds = {(q.width, q.code_shape) for q in levels}
        if len(kinds) != 1:
            raise ValueError(f"levels of widths and code shapes {sorted(kinds)}; they must all be of one kind.")
        self.levels = nn.ModuleList(levels)
        self.width = levels[0].width
        self.code_shape = (len(levels), *levels[0].code_shape)

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize rows (..., D); codes are (..., Q). Each level's error is that of its input."""
        rest, found = rows.float(), list[Quantized]()
        for level in self._parts():
            found.append(level.quantize(rest, generator))
            rest = rest - found[-1].vectors.detach()
        return side_by_side(found, torch.stack([f.vectors for f in found]).sum(0))

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Return the codes of rows (..., D), int64 (..., Q)."""
        rest, found = rows.float(), list[Tensor]()
        for level in self._parts():
            found.append(level.nearest(rest))
            rest = rest - level.lookup(found[-1])
        return torch.stack(found, rows.dim() - 1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (..., Q), (..., D); of fewer codes, the first levels' part."""
        return self.lookup_levels(codes).sum(0)

    def lookup_levels(self, codes: Tensor) -> Tensor:
        """Return each level's vectors of codes (..., Q), (Q, ..., D)."""
        parts = codes.unbind(-len(self.code_shape))
        return torch.stack([level.lookup(part) for level, part in zip(self._parts(), parts, strict=False)])

    def _parts(self) -> list[Quantizer]:
        return cast("list[Quantizer]", list(self.levels))
