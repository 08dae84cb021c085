"""Composed quantizers: product, residual, projected, channels first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from reelworld.nn.quantize.adapters import ChannelsFirst, Projected, project
from reelworld.nn.quantize.dead_code_reset import NoReset
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.fsq import FSQ, SymmetricFSQ
from reelworld.nn.quantize.gradient_codebook import GradientCodebook
from reelworld.nn.quantize.lookup_free import BSQ, LFQ
from reelworld.nn.quantize.product import ProductQuantizer, SharedProductQuantizer
from reelworld.nn.quantize.quantizer import Quantizer
from reelworld.nn.quantize.residual import ResidualQuantizer


def book(n_codes: int = 7, width: int = 3) -> EMACodebook:
    return EMACodebook(n_codes, width, reset=NoReset())


LEAVES: dict[str, Callable[[], Quantizer]] = {
    "ema": book,
    "learned": lambda: GradientCodebook(7, 3),
    "fsq": lambda: FSQ([4, 3, 5]),
    "symmetric": lambda: SymmetricFSQ([4, 3, 5]),
    "lfq": lambda: LFQ(3),
    "bsq": lambda: BSQ(3),
}
FORMS: dict[str, Callable[[Callable[[], Quantizer]], Quantizer]] = {
    "alone": lambda leaf: leaf(),
    "product": lambda leaf: ProductQuantizer([leaf() for _ in range(4)]),
    "shared": lambda leaf: SharedProductQuantizer(leaf(), 4),
    "residual": lambda leaf: ResidualQuantizer([leaf() for _ in range(4)]),
    "product of residuals": lambda leaf: ProductQuantizer([ResidualQuantizer([leaf(), leaf()]) for _ in range(4)]),
    "shared residual": lambda leaf: SharedProductQuantizer(ResidualQuantizer([leaf(), leaf()]), 4),
    "projected": lambda leaf: project(ProductQuantizer([leaf(), leaf()]), 5),
    "channels first": lambda leaf: ChannelsFirst(project(SharedProductQuantizer(leaf(), 2), 5, bias=False)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("leaf", LEAVES)
def test_what_every_quantizer_promises(leaf: str, form: str) -> None:
    torch.manual_seed(0)
    quantizer = FORMS[form](LEAVES[leaf])
    is_first = isinstance(quantizer, ChannelsFirst)
    shape = (2, quantizer.width, 3, 4) if is_first else (2, 3, 4, quantizer.width)
    rows = torch.randn(shape, requires_grad=True)
    quantizer.train().quantize(rows)
    found = quantizer.eval().quantize(rows)
    assert found.codes.shape == (2, 3, 4, *quantizer.code_shape)
    assert found.codes.dtype == torch.int64
    assert torch.equal(quantizer.nearest(rows), found.codes)
    assert found.vectors.shape == shape
    torch.testing.assert_close(quantizer.lookup(found.codes), found.vectors, atol=1e-5, rtol=1e-4)
    (found.vectors.sin().sum() + found.squared_error.sum()).backward()
    assert rows.grad.abs().sum() > 0
    numbers = [found.perplexity, found.codebook_error, found.row_entropy, found.batch_entropy]
    assert all(n.shape == found.squared_error.shape for n in numbers)
    assert (found.perplexity >= 1).all()
    assert not torch.equal(found.row_entropy, torch.zeros_like(found.row_entropy)) or leaf not in ("lfq", "bsq")


def test_a_product_is_its_parts() -> None:
    torch.manual_seed(0)
    parts = [book(), book(9), book(5)]
    product, rows = ProductQuantizer(parts).eval(), torch.randn(20, 9)
    found = product.quantize(rows)
    for index, part in enumerate(parts):
        alone = part.quantize(rows[:, 3 * index : 3 * index + 3])
        assert torch.equal(found.codes[:, index], alone.codes)
        assert torch.equal(found.vectors[:, 3 * index : 3 * index + 3], alone.vectors)
        assert found.squared_error[index] == alone.squared_error
        assert found.perplexity[index] == alone.perplexity
        assert found.n_entries == alone.n_entries


def test_a_shared_codebook_learns_from_all_pieces_at_once() -> None:
    torch.manual_seed(0)
    shared = SharedProductQuantizer(book(), 2)
    alone = book()
    alone.load_state_dict(shared.quantizer.state_dict())
    rows = torch.randn(30, 6)
    found = shared.train().quantize(rows)
    expected = alone.train().quantize(rows.view(60, 3))
    assert torch.equal(found.codes.flatten(), expected.codes)
    assert torch.equal(shared.quantizer.vectors, alone.vectors)
    assert found.n_entries == 180


def test_levels_code_what_is_left_over() -> None:
    torch.manual_seed(0)
    levels = [book(), book(), book()]
    residual, rows = ResidualQuantizer(levels).eval(), torch.randn(25, 3)
    found = residual.quantize(rows)
    rest = rows
    for index, level in enumerate(levels):
        codes = torch.cdist(rest, level.vectors).argmin(1)
        assert torch.equal(found.codes[:, index], codes)
        rest = rest - level.vectors[codes]
        torch.testing.assert_close(found.squared_error[index], rest.pow(2).sum())
        partial = residual.lookup(found.codes[:, : index + 1])
        torch.testing.assert_close(partial, rows - rest, atol=1e-5, rtol=0)


def test_more_levels_leave_less() -> None:
    torch.manual_seed(0)
    residual = ResidualQuantizer([EMACodebook(16, 3, decay=0.8) for _ in range(3)]).train()
    rows, generator = torch.randn(300, 3), torch.Generator().manual_seed(0)
    for _ in range(40):
        found = residual.quantize(rows, generator)
    errors = found.squared_error / found.n_entries
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[1]


def test_gradients_of_the_sum_of_levels_are_those_of_each_in_turn() -> None:
    """The input reaches each level's error through what is left over, minus constants: d error / d x = 2 rest."""
    torch.manual_seed(0)
    residual, rows = ResidualQuantizer([book(), book()]).eval(), torch.randn(9, 3, requires_grad=True)
    found = residual.quantize(rows)
    levels = residual.lookup_levels(found.codes)
    (gradient,) = torch.autograd.grad(found.squared_error.sum(), rows, retain_graph=True)
    rests = [(rows - levels[: n + 1].sum(0)).detach() for n in range(2)]
    torch.testing.assert_close(gradient, 2 * (rests[0] + rests[1]))
    (through,) = torch.autograd.grad(found.vectors.sum(), rows)
    assert torch.equal(through, torch.full_like(through, 2.0)), "straight through both levels"


def test_projections_are_around() -> None:
    torch.manual_seed(0)
    inner = FSQ([5, 5])
    outer = project(inner, 6)
    rows = torch.randn(4, 6)
    expected = outer.after(inner.quantize(outer.before(rows)).vectors)
    assert torch.equal(outer.quantize(rows).vectors, expected)
    assert {tuple(p.shape) for p in project(inner, 6, bias=False).parameters()} == {(2, 6), (6, 2)}
    doubled = Projected(inner, 2, Doubled(), nn.Identity())
    assert torch.equal(doubled.nearest(rows[:, :2]), inner.nearest(rows[:, :2] * 2))


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_channels_first_is_a_matter_of_order() -> None:
    torch.manual_seed(0)
    inner = book()
    rows = torch.randn(2, 3, 4, 5, 6)
    found = ChannelsFirst(inner).eval().quantize(rows)
    expected = inner.quantize(rows.permute(0, 2, 3, 4, 1))
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.vectors, expected.vectors.permute(0, 4, 1, 2, 3))


@pytest.mark.parametrize("form", [ProductQuantizer, ResidualQuantizer])
def test_parts_that_do_not_fit_are_refused(form: type[ProductQuantizer | ResidualQuantizer]) -> None:
    with pytest.raises(ValueError, match="one kind"):
        form([book(width=3), book(width=4)])
