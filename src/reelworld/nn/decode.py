"""Decoding with few rows on a CPU: products with a matrix, and attention to a prefix that all rows share.

One token of few streams is bound by reading weights, keys and values. Torch's kernels are made for many rows and reach
a third to a half of the speed of memory there, ``decode.c`` 66 to 80% (docs/log.md). The C code is compiled when it is
first called. Without a compiler, on other devices, for many rows and in training torch's operators compute the same.
``CC`` names the compiler, as usual; an empty ``CC`` turns it off. Nothing is kept on disk: compiling takes a second,
and a stored library could be another processor's or another user's.

Shapes: ... any leading shape, R rows, I O inputs and outputs, B rows with a prefix, H heads, C tokens of the prefix,
  K tokens of a row, D width of a head
"""

from __future__ import annotations

import ctypes
import logging
import math
import mmap
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import byref, c_float, c_int, c_int64, c_void_p
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

logger = logging.getLogger(__name__)

CODE = Path(__file__).with_name("decode.c")
# Sums in any order, so that loops are vectorized. Not -ffast-math: linked with it, a library makes the whole process
# treat denormal numbers as zero.
SUMS = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")
FLAGS = ("-O3", "-march=native", "-fopenmp", *SUMS, "-fPIC", "-shared")
COMPILE_SECONDS = 60
DTYPE_FLAGS: dict[torch.dtype, tuple[str, ...]] = {torch.float32: (), torch.bfloat16: ("-DBF16",)}
"""Types of weights that ``decode.c`` can be compiled for, and its flags."""
MAX_ROWS = 8
"""Rows up to which the compiled product was measured to be faster."""
MIN_WEIGHTS = 2**16
"""Matrices below this size stay in the processor's caches."""
HUGE_PAGE = 2**21


# ---------------------------------------------------------------------- compiling


@lru_cache
def compile_c(source: Path, *flags: str) -> ctypes.CDLL | None:
    """Compile a file of C and load it.

    Args:
        source: The file.
        flags: Additional compiler flags.

    Returns:
        The library; None if that does not work here.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not compiler:
        return None
    with tempfile.TemporaryDirectory(prefix="reelworld-", ignore_cleanup_errors=True) as folder:
        library = Path(folder) / source.with_suffix(".so").name
        command = [*compiler, *FLAGS, *flags, str(source), "-o", str(library), "-lm"]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=COMPILE_SECONDS)
            return ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError) as error:
            logger.info("%s is not compiled: %s", source.name, error)
            return None


def decode_library(weights: Tensor) -> ctypes.CDLL | None:
    """Return ``decode.c`` compiled for weights like these; None where that does not work."""
    if weights.device.type != "cpu" or weights.dtype not in DTYPE_FLAGS:
        return None
    return compile_c(CODE, *DTYPE_FLAGS[weights.dtype])


def pointer(tensor: Tensor) -> c_void_p:
    """Return the address of a tensor's first number."""
    return c_void_p(tensor.data_ptr())


def huge_page_zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Make a CPU tensor of zeros in pages of 2 MiB where the system has them.

    Reading 200 MB in pages of 4 KiB takes 50,000 address translations; in a virtual machine they cost more than the
    reading itself.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if not hasattr(mmap, "MADV_HUGEPAGE") or n_bytes < HUGE_PAGE:
        return torch.zeros(*shape, dtype=dtype)
    memory = mmap.mmap(-1, n_bytes + 2 * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)  # free until it is written to
    everything = torch.frombuffer(memory, dtype=torch.uint8)
    first = -everything.data_ptr() % HUGE_PAGE
    return everything[first : first + n_bytes].view(dtype).view(*shape)


# ---------------------------------------------------------------------- products


class GemvLinear(nn.Linear):
    """A linear layer without a bias that is fast for few rows."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        return gemv(x, self.weight)


def gemv(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (..., I) with a matrix (O, I): (..., O), as ``functional.linear`` does up to rounding."""
    library = decode_library(weight) if _is_few_rows(x, weight) else None
    if library is None:
        return functional.linear(x, weight)
    rows_RI = x.reshape(-1, x.shape[-1]).float().contiguous()
    y_RO = torch.empty(len(rows_RI), len(weight))
    sizes = (c_int64(n) for n in (weight.shape[1], len(weight), len(rows_RI)))
    library.multiply(pointer(weight), pointer(rows_RI), pointer(y_RO), *sizes, c_int(torch.get_num_threads()))
    return y_RO.to(x.dtype).view(*x.shape[:-1], -1)


def _is_few_rows(x: Tensor, weight: Tensor) -> bool:
    """Return whether the compiled product can be used, and is faster."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    is_few = 0 < x.numel() <= MAX_ROWS * x.shape[-1] and weight.numel() >= MIN_WEIGHTS
    return is_few and weight.dtype in DTYPE_FLAGS and x.dtype == weight.dtype and weight.is_contiguous()


# ---------------------------------------------------------------------- attention to a shared prefix


class _Table(ctypes.Structure):
    """Keys or values: the shared ones, those of each row, and strides of heads and rows."""

    _fields_ = (
        ("prefix", c_void_p),
        ("own", c_void_p),
        ("head", c_int64),
        ("own_row", c_int64),
        ("own_head", c_int64),
    )

    @classmethod
    def of(cls, prefix: Tensor, own: Tensor) -> _Table:
        """Point to two tensors."""
        return cls(prefix.data_ptr(), own.data_ptr(), prefix.stride(1), own.stride(0), own.stride(1))


def as_prefix(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Copy keys and values (..., C, D) in the layout of ``shared_prefix_attention``: keys are stored transposed."""
    return keys.transpose(-1, -2).clone(memory_format=torch.contiguous_format).transpose(-1, -2), values.clone()


def shared_prefix_attention(q: Tensor, prefix: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
    """Attend to a prefix common to all rows, which is read once, and to each row's own tokens.

    Args:
        q: One query per row, (B, H, 1, D).
        prefix: Keys and values of all rows, (1, H, C, D) each, best from ``as_prefix``; every query sees them.
        k: Keys of each row, (B, H, K, D); its query sees them all.
        v: Their values, (B, H, K, D).

    Returns:
        Mixed values, (B, H, 1, D).

    Related: Juravsky et al. 2024, Hydragen (arXiv:2402.05099).
    """
    library = decode_library(q) if _is_prefix_layout(q, *prefix, k, v) else None
    if library is not None:
        rows, heads, _, width = q.shape
        q_BHD, mixed_BHD = q.reshape(rows, heads, width).contiguous(), torch.empty(rows, heads, width)
        tables = (byref(_Table.of(prefix[0], k)), byref(_Table.of(prefix[1], v)))
        sizes = (c_int64(n) for n in (rows, heads, width, prefix[0].shape[2], k.shape[2]))
        scale, threads = c_float(width**-0.5), c_int(torch.get_num_threads())
        if library.attend_prefix(pointer(q_BHD), *tables, pointer(mixed_BHD), *sizes, scale, threads):
            return mixed_BHD[:, :, None]
    return _prefix_attention(q, prefix, k, v)


def _prefix_attention(q: Tensor, prefix: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
    n_prefix = prefix[0].shape[-2]
    of_prefix_BH1C = torch.matmul(q.transpose(0, 2), prefix[0].transpose(-1, -2)).transpose(0, 2)
    scores = torch.cat([of_prefix_BH1C, torch.matmul(q, k.transpose(-1, -2))], -1)
    weights = scores.mul(q.shape[-1] ** -0.5).softmax(-1)
    mixed_BH1D = torch.matmul(weights[..., :n_prefix].transpose(0, 2), prefix[1]).transpose(0, 2)
    return mixed_BH1D + torch.matmul(weights[..., n_prefix:], v)


def _is_prefix_layout(q: Tensor, keys: Tensor, values: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether the compiled attention can be used: float32 on a CPU, no gradients, the layout that it reads."""
    tables = (values, k, v, keys.transpose(2, 3))
    if torch.is_grad_enabled() or not all(t.stride()[2:] == (t.shape[3], 1) for t in tables):
        return False
    return all(t.device.type == "cpu" and t.dtype == torch.float32 and t.numel() for t in (q, *tables))
