"""The mask against a loop, the ring cache against a list."""

from __future__ import annotations

import math

import pytest
import torch

from reelworld.nn.attention import BlockMask, CausalMask, FrameMask, Mask, WindowMask, attention
from reelworld.nn.kv_cache import FrameCache


def plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, bias: torch.Tensor) -> torch.Tensor:
    """One query at a time over the keys it may see."""
    out = torch.zeros_like(q)
    for head in range(q.shape[1]):
        for t in range(q.shape[2]):
            past = range(max(0, t - window + 1), t + 1)
            logits = torch.stack(
                [(q[:, head, t] * k[:, head, s]).sum(-1) / math.sqrt(q.shape[-1]) + bias[head, t - s] for s in past], -1
            )
            weights = logits.softmax(-1)
            out[:, head, t] = sum(weights[:, i, None] * v[:, head, s] for i, s in enumerate(past))
    return out


@pytest.mark.parametrize("window", [1, 3, 7, 20])
def test_window_and_lag_bias(window: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 7, 4)
    bias = torch.randn(2, window)
    positions = torch.arange(7)
    mask = FrameMask(q_positions=positions, k_positions=positions, lag_bias=bias)
    torch.testing.assert_close(attention(q, k, v, mask), plain_attention(q, k, v, window, bias))


def test_mask_per_row_equals_shared_mask() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 6, 2, 5, 4)
    bias = torch.randn(2, 3)
    positions = torch.arange(5)
    shared = FrameMask(q_positions=positions, k_positions=positions, lag_bias=bias)
    # two streams of three grid positions, the second one a thousand frames later
    later = torch.stack([positions, positions + 1000])
    rows = FrameMask(q_positions=later, k_positions=later, lag_bias=bias, group=3)
    torch.testing.assert_close(attention(q, k, v, rows), attention(q, k, v, shared))


@pytest.mark.parametrize("first", [0, 1, 5])
@torch.no_grad()
def test_causal_by_token(first: int) -> None:
    torch.manual_seed(0)
    k, v = torch.randn(2, 2, 2, 7, 4)
    q = torch.randn(2, 2, 7 - first, 4)
    mixed = attention(q, k, v, CausalMask(first=first))
    for i in range(7 - first):
        seen = slice(0, first + i + 1)
        weights = (q[:, :, i : i + 1] @ k[:, :, seen].transpose(-1, -2) / 2).softmax(-1)
        torch.testing.assert_close(mixed[:, :, i : i + 1], weights @ v[:, :, seen])


@pytest.mark.parametrize("first", [0, 3])
def test_blocks_that_are_not_connected_are_not_seen(first: int) -> None:
    torch.manual_seed(0)
    k, v = torch.randn(2, 1, 2, 8, 4)
    q = torch.randn(1, 2, 8 - first, 4)
    layout = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]], dtype=torch.bool)
    mixed = attention(q, k, v, BlockMask(layout=layout, block=2, queries=q.shape[2], first=first))
    for i in range(8 - first):
        row = first + i
        seen = [j for j in range(row + 1) if layout[row // 2, j // 2]]
        weights = (q[:, :, i : i + 1] @ k[:, :, seen].transpose(-1, -2) / 2).softmax(-1)
        torch.testing.assert_close(mixed[:, :, i : i + 1], weights @ v[:, :, seen])


@pytest.mark.parametrize("prefilled", [0, 1, 3, 4, 9])
def test_ring_keeps_the_last_frames(prefilled: int) -> None:
    window, total = 4, 12
    keys = torch.arange(total, dtype=torch.float32).view(1, 1, total, 1).repeat(2, 1, 1, 1)
    layers = [(keys[:, :, :prefilled], -keys[:, :, :prefilled]), (2 * keys[:, :, :prefilled], keys[:, :, :prefilled])]
    cache = FrameCache.of(layers, 1, window)
    for t in range(prefilled, total):
        assert cache.reserve(1).tolist() == [[t]]
        for layer, new in enumerate((keys, 2 * keys)):
            cache.put(layer, new[:, :, t : t + 1], -keys[:, :, t : t + 1])
        cache.advance(1)
        kept = {int(p) for p in cache.positions[0] if p >= 0}
        assert kept == set(range(max(0, t - window + 1), t + 1)) and cache.lengths.tolist() == [t + 1]
        for slot in range(window):
            if (position := cache.positions[0, slot]) >= 0:
                assert cache.keys[0, 0, 0, slot, 0] == position == -cache.values[0, 1, 0, slot, 0]
                assert cache.keys[1, 1, 0, slot, 0] == 2 * position


def test_replace_keeps_the_order_of_frames() -> None:
    window = 3

    def write(cache: FrameCache, value: float) -> None:
        cache.reserve(1)
        cache.put(0, torch.full((2, 1, 1, 1), value), torch.full((2, 1, 1, 1), value))
        cache.advance(1)

    def filled(n: int, offset: float) -> FrameCache:
        keys = torch.arange(n, dtype=torch.float32).view(1, 1, n, 1) + offset
        return FrameCache.of([(keys, keys)], 1, window)

    both = FrameCache.of([(torch.zeros(2, 1, 0, 1), torch.zeros(2, 1, 0, 1))], 2, window)
    for t in range(5):
        write(both, float(t))
    both.index_copy_(torch.tensor([1]), filled(2, 100.0))
    assert both.positions[0].sort().values.tolist() == [2, 3, 4]
    assert both.positions[1].sort().values.tolist() == [-1, 0, 1]
    assert both.lengths.tolist() == [5, 2]
    write(both, 7.0)
    assert both.positions[0].sort().values.tolist() == [3, 4, 5]
    assert both.positions[1].sort().values.tolist() == [0, 1, 2]  # the empty slot was overwritten, not a frame
    newest = both.positions[1].argsort()
    assert both.keys[0, 1, 0, newest, 0].tolist() == [100.0, 101.0, 7.0]


QUERY, KEYS = torch.tensor([[5], [3]]), torch.tensor([[3, 4, 5, 2, 1], [3, -1, 1, 2, -1]])
SHORT: dict[str, Mask | None] = {
    "none": None,
    "token": CausalMask(first=4),
    "window": WindowMask(q_positions=QUERY, k_positions=KEYS, window=3, group=3),
    "bias": FrameMask(q_positions=QUERY, k_positions=KEYS, lag_bias=torch.tensor([[0.5, -1.0], [2.0, 0.0]]), group=3),
}


@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_a_step_of_few_queries(kind: str, scale: float | None) -> None:
    """Where no gradient is kept, another way is taken: against one query after the other."""
    torch.manual_seed(0)
    q, k = torch.randn(6, 1, 2, 4).transpose(1, 2), torch.randn(6, 2, 5, 4)  # as they come out of a projection
    v = torch.randn(6, 2, 5, 3)
    with torch.no_grad():
        mixed = attention(q, k, v, SHORT[kind], scale=scale)
    for row in range(6):
        stream = row // 3  # three places per stream
        lags = QUERY[stream] - KEYS[stream]
        seen = (lags >= 0) & (lags < {"window": 3, "bias": 2}.get(kind, 9)) & (KEYS[stream] >= 0)
        if kind in ("none", "token"):  # the last token sees all
            seen = torch.ones(5, dtype=torch.bool)
        for head in range(2):
            scores = k[row, head] @ q[row, head, 0] * (0.5 if scale is None else scale)
            if kind == "bias":
                scores = scores + torch.tensor([[0.5, -1.0], [2.0, 0.0]])[head][lags.clamp(0, 1)]
            expected = scores[seen].softmax(0) @ v[row, head][seen]
            torch.testing.assert_close(mixed[row, head, 0], expected)
    torch.testing.assert_close(mixed, attention(q.clone().requires_grad_(), k, v, SHORT[kind], scale=scale).detach())
