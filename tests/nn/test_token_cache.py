"""A cached step sees what the masked parallel form sees, in both layouts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reelworld.nn.attention import BlockMask, CausalMask, attention
from reelworld.nn.large_pages import LargePages
from reelworld.nn.token_cache import Cache, RowTokenCache, TokenCache, VisibleBlocks, prefix_block
from reelworld.systems.videogpt.block_sparse_layout import BLOCK, strided_layout

STREAMS, HEADS, WIDTH, VALUE_WIDTH = 2, 3, 6, 10
SHAPE = (4, 8, 16)  # 512 tokens; blocks of several rows
LENGTH = 512
KINDS = [TokenCache, RowTokenCache]


def made(kind: type, streams: int, length: int, value_width: int, sight: VisibleBlocks, like: Tensor) -> Cache:
    shape = (streams, HEADS, length, WIDTH)
    if kind is TokenCache:
        return TokenCache(shape, value_width, like, sight)
    return RowTokenCache(shape, value_width, like.dtype, sight, LargePages())


def drawn(streams: int = STREAMS, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k = (3 * torch.randn(streams, HEADS, LENGTH, WIDTH, generator=generator) for _ in range(2))
    return q, k, torch.randn(streams, HEADS, LENGTH, VALUE_WIDTH, generator=generator)


def sight(kind: str) -> VisibleBlocks:
    if kind == "full":
        return VisibleBlocks(prefix_block(torch.float32))
    return VisibleBlocks(BLOCK, strided_layout(SHAPE))


def expected(kind: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Dense masked attention over the whole sequence, (B, L, H * F)."""
    mask = CausalMask() if kind == "full" else BlockMask(layout=strided_layout(SHAPE), block=BLOCK)
    return attention(q, k, v, mask).transpose(1, 2).flatten(2)


def stepped(cache: Cache, q: Tensor, k: Tensor, v: Tensor, first: int, last: int) -> Tensor:
    mixed = []
    for t in range(first, last):
        cache.append(k[:, :, t], v[:, :, t])
        mixed.append(cache.read(q[:, :, t]))
    return torch.stack(mixed, 1)


@pytest.mark.parametrize("layout", ["full", "sparse"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [0, 1, 31, 64, 127, 300])
@pytest.mark.parametrize("streams", [1, STREAMS])
def test_steps_equal_dense_masked_attention(layout: str, kind: type, given: int, streams: int) -> None:
    q, k, v = drawn(streams)
    cache = made(kind, streams, LENGTH, VALUE_WIDTH, sight(layout), q)
    if given:
        cache.fill(k[:, :, :given], v[:, :, :given])
    mixed = stepped(cache, q, k, v, given, LENGTH)
    assert cache.length == LENGTH
    torch.testing.assert_close(mixed, expected(layout, q, k, v)[:, given:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["full", "sparse"])
@pytest.mark.parametrize("kind", KINDS)
def test_selected_streams_go_on_alone(layout: str, kind: type) -> None:
    q, k, v = drawn()
    cache = made(kind, STREAMS, LENGTH, VALUE_WIDTH, sight(layout), q)
    stepped(cache, q, k, v, 0, 100)
    picked = torch.tensor([1, 1, 0])
    copy = cache.select(picked)
    alone = stepped(copy, *(x[picked] for x in drawn(seed=0)), 100, 200)
    stepped(cache, *drawn(seed=1), 100, 200)  # writes to one are not seen by the other
    torch.testing.assert_close(alone, expected(layout, q, k, v)[picked, 100:200], rtol=1e-5, atol=1e-5)
    assert cache.length == copy.length == 200


@pytest.mark.parametrize("kind", KINDS)
def test_layers_may_share_a_sight(kind: type) -> None:
    """Also layers with values of another width, and caches of other lengths."""
    q, k, v = drawn()
    shared = sight("sparse")
    wide = made(kind, STREAMS, LENGTH, VALUE_WIDTH, shared, q)
    narrow = made(kind, STREAMS, LENGTH, 4, shared, q)
    long = made(kind, STREAMS, 2 * LENGTH, VALUE_WIDTH, shared, q)
    dense = expected("sparse", q, k, v)
    for t in range(200):
        mixed = []
        for cache, values in ((wide, v), (narrow, v[..., :4]), (long, v)):
            cache.append(k[:, :, t], values[:, :, t])
            mixed.append(cache.read(q[:, :, t]).unflatten(-1, (HEADS, -1)))
        torch.testing.assert_close(mixed[0].flatten(1), dense[:, t], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mixed[1], mixed[0][..., :4])
        torch.testing.assert_close(mixed[2], mixed[0])


@pytest.mark.parametrize("kind", KINDS)
def test_unseen_tokens_are_not_read(kind: type) -> None:
    """What lies in blocks that a token does not see cannot reach it, not even as NaN."""
    q, k, v = drawn()
    layout = strided_layout(SHAPE)
    position = 9 * BLOCK + 5
    hidden = ~layout[9].repeat_interleave(BLOCK)
    assert hidden[:position].any()
    k[:, :, hidden], v[:, :, hidden] = float("nan"), float("nan")
    cache = made(kind, STREAMS, LENGTH, VALUE_WIDTH, VisibleBlocks(BLOCK, layout), q)
    cache.fill(k[:, :, :position], v[:, :, :position])
    mixed = stepped(cache, q, k, v, position, position + 1)
    assert mixed.isfinite().all()
    assert cache.sight.count(position) == (layout[9].sum() - 1) * BLOCK + 6


@pytest.mark.parametrize("layout", ["full", "sparse"])
def test_half_precision_is_near(layout: str) -> None:
    q, k, v = drawn(1)
    dense = expected(layout, q, k, v)
    narrow = [x.bfloat16() for x in (q, k, v)]
    cache = made(RowTokenCache, 1, LENGTH, VALUE_WIDTH, sight(layout), narrow[0])
    mixed = stepped(cache, *narrow, 0, LENGTH)
    assert mixed.dtype == torch.bfloat16
    error = (mixed.float() - dense).abs()
    assert error.mean() < 0.02 * dense.abs().mean()
