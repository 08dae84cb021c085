"""Learned codebooks: metrics, moving averages in every setting, gradients, dead-code reset."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from reelworld.nn.quantize.codebook_usage import perplexity, perplexity_of
from reelworld.nn.quantize.dead_code_reset import NoReset, ResetFromBatch
from reelworld.nn.quantize.distances import Cosine, Euclidean
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.gradient_codebook import GradientCodebook


def test_cosine_ignores_lengths() -> None:
    torch.manual_seed(0)
    book = EMACodebook(9, 4, metric=Cosine(), reset=NoReset()).eval()
    rows = torch.randn(50, 4)
    assert torch.equal(book.nearest(rows), book.nearest(rows * torch.rand(50, 1) * 100))
    expected = F.cosine_similarity(rows[:, None], book.vectors[None], dim=-1).argmax(1)
    assert torch.equal(book.quantize(rows).codes, expected)
    lengths = torch.rand(50, 1) * 100
    one, other = (EMACodebook(9, 4, metric=Cosine(), reset=NoReset()).train() for _ in range(2))
    other.load_state_dict(one.state_dict())
    errors = [b.quantize(x).squared_error for b, x in ((one, rows), (other, rows * lengths))]
    torch.testing.assert_close(*errors)
    torch.testing.assert_close(one.sums, other.sums)


def test_a_cosine_codebook_stays_on_the_sphere() -> None:
    torch.manual_seed(0)
    book = EMACodebook(8, 4, decay=0.5, metric=Cosine()).train()
    for _ in range(5):
        found = book.quantize(torch.randn(30, 4) * 10)
    torch.testing.assert_close(book.vectors.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(30))


def test_kept_codes_begin_where_they_are() -> None:
    torch.manual_seed(0)
    book = EMACodebook(50, 4, decay=0.9, epsilon=1e-5, reset=NoReset()).train()
    first = book.vectors.clone()
    codes = book.quantize(torch.randn(20, 4)).codes
    unused = torch.ones(50, dtype=torch.bool)
    unused[codes] = False
    counts = 0.9 * torch.ones(50) + 0.1 * torch.bincount(codes, minlength=50)
    torch.testing.assert_close(book.counts, counts)
    torch.testing.assert_close(book.sums[unused], 0.9 * first[unused])
    smoothed = (counts + 1e-5) / (counts.sum() + 50e-5) * counts.sum()
    torch.testing.assert_close(book.vectors, book.sums / smoothed[:, None])


def test_without_decay_nothing_moves() -> None:
    book = EMACodebook(8, 4, decay=1.0, reset=NoReset()).train()
    first = book.vectors.clone()
    for _ in range(3):
        book.quantize(torch.randn(20, 4))
    torch.testing.assert_close(book.vectors, first)


def test_averages_find_the_middles_of_clusters() -> None:
    torch.manual_seed(0)
    middles = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0]])
    book = EMACodebook(3, 2, decay=0.8, reset=NoReset()).train()
    book.vectors.copy_(middles * 0.3)
    for _ in range(60):
        book.quantize(middles.repeat(40, 1) + 0.1 * torch.randn(120, 2))
    torch.testing.assert_close(book.vectors, middles, atol=0.05, rtol=0)


def test_each_error_moves_its_own_side() -> None:
    """Against finite differences: the codebook's error moves the codebook alone, the other the rows alone."""
    torch.manual_seed(0)
    book = GradientCodebook(5, 3).eval()
    rows = torch.randn(20, 3, requires_grad=True)
    found = book.quantize(rows)
    torch.testing.assert_close(found.squared_error, found.codebook_error)
    assert found.n_entries == 60
    to_rows = torch.autograd.grad(found.squared_error, [rows, book.vectors], retain_graph=True, allow_unused=True)
    to_book = torch.autograd.grad(found.codebook_error, [rows, book.vectors], allow_unused=True)
    assert to_rows[1] is None
    assert to_book[0] is None
    for moved, gradient, n in ((rows, to_rows[0], 20), (book.vectors, to_book[1], 5)):
        slope = torch.zeros(n, 3)
        for index in range(n * 3):
            errors = []
            for step in (1e-2, -1e-2):
                with torch.no_grad():
                    moved.view(-1)[index] += step
                    errors.append((rows - book.vectors[found.codes]).pow(2).sum())
                    moved.view(-1)[index] -= step
            slope.view(-1)[index] = (errors[0] - errors[1]) / 2e-2
        torch.testing.assert_close(gradient, slope, atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("metric", [Euclidean(), Cosine()])
def test_gradients_find_the_middles_of_clusters(metric: Euclidean | Cosine) -> None:
    torch.manual_seed(0)
    middles = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    book = GradientCodebook(3, 2, metric=metric).train()
    with torch.no_grad():
        book.vectors.copy_(torch.tensor([[0.6, 0.5], [-0.6, 0.5], [0.2, 0.6]]))
    optimizer = torch.optim.Adam(book.parameters(), lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        book.quantize(middles.repeat(40, 1) + 0.02 * torch.randn(120, 2)).codebook_error.backward()
        optimizer.step()
    if isinstance(metric, Cosine):
        torch.testing.assert_close(book.lookup(torch.arange(3)).norm(dim=1), torch.ones(3))
    torch.testing.assert_close(metric.project(book.vectors.detach()), middles, atol=0.05, rtol=0)


def test_unused_learned_codes_become_rows_and_get_time() -> None:
    torch.manual_seed(0)
    book = GradientCodebook(4, 3, reset=ResetFromBatch(1.0)).train()
    book.quantize(torch.randn(40, 3))
    assert torch.allclose(book.counts.sum(), torch.tensor(40.0))
    with torch.no_grad():
        book.vectors[2] = 1e3
        book.counts[2] = 0.5
    rows = torch.randn(40, 3)
    kept = book.vectors[[0, 1, 3]].detach().clone()
    found = book.quantize(rows)
    assert (rows == book.vectors[2]).all(1).any()
    assert torch.equal(book.vectors[[0, 1, 3]], kept)
    assert 2 in found.codes
    assert book.counts[2] > 5
    found.codebook_error.backward()
    assert book.vectors.grad[2].any()


def test_a_loaded_learned_codebook_does_not_start_again() -> None:
    torch.manual_seed(0)
    book = GradientCodebook(4, 3, reset=ResetFromBatch(0.1)).train()
    book.quantize(torch.randn(40, 3))
    again = GradientCodebook(4, 3, reset=ResetFromBatch(0.1)).train()
    again.load_state_dict(book.state_dict())
    again.quantize(torch.randn(40, 3))
    assert torch.equal(again.vectors, book.vectors)


def test_16_bits_choose_the_codes_of_32() -> None:
    torch.manual_seed(0)
    book = EMACodebook(200, 8).eval()
    rows = torch.randn(500, 8)
    expected = torch.cdist(rows, book.vectors).argmin(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(book.nearest(rows), expected)
        assert torch.equal(book.quantize(rows).codes, expected)


def test_no_rows() -> None:
    book = EMACodebook(4, 3)
    assert book.eval().quantize(torch.zeros(2, 0, 3)).codes.shape == (2, 0)
    with pytest.raises(ValueError, match="no rows"):
        book.train().quantize(torch.zeros(2, 0, 3))


def test_perplexity_counts_codes_that_are_used_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert perplexity(torch.tensor([5, 5, 0, 5])).item() == pytest.approx(3)
    assert perplexity(torch.tensor([7, 0])).item() == pytest.approx(1)
    codes = torch.randint(0, 30, (400,))
    binned = perplexity_of(codes, 30, over_ranks=False)
    monkeypatch.setattr("reelworld.nn.quantize.codebook_usage.MOST_BINS", 10)
    torch.testing.assert_close(perplexity_of(codes, 30, over_ranks=False), binned)
