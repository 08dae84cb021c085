"""KV caches: streams of different lengths, each equal to a run of its own."""

from __future__ import annotations

from functools import partial

import torch

from reelworld.nn.decoder import Llama, LlamaConfig
from reelworld.nn.kv_cache import KVCache

SMALL = LlamaConfig(width=16, inner=24, layers=2, heads=2, places=12)


def made() -> Llama:
    torch.manual_seed(0)
    model = Llama(SMALL).eval()
    for weight in model.parameters():
        weight.data.add_(0.3 * torch.randn(weight.shape))
    return model


def tokens(n: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, length, 16, generator=torch.Generator().manual_seed(seed))


def read(model: Llama, x: torch.Tensor, pieces: tuple[int, ...], cache: KVCache | None = None) -> torch.Tensor:
    """Read sequences piece by piece."""
    cache = cache or model.cache(len(x), 12, x)
    return torch.cat([model.step(part, cache) for part in x.split(pieces, 1)], 1)


@torch.no_grad()
def test_pieces_are_as_the_whole() -> None:
    model, x = made(), tokens(3, 12)
    whole = model(x)
    for pieces in ((12,), (5, 7), (4, 1, 1, 3, 1, 2), (1,) * 12):
        torch.testing.assert_close(read(model, x, pieces), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_token_sees_none_behind_it() -> None:
    model, x = made(), tokens(2, 9)
    other = x.clone()
    other[:, 6:] = tokens(2, 3, seed=5)
    before, after = (model(x) - model(other)).abs().amax((0, 2)).split([6, 3])
    assert before.max() == 0 and after.min() > 1e-3


@torch.no_grad()
def test_streams_of_different_lengths() -> None:
    """One of three begins anew in the middle, with more tokens than the others have or with fewer."""
    model, x = made(), tokens(3, 12)
    for n_new in (2, 7):
        cache, fresh = model.cache(3, 12, x), tokens(1, 12, seed=4)
        read(model, x[:, :4], (4,), cache)
        begun = model.cache(1, 12, x)
        read(model, fresh[:, :n_new], (n_new,), begun)
        cache.index_copy_(torch.tensor([1]), begun)
        assert cache.lengths.tolist() == [4, n_new, 4]
        rest = torch.stack([x[0, 4:9], fresh[0, n_new : n_new + 5], x[2, 4:9]])
        found = read(model, rest, (1, 3, 1), cache)
        wanted = torch.stack([model(x)[0, 4:9], model(fresh)[0, n_new : n_new + 5], model(x)[2, 4:9]])
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_forks_share_what_was_read() -> None:
    """Several copies of one stream: its tokens are kept once, and nothing of that shows."""
    model, x = made(), tokens(2, 12)
    rest = tokens(3, 7, seed=6)
    cache = model.cache(2, 12, x)
    read(model, x[:, :5], (5,), cache)
    wanted = model(torch.cat([x[1:, :5].expand(3, -1, -1), rest], 1))[:, 5:]
    close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
    forks = cache.index_select(torch.tensor([1, 1, 1]))
    assert forks.prefix is not None and forks.prefix[0].shape == (2, 1, 2, 5, 8) and forks.keys.shape[3] == 7
    begun = model.cache(1, 12, x)
    read(model, tokens(1, 9, seed=8), (9,), begun)
    cache.index_copy_(torch.tensor([1]), begun)  # what becomes of the first one does not matter to them
    close(read(model, rest[:, :2], (1, 1), forks), wanted[:, :2])
    some, both = (
        forks.index_select(torch.tensor([2, 0])),
        KVCache.cat([forks, forks.index_select(torch.tensor([0, 1, 2]))]),
    )
    close(read(model, rest[[2, 0], 2:4], (1, 1), some), wanted[[2, 0], 2:4])
    close(read(model, rest.repeat(2, 1, 1)[:, 2:4], (1, 1), both), wanted.repeat(2, 1, 1)[:, 2:4])
    close(read(model, rest[:, 2:], (1, 3, 1), forks), wanted[:, 2:])  # and several tokens at once
    again = cache.index_select(torch.tensor([0, 0]))
    again.index_copy_(torch.tensor([1]), some.index_select(torch.tensor([1])))
    close(
        read(model, torch.stack([x[0, 5:6], rest[0, 4:5]]), (1,), again)[:, 0],
        torch.stack([model(x)[0, 5], wanted[0, 4]]),
    )


@torch.no_grad()
def test_copies_stand_alone() -> None:
    model, x = made(), tokens(2, 8)
    cache = model.cache(2, 12, x)
    read(model, x[:, :5], (5,), cache)
    copy = cache.index_select(torch.tensor([1, 1, 0]))
    found = read(model, x[[1, 1, 0], 5:], (3,), copy)
    assert cache.lengths.tolist() == [5, 5] and copy.lengths.tolist() == [8, 8, 8]
    torch.testing.assert_close(found, model(x)[[1, 1, 0], 5:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read(model, x[:, 5:], (3,), cache), model(x)[:, 5:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_last_tokens_can_be_dropped() -> None:
    model, x = made(), tokens(2, 9)
    cache = model.cache(2, 12, x)
    read(model, torch.cat([x[:, :5], tokens(2, 2, seed=9)], 1), (7,), cache)
    cache.advance(-2)
    torch.testing.assert_close(read(model, x[:, 5:], (1, 3), cache), model(x)[:, 5:], atol=1e-5, rtol=1e-5)


def test_large_caches_are_zero_and_aligned() -> None:
    """They come in huge pages where the system has them; small ones do not."""
    for shape in ((2, 1, 2, 3, 4), (2, 1, 4, 600, 128)):
        for dtype in (torch.float32, torch.bfloat16):
            cache = KVCache.empty(shape, torch.empty(0, dtype=dtype), 8, is_half=True)
            assert cache.keys.shape == shape and cache.values.shape == (*shape[:4], 8) and cache.keys.dtype == dtype
            assert not cache.keys.any() and not cache.values.any() and cache.keys.data_ptr() % 64 == 0
            cache.keys.fill_(1)
            assert not cache.values.any()
