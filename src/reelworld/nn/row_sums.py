"""Matrices times one or a few vectors, at the speed at which memory is read.

Drawing one token after the other, a layer's weights and an attention's keys and values are each read once per token
and used once. torch's linear and attention kernels are made for many rows: for one row on a CPU they run on one
thread or reach a third of the speed of memory. Written as a sum of rows, each times a number, the same product is
what ``embedding_bag`` does, which streams rows on all threads. Hence matrices are laid out as narrow rows here:
y[w] = sum over i of x[i] * row_i[w].

How much this wins over the other ways: docs/log.md and ``benchmarks/videogpt_sampling.py``.

Shapes: B streams, O I outputs and inputs of a layer, R rows of a table, W width of a row, S pieces = O / W
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

__all__ = ["MAX_STREAMS", "RowLinear", "row_sums", "row_width"]

ROW_BYTES = 192
"""Longest row: a few cache lines, so that a sum stays in registers and rows follow each other in memory."""
MAX_STREAMS = 8
"""With more streams than this, matrix products are as fast."""


def row_width(width: int, dtype: torch.dtype) -> int:
    """Return the greatest divisor of a width whose elements fit into a row."""
    return max(w for w in range(1, max(1, ROW_BYTES // dtype.itemsize) + 1) if width % w == 0)


def row_sums(table_RW: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Sum rows of a table, each times a number.

    Args:
        table_RW: The rows.
        rows: Which rows, int32, one sum after the other.
        starts: Where in ``rows`` each sum begins, int32, (n,).
        weights: A number for each entry of ``rows``, of the table's type.

    Returns:
        (n, W).
    """
    return torch.embedding_bag(table_RW, rows, starts, False, 0, False, weights)[0]


class RowLinear:
    """A linear layer for a few rows; holds a copy of the weights.

    Shapes: ``__call__`` maps (B, I) of any float type to (B, O), of the weights' type or, with a bias, float32.
    """

    def __init__(self, linear: nn.Linear) -> None:
        weight_OI = linear.weight.detach()
        self.outputs, self.inputs = weight_OI.shape
        width = row_width(self.outputs, weight_OI.dtype)
        self.pieces = self.outputs // width
        self.table_RW = weight_OI.view(self.pieces, width, self.inputs).mT.reshape(-1, width).contiguous()
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    def __call__(self, x_BI: Tensor) -> Tensor:
        """Map."""
        streams = len(x_BI)
        rows, starts = _rows_of_pieces(self.pieces, streams, self.inputs)
        weights_SBI = torch.empty((self.pieces, *x_BI.shape), dtype=self.table_RW.dtype).copy_(x_BI)
        y = row_sums(self.table_RW, rows, starts, weights_SBI.view(-1))
        if streams > 1:
            y = y.view(self.pieces, streams, -1).transpose(0, 1)
        y_BO = y.reshape(streams, self.outputs)
        return y_BO if self.bias is None else y_BO + self.bias


@lru_cache(maxsize=64)
def _rows_of_pieces(pieces: int, streams: int, inputs: int) -> tuple[Tensor, Tensor]:
    """List the rows that each sum reads: all of a piece, for one stream after the other while it is in the cache."""
    rows_SBI = torch.arange(pieces * inputs, dtype=torch.int32).view(pieces, 1, inputs).expand(-1, streams, -1)
    starts = torch.arange(0, pieces * streams * inputs, inputs, dtype=torch.int32)
    return rows_SBI.reshape(-1), starts
