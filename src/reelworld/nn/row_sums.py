"""Matrices times one vector, or some, at the speed at which memory is read.

Drawing one token after the other, a layer's weights and an attention's keys and values are each read once per token
and used once. torch's linear and attention kernels are made for many rows: for one row on a CPU they run on one
thread or reach a third of the speed of memory. Written as a sum of rows, each times a number, the same product is
what ``embedding_bag`` does, which streams rows on all threads. Hence matrices are laid out as narrow rows here:
y[w] = sum over i of x[i] * row_i[w]. Tables lie in large pages (``nn.large_pages``).

Several vectors at once re-read a piece of the table while it is in the cache. How much this wins: docs/log.md.

Shapes: B streams, O I outputs and inputs of a layer, R rows of a table, W width of a row, S pieces = O / W
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reelworld.nn.large_pages import LargePages

__all__ = ["ROW", "RowLinear", "row_sums", "row_width"]

ROW = {8: 16, 4: 32, 2: 96}
"""Longest row in numbers, by their bytes: what was read fastest of 16 to 576 (docs/log.md)."""


def row_width(width: int, dtype: torch.dtype) -> int:
    """Return the greatest divisor of a width that is no longer than a row."""
    return max(w for w in range(1, ROW[dtype.itemsize] + 1) if width % w == 0)


def row_sums(table_RW: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Sum rows of a table, each times a number.

    Args:
        table_RW: The rows.
        rows: Which rows, int32, one sum after the other.
        starts: Where in ``rows`` each sum begins, and the end of the last, int32, (n + 1,).
        weights: A number for each entry of ``rows``, of the table's type.

    Returns:
        (n, W).
    """
    return torch.embedding_bag(table_RW, rows, starts, False, 0, False, weights, True)[0]


class RowLinear:
    """A linear layer for one token of each stream; holds a copy of the weights.

    The bias is one more row of every piece, times 1.

    Shapes: ``__call__`` maps (B, I) of any float type to (B, O) of the weights' type.
    """

    def __init__(self, linear: nn.Linear, pages: LargePages) -> None:
        weight_OI = linear.weight.detach()
        if linear.bias is not None:
            weight_OI = torch.cat([weight_OI, linear.bias.detach()[:, None]], 1)
        self.outputs, n_rows = weight_OI.shape
        width = row_width(self.outputs, weight_OI.dtype)
        pieces_SRW = weight_OI.view(-1, width, n_rows).mT
        self.table_RW = pages.zeros(pieces_SRW.shape, weight_OI.dtype).copy_(pieces_SRW).view(-1, width)
        self.plan = (self.outputs // width, n_rows, weight_OI.dtype, linear.bias is not None)

    def __call__(self, x_BI: Tensor) -> Tensor:
        """Map."""
        streams = x_BI.shape[0]
        plan = _plan(threading.get_ident(), streams, *self.plan)
        plan.inputs_SBI.copy_(x_BI)
        y = row_sums(self.table_RW, plan.rows, plan.starts, plan.weights)
        if streams > 1:
            y = y.view(self.plan[0], streams, -1).transpose(0, 1)
        return y.reshape(streams, self.outputs)


class Plan(NamedTuple):
    """How a layer is read: all rows of a piece, for one stream after the other while they are in the cache."""

    rows: Tensor
    starts: Tensor
    weights: Tensor
    inputs_SBI: Tensor
    """The part of ``weights`` that is the input; the rest is 1."""


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # it is kept: what is made in inference mode cannot be written to outside of it
def _plan(thread: int, streams: int, pieces: int, n_rows: int, dtype: torch.dtype, has_bias: bool) -> Plan:
    """Make the plan of all layers of one shape; every thread has its own, because it is written to."""
    rows_SBR = torch.arange(pieces * n_rows, dtype=torch.int32).view(pieces, 1, n_rows).expand(-1, streams, -1)
    weights_SBR = torch.ones(pieces, streams, n_rows, dtype=dtype)
    return Plan(
        rows=rows_SBR.reshape(-1),
        starts=torch.arange(0, pieces * streams * n_rows + 1, n_rows, dtype=torch.int32),
        weights=weights_SBR.view(-1),
        inputs_SBI=weights_SBR[..., : n_rows - has_bias],
    )
