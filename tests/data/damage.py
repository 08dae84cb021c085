"""Truncated and corrupted files: errors are one line with the name of the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from reelworld.types import UserError

__all__ = ["damaged", "refusals"]


def damaged(whole: bytes, every: int, n: int, hits: int, reach: int) -> Iterator[bytes]:
    """Cut a file off at every so many bytes; then hit it n times, each at some of its first bytes."""
    rng = np.random.default_rng(0)
    for length in range(0, len(whole), every):
        yield whole[:length]
    for _ in range(n):
        content = bytearray(whole)
        for place in rng.integers(0, min(len(whole), reach), hits):
            content[place] = rng.integers(256)
        yield bytes(content)


def refusals(path: Path, contents: Iterator[bytes], read: Callable[[Path], object]) -> int:
    """Count the contents of a file that a reader refuses; any other error than a line about the file fails."""
    n_refused = 0
    for number, content in enumerate(contents):
        path.write_bytes(content)
        os.utime(path, ns=(number, number))
        try:
            read(path)
        except UserError as error:
            n_refused += 1
            assert "\n" not in str(error) and path.name in str(error)
    return n_refused
