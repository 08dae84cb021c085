"""Factored codes: digits against counting, likelihood and draws against the joint distribution."""

from __future__ import annotations

import itertools

import pytest
import torch

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.genie.factored_codes import FactoredEmbedding, Factors
from reelworld.types import UserError

SIZES = [(7,), (3, 4), (4, 3, 2), (2, 5, 1)]


@pytest.mark.parametrize("sizes", SIZES)
def test_digits_count_like_an_odometer(sizes: tuple[int, ...]) -> None:
    factors = Factors(sizes)
    counted = [tuple(reversed(row)) for row in itertools.product(*(range(n) for n in reversed(sizes)))]
    codes = torch.arange(factors.codebook_size).view(1, -1)
    assert factors.split(codes)[0].tolist() == [list(row) for row in counted]
    assert torch.equal(factors.join(factors.split(codes)), codes)


def joint(factors: Factors, logits: torch.Tensor) -> torch.Tensor:
    """Log-probability of every code, by adding those of its digits one by one."""
    parts, begin = [], 0
    for size in factors.sizes:
        parts.append(logits[begin : begin + size].log_softmax(0))
        begin += size
    rows = itertools.product(*(range(n) for n in reversed(factors.sizes)))
    return torch.stack([sum(parts[k][d] for k, d in enumerate(reversed(row))) for row in rows])


@pytest.mark.parametrize("sizes", SIZES)
def test_surprise_and_likeliest_are_those_of_the_joint(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    factors, logits = Factors(sizes), torch.randn(sum(sizes))
    log = joint(factors, logits)
    torch.testing.assert_close(log.exp().sum(), torch.tensor(1.0))
    codes = torch.arange(factors.codebook_size)
    torch.testing.assert_close(factors.nll(logits.expand(len(codes), -1), codes), -log)
    assert factors.likeliest(logits[None]).item() == log.argmax()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_temperature(temperature: float) -> None:
    """Published code renormalises p / T, which changes nothing; p ** (1 / T) is meant."""
    torch.manual_seed(0)
    factors, n = Factors((3, 4)), 60_000
    logits = 1.5 * torch.randn(7)
    sampler = TokenSampler(SamplerConfig(temperature=temperature))
    drawn = factors.draw(logits.expand(1, n, 7), sampler, torch.Generator().manual_seed(1))
    seen = drawn.flatten().bincount(minlength=12) / n
    expected = joint(factors, logits / temperature).exp()
    torch.testing.assert_close(seen, expected, atol=0.008, rtol=0)
    if temperature != 1:
        assert (seen - joint(factors, logits).exp()).abs().max() > 0.05


def test_embedding_is_a_sum_and_one_vector_stands_for_all_masked() -> None:
    embed = FactoredEmbedding(Factors((3, 4)), 5)
    codes = torch.tensor([[0, 7, 11]])
    first, second = (table.weight for table in embed.tables)
    torch.testing.assert_close(
        embed(codes)[0], torch.stack([first[d] + second[e] for d, e in ((0, 0), (1, 2), (2, 3))])
    )
    hidden = embed(codes, torch.tensor([[True, False, True]]))[0]
    assert torch.equal(hidden[0], embed.mask) and torch.equal(hidden[2], embed.mask)
    assert torch.equal(hidden[1], embed(codes)[0, 1])


def test_no_factors_is_an_error() -> None:
    with pytest.raises(UserError, match="one or more"):
        Factors(())
