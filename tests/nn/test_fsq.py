"""FSQ: digits and codes, gradients of the bound, the forms that are published."""

from __future__ import annotations

import pytest
import torch

from reelworld.nn.quantize.fsq import FSQ, FiniteScalar, NotebookFSQ, SymmetricFSQ, code_digits

FORMS = [FSQ, NotebookFSQ, SymmetricFSQ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (2,), (3, 7, 4), (999, 1000)])
def test_every_code_survives_its_values(form: type[FiniteScalar], levels: tuple[int, ...]) -> None:
    quantizer = form(levels)
    codes = torch.arange(quantizer.codebook_size)
    values = quantizer.lookup(codes)
    assert values.abs().max() <= 1
    for column, level in zip(values.unbind(1), levels, strict=True):
        assert len(column.unique()) == level
        assert column.min() == -1
        assert column.max() == (1 if level % 2 or form is SymmetricFSQ else 1 - 2 / level)
    if max(levels) < 100:
        digits = code_digits(levels)
        assert torch.equal((digits * quantizer.basis).sum(-1), codes)
        assert (values[1:] - values[:-1])[digits[1:, 0] > 0, 0].min() > 0, "the first digit is the fastest"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (2, 3), (1000, 7)])
def test_every_input_has_a_code_whose_value_it_got(form: type[FiniteScalar], levels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    quantizer = form(levels)
    rows = torch.cat(
        [torch.randn(500, len(levels)) * 3, torch.full((1, len(levels)), 40.0), -torch.ones(1, len(levels)) * 40]
    )
    found = quantizer.quantize(rows)
    assert found.codes.min() >= 0
    assert found.codes.max() < quantizer.codebook_size
    assert torch.equal(found.codes, quantizer.nearest(rows))
    torch.testing.assert_close(found.vectors, quantizer.lookup(found.codes), atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_the_squashing(form: type[FiniteScalar]) -> None:
    """Against finite differences of what is rounded: rounding itself passes gradients on as they are."""
    torch.manual_seed(0)
    quantizer, rows = form([8, 5, 4, 2]), torch.randn(50, 4, requires_grad=True)
    weights, step = torch.randn(50, 4), 1e-4
    (quantizer.quantize(rows).vectors * weights).sum().backward()

    def squashed(at: torch.Tensor) -> torch.Tensor:
        return quantizer.value(quantizer.bound(at.double()))

    with torch.no_grad():
        slope = (squashed(rows + step) - squashed(rows - step)) / (2 * step)
    torch.testing.assert_close(rows.grad, (slope * weights).float(), atol=1e-4, rtol=1e-3)


def test_the_notebook_s_form_alone_moves_zero() -> None:
    levels = [2, 4, 3]
    zero = torch.zeros(3)
    assert torch.allclose(FSQ(levels).bound(zero), zero, atol=1e-6)
    assert torch.allclose(SymmetricFSQ(levels).value(SymmetricFSQ(levels).bound(zero)), zero)
    moved = NotebookFSQ(levels).bound(zero).abs()
    assert moved[0] > 1e-2
    assert moved[1] > 1e-4
    assert moved[2] == 0


def test_the_notebook_s_numbers() -> None:
    """Worked out by hand for 4 levels: half 1.4985, offset 0.5, shift tan(0.5 / 1.4985)."""
    shift = torch.tan(torch.tensor(0.5 / 1.4985))
    expected = torch.tanh(torch.tensor(0.3) + shift) * 1.4985 - 0.5
    torch.testing.assert_close(NotebookFSQ([4]).bound(torch.tensor([0.3])), expected[None])


def test_two_symmetric_levels_are_a_sign() -> None:
    found = SymmetricFSQ([2]).quantize(torch.tensor([[-0.2], [0.2], [5.0]]))
    assert found.vectors.flatten().tolist() == [-1, 1, 1]


def test_halves_of_a_code_make_a_perplexity() -> None:
    found = FSQ([3, 3]).quantize(torch.tensor([[9.0, 9.0], [-9.0, 9.0]]).repeat(5, 1))
    torch.testing.assert_close(found.perplexity, torch.tensor(2.0))


@pytest.mark.parametrize("levels", [[], [1, 4], [1001], [1000] * 7])
def test_levels_that_cannot_be_are_refused(levels: list[int]) -> None:
    with pytest.raises(ValueError, match="FSQ wants"):
        FSQ(levels)
