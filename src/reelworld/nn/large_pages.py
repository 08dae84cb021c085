"""Memory in large pages, for tables that are read from end to end again and again.

Reading 200 MB in pages of 4 KiB looks up 50,000 addresses; inside a virtual machine that costs more than the reading.
Linux gives pages of 2 MiB to memory that asks for them. Where it does not, this is ordinary memory.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["LargePages"]

PAGE = 2**21
CHUNK = 16 * PAGE


class LargePages:
    """Hands out zeroed CPU memory, one piece after the other from large chunks; a chunk lives as long as its pieces."""

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.uint8)

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Make a tensor of zeros."""
        if not hasattr(mmap, "MADV_HUGEPAGE"):
            return torch.zeros(*shape, dtype=dtype)
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes > len(self._free):
            self._free = _chunk(max(CHUNK, math.ceil(n_bytes / PAGE) * PAGE))
        piece = self._free[:n_bytes]
        self._free = self._free[math.ceil(n_bytes / 64) * 64 :]  # every piece begins at a cache line
        return piece.view(dtype).view(*shape)


def _chunk(n_bytes: int) -> Tensor:
    """Ask for memory that begins at a large page; it costs nothing until it is written to."""
    memory = mmap.mmap(-1, n_bytes + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory gets none
    memory.madvise(mmap.MADV_HUGEPAGE)
    everything = torch.frombuffer(memory, dtype=torch.uint8)
    start = -everything.data_ptr() % PAGE
    return everything[start : start + n_bytes]
