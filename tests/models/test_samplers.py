"""Samplers against the distributions they must draw from."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.types import UserError

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -6.0])


def frequencies(config: SamplerConfig, n: int = 40_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = TokenSampler(config)(LOGITS.expand(1, n, 5), generator)
    return ids.flatten().bincount(minlength=5) / n


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    seen = frequencies(SamplerConfig(temperature=temperature))
    torch.testing.assert_close(seen, (LOGITS / temperature).softmax(0), atol=0.01, rtol=0)


def test_zero_temperature_is_the_argmax() -> None:
    assert frequencies(SamplerConfig(temperature=0.0)).tolist() == [1, 0, 0, 0, 0]


def test_top_k_and_top_p_cut_the_tail() -> None:
    kept = frequencies(SamplerConfig(top_k=2))
    expected = torch.tensor([2.0, 1.0]).softmax(0)
    torch.testing.assert_close(kept[:2], expected, atol=0.01, rtol=0)
    assert kept[2:].sum() == 0
    # The two likeliest have 0.87 of the probability: the smallest set with 0.8 is these two.
    torch.testing.assert_close(frequencies(SamplerConfig(top_p=0.8))[:2], expected, atol=0.01, rtol=0)
    assert frequencies(SamplerConfig(top_p=0.5)).tolist() == [1, 0, 0, 0, 0]


def test_one_generator_per_row_makes_rows_independent() -> None:
    sampler = TokenSampler(SamplerConfig())
    logits = torch.zeros(3, 8, 100)
    together = sampler(logits, [torch.Generator().manual_seed(i) for i in range(3)])
    alone = sampler(logits[:1], [torch.Generator().manual_seed(2)])
    assert torch.equal(together[2:], alone)
    assert not torch.equal(together[0], together[1])


def test_confidence_without_noise_is_the_log_probability() -> None:
    sampler = TokenSampler(SamplerConfig(steps=2, order_noise=0.0))
    ids = torch.tensor([[0, 3]])
    sure = sampler.confidence(LOGITS.expand(1, 2, 5), ids, None)
    torch.testing.assert_close(sure, LOGITS.log_softmax(0)[ids])
    noisy = TokenSampler(SamplerConfig(steps=2)).confidence(
        LOGITS.expand(1, 2, 5), ids, torch.Generator().manual_seed(0)
    )
    assert not torch.equal(noisy, sure)


def test_noise_on_the_order_fades_and_chance_ignores_the_logits() -> None:
    sure = torch.linspace(-3, 0, 500).expand(200, 500)

    def agreement(left: float, **fields: Any) -> float:
        sampler = TokenSampler(SamplerConfig(steps=4, **fields))
        order = sampler.order(sure, torch.Generator().manual_seed(0), left).argsort(-1)
        return float(torch.corrcoef(torch.stack([order.float().mean(0), torch.arange(500.0)]))[0, 1])

    def noise(left: float) -> float:
        sampler = TokenSampler(SamplerConfig(steps=4, order_noise=2.0))
        return float((sampler.order(sure, torch.Generator().manual_seed(0), left) - sure).std())

    # the spread of a Gumbel number is pi / sqrt 6
    for left in (1.0, 0.5, 0.25):
        assert noise(left) == pytest.approx(2 * left * math.pi / 6**0.5, rel=0.02)
    assert agreement(1.0, temperature=0.0) == pytest.approx(1)
    assert agreement(0.5) > 0.9
    assert abs(agreement(0.5, order="random")) < 0.2


@pytest.mark.parametrize("fields", [{"steps": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}])
def test_wrong_settings_are_one_line(fields: dict[str, float]) -> None:
    with pytest.raises(UserError, match="sampler") as caught:
        SamplerConfig(**fields)
    assert "\n" not in str(caught.value)
