"""Memory from large pages behaves as torch's own."""

from __future__ import annotations

import gc
import mmap
from pathlib import Path

import pytest
import torch

from reelworld.nn import large_pages
from reelworld.nn.large_pages import CHUNK, PAGE, LargePages


def pages_in_use() -> int:
    """Bytes of this process in large pages."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("AnonHugePages:"):
            return 1024 * int(line.split()[1])
    return -1


def test_pieces_are_zero_aligned_and_apart() -> None:
    pages = LargePages()
    shapes = [(3, 5), (7,), (0, 4), (2, 3, 4), (1000, 1001)]
    pieces = [pages.zeros(s, d) for s in shapes for d in (torch.float64, torch.float32, torch.bfloat16)]
    for i, piece in enumerate(pieces):
        assert (piece == 0).all() and piece.is_contiguous() and piece.data_ptr() % 64 == 0
        piece.fill_(i)
    assert all((piece == i).all() for i, piece in enumerate(pieces))


def test_more_than_a_chunk_fits() -> None:
    pages = LargePages()
    small, large, after = (pages.zeros((n,), torch.uint8) for n in (10, CHUNK + 1, CHUNK))
    large[-1], after[0] = 1, 2
    assert small.sum() == 0 and large.sum() == 1 and after.sum() == 2


def test_the_system_gives_large_pages() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text(encoding="ascii"):
        pytest.skip("this system has no large pages")
    before = pages_in_use()
    piece = LargePages().zeros((8 * PAGE,), torch.uint8).fill_(1)
    assert pages_in_use() - before >= 4 * PAGE  # more would depend on how torn the memory is
    del piece
    gc.collect()
    assert pages_in_use() - before < 4 * PAGE, "memory is given back with the last piece"


def test_without_large_pages_it_is_plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    monkeypatch.setattr(large_pages, "_chunk", lambda n: pytest.fail("no chunk is asked for"))
    piece = LargePages().zeros((4, 5), torch.bfloat16)
    assert piece.shape == (4, 5) and piece.dtype == torch.bfloat16 and (piece == 0).all()
