"""Bit quantizers and their entropies against sums over all codes, written out."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reelworld.nn.quantize import entropy
from reelworld.nn.quantize.entropy import FullEntropy, GroupedEntropy, SoftEntropy, default_entropy
from reelworld.nn.quantize.lookup_free import BSQ, LFQ, BitQuantizer, entropy_penalty


def all_signs(n_bits: int) -> Tensor:
    """Every code as signs, most significant bit first."""
    return torch.tensor(
        [[1.0 if code >> (n_bits - 1 - k) & 1 else -1.0 for k in range(n_bits)] for code in range(2**n_bits)]
    )


def by_brute_force(rows: Tensor, codes: Tensor, sharpness: float, floor: float) -> tuple[Tensor, Tensor]:
    """Mean entropy of rows, entropy of the mean: one softmax over all codes."""
    p = (2 * sharpness * rows @ codes.t()).softmax(-1)
    row = -(p * p.clamp(min=floor).log()).sum(-1).mean()
    mean = p.mean(0)
    return row, -(mean * mean.clamp(min=floor).log()).sum()


@pytest.mark.parametrize("n_bits", [1, 3, 8])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 30.0])
def test_full_entropies_are_those_of_the_softmax(n_bits: int, sharpness: float) -> None:
    torch.manual_seed(n_bits)
    rows = torch.randn(40, n_bits)
    found = LFQ(n_bits, inverse_temperature=sharpness, entropy=FullEntropy()).quantize(rows)
    row, batch = by_brute_force(rows, all_signs(n_bits), sharpness, 1e-5)
    torch.testing.assert_close(found.row_entropy / 40, row, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.batch_entropy, batch, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(entropy_penalty(found, 0.7), row - 0.7 * batch, atol=1e-5, rtol=1e-4)


def test_spherical_entropies_are_those_of_directions() -> None:
    torch.manual_seed(0)
    rows = torch.randn(40, 6) * 9
    found = BSQ(6, inverse_temperature=2.0).quantize(rows)
    directions = torch.nn.functional.normalize(rows, dim=-1)
    row, batch = by_brute_force(directions, all_signs(6) / math.sqrt(6), 2.0, 1e-5)
    torch.testing.assert_close(found.row_entropy / 40, row)
    torch.testing.assert_close(found.batch_entropy, batch)
    torch.testing.assert_close(found.vectors.norm(dim=-1), torch.ones(40))
    torch.testing.assert_close(found.squared_error, (directions - found.vectors).pow(2).sum())


def test_pieces_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    odds = torch.randn(33, 7)
    whole = entropies(FullEntropy(), odds)
    monkeypatch.setattr(entropy, "ENTRIES", 5 * 2**7)
    for one, other in zip(whole, entropies(FullEntropy(), odds), strict=True):
        torch.testing.assert_close(one, other)


def entropies(measure: SoftEntropy, odds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both entropies and their gradients."""
    odds = odds.clone().requires_grad_(True)
    row, batch = measure(odds, over_ranks=False)
    gradients = [torch.autograd.grad(x, odds, retain_graph=True)[0] for x in (row, batch)]
    return row.detach(), batch.detach(), *gradients


@pytest.mark.parametrize("measure", [FullEntropy(), GroupedEntropy(2), GroupedEntropy(9)])
def test_gradients_are_finite_differences(measure: SoftEntropy) -> None:
    torch.manual_seed(0)
    odds = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: measure(x, over_ranks=False), odds)


def test_groups_agree_with_the_full_form_where_groups_are_independent() -> None:
    """Every choice of the first three bits meets every choice of the last two equally often."""
    torch.manual_seed(0)
    first, last = torch.randn(6, 3), torch.randn(4, 2)
    odds = torch.cat([first.repeat_interleave(4, 0), last.repeat(6, 1)], 1)
    full, grouped = entropies(FullEntropy(), odds), entropies(GroupedEntropy(3), odds)
    torch.testing.assert_close(grouped[0], full[0], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(grouped[1], full[1], atol=1e-4, rtol=1e-4)
    # its gradient takes the groups' dependence for 0, which a step of one row alone would change
    torch.testing.assert_close(grouped[2], full[2], atol=1e-3, rtol=1e-3)


def test_one_group_is_exact_and_smaller_groups_bound_from_above() -> None:
    torch.manual_seed(0)
    odds = torch.randn(50, 2) @ torch.randn(2, 8) * 2
    full = entropies(FullEntropy(), odds)
    for one, other in zip(entropies(GroupedEntropy(8), odds), full, strict=True):
        torch.testing.assert_close(one, other, atol=2e-2, rtol=1e-3)
    batch = [entropies(GroupedEntropy(size), odds)[1] for size in (8, 4, 2, 1)]
    assert all(a + 0.05 < b for a, b in pairwise(batch)), batch
    assert batch[-1] <= 8 * math.log(2)


def test_the_entropy_of_a_row_is_the_sum_over_bits() -> None:
    torch.manual_seed(0)
    odds = torch.randn(30, 10, dtype=torch.float64) * 3
    p = entropy.code_probabilities(odds)
    row, _ = GroupedEntropy(1)(odds, over_ranks=False)
    torch.testing.assert_close(row, -(p * p.log()).sum())


def test_sure_bits_have_no_entropy_and_finite_gradients() -> None:
    odds = torch.tensor([[1e4, -1e4, 500.0]])
    for measure in (FullEntropy(), GroupedEntropy(1), GroupedEntropy(3)):
        row, batch, row_gradient, batch_gradient = entropies(measure, odds)
        assert row == batch == 0
        assert row_gradient.isfinite().all()
        assert batch_gradient.isfinite().all()


def test_the_form_is_full_up_to_twelve_bits() -> None:
    assert isinstance(default_entropy(12), FullEntropy)
    assert isinstance(default_entropy(13), GroupedEntropy)


class Largest(TorchDispatchMode):
    """ProgressFanOut how large tensors become."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in (found if isinstance(found, tuple | list) else [found]) if isinstance(x, Tensor)]
        self.size = max([self.size, *sizes])
        return found


@pytest.mark.parametrize(("n_bits", "n_rows", "most"), [(18, 3000, 2**18), (36, 3000, 2**18), (12, 5000, 2**20)])
def test_many_bits_take_little_memory(n_bits: int, n_rows: int, most: int) -> None:
    """A table of rows and codes would hold 3000 x 2^18 numbers, 3 GB."""
    rows = torch.randn(n_rows, n_bits, requires_grad=True)
    with Largest() as watch:
        found = LFQ(n_bits, inverse_temperature=1.0).train().quantize(rows)
        entropy_penalty(found).backward()
    assert watch.size <= most
    assert rows.grad.isfinite().all()
    assert rows.grad.abs().min() > 0
    assert 1 <= found.perplexity <= n_rows + 1


@pytest.mark.parametrize("quantizer", [LFQ(5, scale=0.5), BSQ(5), LFQ(40), BSQ(62)])
def test_codes_are_bits_first_dimension_first(quantizer: BitQuantizer) -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, 7, quantizer.width)
    codes = quantizer.nearest(rows)
    expected = [[int("".join("1" if x > 0 else "0" for x in row), 2) for row in part] for part in rows]
    assert codes.tolist() == expected
    vectors = quantizer.lookup(codes)
    assert torch.equal(vectors.sign(), rows.sign())
    assert torch.allclose(vectors.abs(), torch.tensor(quantizer.scale))
    found = quantizer.eval().quantize(rows)
    assert torch.equal(found.codes, codes)
    torch.testing.assert_close(found.vectors, vectors)


def test_zero_is_a_minus() -> None:
    assert LFQ(3).quantize(torch.tensor([[0.0, -0.0, 1e-30]])).codes.tolist() == [1]
    found = BSQ(4).quantize(torch.zeros(1, 4, requires_grad=True))
    assert found.codes.tolist() == [0]
    assert found.vectors.isfinite().all()


def test_the_penalty_makes_rows_sure_and_codes_used() -> None:
    """All rows begin in one corner; the penalty alone spreads them over all codes."""
    torch.manual_seed(0)
    rows = (torch.randn(200, 4) * 0.1 + 0.3).requires_grad_(True)
    quantizer, optimizer = LFQ(4, inverse_temperature=2.0), torch.optim.Adam([rows], lr=0.05)
    before = quantizer.quantize(rows).perplexity
    for _ in range(150):
        optimizer.zero_grad()
        entropy_penalty(quantizer.quantize(rows), 2.0).backward()
        optimizer.step()
    found = quantizer.quantize(rows)
    assert before < 2
    assert found.perplexity > 14
    assert found.row_entropy / 200 < 0.2


def test_no_rows_make_nothing() -> None:
    found = LFQ(4).quantize(torch.zeros(0, 4))
    assert found.codes.shape == (0,)
    assert found.perplexity == 1
    assert entropy_penalty(found).isfinite()


@pytest.mark.parametrize("n_bits", [0, 63])
def test_bits_that_do_not_fit_are_refused(n_bits: int) -> None:
    with pytest.raises(ValueError, match="wanted 1 to 62"):
        LFQ(n_bits)
    with pytest.raises(ValueError, match="at least 1"):
        GroupedEntropy(0)
