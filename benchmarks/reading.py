"""How fast this machine reads memory: the limit of whatever reads every weight once."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reelworld.nn.decode import compile_c, huge_page_zeros

READ_BYTES, READS = 512 * 2**20, 6


@dataclass
class Memory:
    """The speed of reading memory, GB/s: what each operator reached, and a probe with the fastest."""

    speeds: dict[str, float]
    fastest: str
    read: Callable[[], object]

    def probe(self) -> list[float]:
        """Read some more, after one read that warms up."""
        self.read()
        return [speed_of(self.read) for _ in range(READS)]


def speed_of(read: Callable[[], object]) -> float:
    begun = time.perf_counter()
    read()
    return READ_BYTES / (time.perf_counter() - begun) / 1e9


def look_at_memory() -> Memory:
    """Read a large buffer with every operator that may be fast, in ordinary and in large pages."""
    n = READ_BYTES // 4
    library = compile_c(Path(__file__).with_name("read_memory.c"))
    operators: dict[str, Callable[[], object]] = {}
    kinds = {"ordinary pages": torch.ones(n), "large pages": huge_page_zeros((n,), torch.float32).fill_(1)}
    indices = torch.arange(n // 32, dtype=torch.int32)
    ends = torch.arange(0, n // 32 + 1, n // 32 // 1024, dtype=torch.int32)
    for pages, buffer in kinds.items():
        rows = buffer.view(-1, 32)
        operators |= {
            f"max, {pages}": lambda b=buffer: b.max(),
            f"sum, {pages}": lambda b=buffer: b.sum(),
            f"aminmax, {pages}": lambda b=buffer: b.aminmax(),
            f"dot, {pages}": lambda b=buffer: torch.dot(b, b),
            f"sums of rows, {pages}": lambda r=rows: torch.embedding_bag(r, indices, ends, False, 0, False, None, True),
        }
        if library is not None:
            operators[f"a loop in C, {pages}"] = lambda b=buffer: library.read_memory(
                ctypes.c_void_p(b.data_ptr()), ctypes.c_int64(n), torch.get_num_threads()
            )
    for read in operators.values():
        read()
    speeds = {name: float(np.median([speed_of(read) for _ in range(5)])) for name, read in operators.items()}
    fastest = max(speeds, key=lambda name: speeds[name])
    return Memory({k: round(v, 1) for k, v in speeds.items()}, fastest, operators[fastest])
