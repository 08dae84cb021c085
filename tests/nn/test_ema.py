"""The moving-average codebook against the published formulas with one-hot matrices."""

from __future__ import annotations

import torch

from reelworld.nn.quantize.ema import EMACodebook


def started(n_codes: int, width: int, seed: int = 0) -> EMACodebook:
    """A codebook in the middle of a training."""
    torch.manual_seed(seed)
    book = EMACodebook(n_codes, width)
    book.counts.copy_(torch.rand(n_codes) * 4 + 0.2)
    book.sums.copy_(book.vectors * book.counts[:, None])
    book.has_started.fill_(True)
    return book.train()


def test_it_starts_from_rows_of_the_first_batch() -> None:
    torch.manual_seed(0)
    book, rows = EMACodebook(8, 3).train(), torch.randn(5, 4, 3)
    book._start(rows, None)
    flat = rows.flatten(0, 1)
    assert all((flat == vector).all(1).any() for vector in book.vectors)
    assert len(book.vectors.unique(dim=0)) == 8
    assert torch.equal(book.sums, book.vectors)
    assert torch.equal(book.counts, torch.ones(8))


def test_fewer_rows_than_codes_are_repeated_with_noise() -> None:
    torch.manual_seed(0)
    book, rows = EMACodebook(64, 4).train(), torch.randn(6, 4)
    book._start(rows, None)
    distance = torch.cdist(book.vectors, rows).min(1).values
    assert 0 < distance.max() < 0.05
    assert len(book.vectors.unique(dim=0)) == 64


def test_a_loaded_codebook_does_not_start_again() -> None:
    """The published code forgets that it has started, and throws a trained codebook away."""
    book = started(16, 4)
    again = EMACodebook(16, 4)
    again.load_state_dict(book.state_dict())
    again.train().quantize(torch.randn(400, 4))
    used = again.counts >= 1
    assert used.any()
    assert (again.counts - book.counts).abs().max() < 1.0
    assert not torch.equal(again.counts, torch.ones(16))
    assert ((again.vectors - book.vectors)[used].norm(dim=1) < 0.8).all()


def test_one_update_is_the_published_one() -> None:
    book = started(6, 3)
    before = {k: v.clone() for k, v in book.state_dict().items()}
    rows = torch.randn(2, 50, 3)
    found = book.quantize(rows)
    flat = rows.flatten(0, 1)
    distances = flat.pow(2).sum(1, keepdim=True) - 2 * flat @ before["vectors"].t() + before["vectors"].pow(2).sum(1)
    codes = distances.argmin(1)
    assert torch.equal(found.codes.flatten(), codes)
    one_hot = torch.nn.functional.one_hot(codes, 6).float()
    counts = 0.99 * before["counts"] + 0.01 * one_hot.sum(0)
    sums = 0.99 * before["sums"] + 0.01 * one_hot.t() @ flat
    torch.testing.assert_close(book.counts, counts)
    torch.testing.assert_close(book.sums, sums)
    weights = (counts + 1e-7) / (counts.sum() + 6e-7) * counts.sum()
    live = counts >= 1
    assert 0 < live.sum() < 6
    torch.testing.assert_close(book.vectors[live], (sums / weights[:, None])[live])
    dead = book.vectors[~live]
    assert all((flat == vector).all(1).any() for vector in dead), "unused codes restart at rows of the batch"
    shares = one_hot.mean(0)
    torch.testing.assert_close(found.perplexity, (-(shares * (shares + 1e-10).log()).sum()).exp())


def test_gradients_pass_straight_through() -> None:
    book = started(6, 3).eval()
    rows = torch.randn(7, 3, requires_grad=True)
    found = book.quantize(rows)
    assert torch.allclose(found.vectors, book.vectors[found.codes])
    (found.vectors * torch.arange(3.0)).sum().backward()
    assert rows.grad is not None
    assert torch.equal(rows.grad, torch.arange(3.0).expand(7, 3))


def test_evaluation_changes_nothing() -> None:
    book = started(6, 3).eval()
    before = {k: v.clone() for k, v in book.state_dict().items()}
    book.quantize(torch.randn(30, 3))
    assert all(torch.equal(before[k], v) for k, v in book.state_dict().items())


def test_draws_follow_the_generator() -> None:
    rows = torch.randn(30, 3)
    books = [started(64, 3) for _ in range(3)]
    for book, seed in zip(books, (1, 1, 2), strict=True):
        book.quantize(rows, torch.Generator().manual_seed(seed))
    assert torch.equal(books[0].vectors, books[1].vectors)
    assert not torch.equal(books[0].vectors, books[2].vectors)


def test_many_rows_are_compared_in_pieces() -> None:
    book = started(5, 2).eval()
    rows = torch.randn(3, 7000, 2)
    expected = torch.cdist(rows.flatten(0, 1), book.vectors).argmin(1).view(3, 7000)
    assert (book.nearest(rows) == expected).float().mean() > 0.9999
