"""A few rows times a matrix, about as fast as the matrix is read: what a step of few streams does on a CPU.

Torch's kernels take longer for one row, in bfloat16 nearly twice as long (docs/log.md). The code is compiled when it
is first wanted; where it cannot be, for more rows and in training torch does it.

Shapes: ... any leading shape, R rows, I O inputs and outputs
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.nn.native import compiled_for

__all__ = ["FewRowsLinear", "few_rows"]

CODE = Path(__file__).with_name("few_rows.c")
MOST_ROWS = {torch.float32: 8, torch.bfloat16: 8}
"""Up to which the compiled code was measured to be faster; eight of bfloat16 where the processor multiplies pairs."""
LEAST_WEIGHTS = 2**16
"""Matrices below this lie in the processor's caches."""


class FewRowsLinear(nn.Linear):
    """A linear layer without a bias that multiplies few rows as fast as it can."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        return few_rows(x, self.weight)


def few_rows(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (..., I) with a matrix (O, I): (..., O), as ``functional.linear`` does up to rounding."""
    library = compiled_for(CODE, weight) if _suits(x, weight) else None
    if library is None:
        return functional.linear(x, weight)
    rows_RI = x.reshape(-1, x.shape[-1]).float().contiguous()
    y_RO = torch.empty(len(rows_RI), len(weight))
    pointers = (ctypes.c_void_p(t.data_ptr()) for t in (weight, rows_RI, y_RO))
    sizes = (ctypes.c_int64(n) for n in (weight.shape[1], len(weight), len(rows_RI)))
    library.multiply(*pointers, *sizes, ctypes.c_int(torch.get_num_threads()))
    return y_RO.to(x.dtype).view(*x.shape[:-1], -1)


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Say whether the compiled code can do it, and faster."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    is_few = 0 < x.numel() <= MOST_ROWS.get(weight.dtype, 0) * x.shape[-1]
    return is_few and x.dtype == weight.dtype and weight.numel() >= LEAST_WEIGHTS and weight.is_contiguous()
