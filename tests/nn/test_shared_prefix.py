"""Attention of many rows to a common past and their own: compiled code and torch against plain attention in double."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from reelworld.nn import decode as module
from reelworld.nn.decode import as_prefix, shared_prefix_attention

Tables = tuple[Tensor, tuple[Tensor, Tensor], Tensor, Tensor]


def tables(rows: int, common: int, own: int, width: int, heads: int = 3) -> Tables:
    """Queries, common and own keys and values; the own ones lie in tables with more room than is used."""
    generator = torch.Generator().manual_seed(rows + common + own)
    q = 3 * torch.randn(rows, heads, 1, width, generator=generator)
    keys, values = (torch.randn(1, heads, common, width, generator=generator) for _ in range(2))
    k, v = (torch.randn(rows, heads, own + 5, width, generator=generator)[:, :, :own] for _ in range(2))
    return q, as_prefix(keys, values), k, v


def plain(q: Tensor, common: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
    keys, values = (
        torch.cat([shared.expand(len(q), -1, -1, -1), own], 2).double()
        for shared, own in zip(common, (k, v), strict=True)
    )
    return functional.scaled_dot_product_attention(q.double(), keys, values)


@torch.no_grad()
@pytest.mark.parametrize("compiler", [True, False])
@pytest.mark.parametrize("sizes", [(8, 513, 17, 64), (2, 1, 1, 64), (3, 64, 40, 64), (5, 130, 7, 48), (4, 63, 9, 100)])
def test_it_is_attention_to_both(
    sizes: tuple[int, int, int, int], compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiler:
        monkeypatch.setattr(module, "decode_library", lambda _: None)
    elif shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    else:
        monkeypatch.setattr(module, "_prefix_attention", lambda *_: pytest.fail("torch was asked"))
    given = tables(*sizes)
    found = shared_prefix_attention(*given)
    assert found.shape == given[0].shape
    torch.testing.assert_close(found.double(), plain(*given), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_great_scores_do_not_overflow() -> None:
    q, common, k, v = tables(2, 70, 3, 64)
    torch.testing.assert_close(
        shared_prefix_attention(100 * q, common, k, v).double(), plain(100 * q, common, k, v), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_threads_change_nothing() -> None:
    given, n = tables(8, 100, 20, 64, heads=5), torch.get_num_threads()
    alone = shared_prefix_attention(*given)
    try:
        torch.set_num_threads(3)
        assert torch.equal(shared_prefix_attention(*given), alone)
    finally:
        torch.set_num_threads(n)


def test_torch_does_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, other types, keys as they came."""
    monkeypatch.setattr(module, "decode_library", lambda _: pytest.fail("the compiled code was asked"))
    q, common, k, v = tables(2, 30, 4, 16)
    shared_prefix_attention(q.requires_grad_(), common, k, v).sum().backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    with torch.no_grad():
        half = shared_prefix_attention(
            q.bfloat16(), (common[0].bfloat16(), common[1].bfloat16()), k.bfloat16(), v.bfloat16()
        )
        assert half.dtype == torch.bfloat16
        shared_prefix_attention(q, (common[0].contiguous(), common[1]), k, v)
