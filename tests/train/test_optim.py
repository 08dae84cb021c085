"""Optimizer, schedules, and gradients of sums and counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from reelworld.train.config import OptimConfig
from reelworld.train.ema import EMA
from reelworld.train.optim import GradientAccumulator, load_optimizer, lr_factor, make_optimizer, optimizer_tensors
from reelworld.types import Losses, UserError


def test_decay_only_on_matrices() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Linear(4, 4))
    module[2].bias.requires_grad_(False)
    groups = make_optimizer(module, OptimConfig(weight_decay=0.3)).param_groups
    assert [(g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in groups] == [
        (0.3, [(4, 3, 3, 3), (4, 4)]),
        (0.0, [(4,), (4,), (4,)]),
    ]


def test_adamw_is_torch_adamw() -> None:
    """Fused or not, the numbers are those of the plain implementation."""
    torch.manual_seed(0)
    module = nn.Linear(5, 3)
    plain = copy.deepcopy(module)
    ours = make_optimizer(module, OptimConfig(lr=0.1, weight_decay=0.0))
    theirs = torch.optim.AdamW(plain.parameters(), lr=0.1, betas=(0.9, 0.98), weight_decay=0.0, foreach=False)
    for _ in range(3):
        x = torch.randn(4, 5)
        for one, optimizer in ((module, ours), (plain, theirs)):
            optimizer.zero_grad()
            one(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(module.weight, plain.weight)


def test_optimizer_state_round_trip() -> None:
    module = nn.Linear(5, 3)
    first, second = (make_optimizer(module, OptimConfig()) for _ in range(2))
    module(torch.ones(1, 5)).sum().backward()
    first.step()
    load_optimizer(second, module, optimizer_tensors(first, module))
    for parameter in module.parameters():
        assert first.state[parameter].keys() == second.state[parameter].keys()
        assert all(torch.equal(first.state[parameter][k], second.state[parameter][k]) for k in first.state[parameter])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
        ("cosine", {0.0: 1.0, 0.25: 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2, 0.5: 0.55, 1.0: 0.1}),
        ("wsd", {0.0: 1.0, 0.79: 1.0, 0.9: 0.55, 1.0: 0.1}),
    ],
)
def test_schedules(schedule: str, expected: dict[float, float]) -> None:
    config = OptimConfig(schedule=schedule, warmup_steps=10, min_lr_fraction=0.1)
    for progress, factor in expected.items():
        assert lr_factor(config, 500, progress) == pytest.approx(factor)
    assert [lr_factor(config, s, 0.0) for s in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert lr_factor(OptimConfig(schedule=schedule, warmup_steps=0), 0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0.0),
        ("accumulate", 0),
        ("ema", 1.0),
        ("grad_clip", -1.0),
        ("decay_fraction", 0.0),
        ("min_lr_fraction", 2.0),
    ],
)
def test_values_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{field} is {value}"):
        OptimConfig(**{field: value})


def losses_of(module: nn.Module, x: torch.Tensor, keep: torch.Tensor, share_counts: bool) -> Losses:
    """Two terms over different numbers of items, a third that is logged only."""
    y = module(x)
    dense, sparse = torch.tensor(float(y.numel())), keep.float().sum()
    square = y.square().sum()
    kept = (y.mean(-1) * keep).sum()
    extra = (dense if share_counts else dense.clone()) if share_counts else torch.tensor(float(y.numel()))
    terms = {
        "square": (square, dense),
        "kept": (kept, sparse),
        "cube": (y.pow(3).sum(), extra),
        "abs": (y.abs().sum(), dense),
    }
    return Losses(terms, {"kept": 0.7, "cube": 0.2, "abs": 0.0})


@pytest.mark.parametrize("share_counts", [True, False])
def test_accumulation_equals_one_big_batch(share_counts: bool) -> None:
    """Exact although micro-batches differ in size and in the counts of each term."""
    torch.manual_seed(0)
    module = nn.Linear(6, 4).double()
    x, keep = torch.randn(16, 6).double(), torch.rand(16) < 0.3
    sizes = [2, 7, 3, 4]
    assert len({float(k.sum()) for k in keep.split(sizes)}) > 1
    big = GradientAccumulator(list(module.parameters()), 1)
    big.add(losses_of(module, x, keep, share_counts))
    objective, means = big.finish()
    expected = [p.grad.clone() for p in module.parameters()]

    module.zero_grad()
    small = GradientAccumulator(list(module.parameters()), len(sizes))
    for piece, kept in zip(x.split(sizes), keep.split(sizes), strict=True):
        small.add(losses_of(module, piece, kept, share_counts))
    found_objective, found_means = small.finish()
    torch.testing.assert_close(found_objective, objective)
    torch.testing.assert_close(dict(found_means), dict(means))
    torch.testing.assert_close([p.grad for p in module.parameters()], expected)

    y = module(x)  # and both are what the definition says
    by_hand = y.square().mean() + 0.7 * (y.mean(-1) * keep).sum() / keep.sum() + 0.2 * y.pow(3).mean()
    torch.testing.assert_close(objective.double(), by_hand.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(list(torch.autograd.grad(by_hand, module.parameters())), expected, rtol=1e-5, atol=1e-6)


def test_a_term_nobody_counted_is_zero_not_nan() -> None:
    module = nn.Linear(2, 1)
    gradients = GradientAccumulator(list(module.parameters()), 1)
    y = module(torch.ones(3, 2)).sum()
    gradients.add(Losses({"a": (y, torch.tensor(3.0)), "b": (y * 0, torch.tensor(0.0))}))
    objective, means = gradients.finish()
    assert float(means["b"]) == 0.0
    assert math.isfinite(float(objective))


def test_counts_shared_differently_are_refused() -> None:
    module = nn.Linear(2, 1)
    gradients = GradientAccumulator(list(module.parameters()), 2)
    count = torch.tensor(1.0)
    y = module(torch.ones(1, 2)).sum()
    gradients.add(Losses({"a": (y, count), "b": (y, count)}))
    y = module(torch.ones(1, 2)).sum()
    with pytest.raises(ValueError, match="shared their counts differently"):
        gradients.add(Losses({"a": (y, count), "b": (y, count.clone())}))


def test_average_follows_its_formula_and_steps_aside() -> None:
    module = nn.Linear(2, 2)
    average = EMA(module, decay=0.5)
    expected = module.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            module.weight.add_(1.0)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
        average.update(step)
    torch.testing.assert_close(average.weights["weight"], expected)
    trained = module.weight.detach().clone()
    with pytest.raises(KeyError), average.applied():
        torch.testing.assert_close(module.weight, expected)
        raise KeyError
    assert torch.equal(module.weight, trained)
