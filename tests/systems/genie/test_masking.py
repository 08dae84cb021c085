"""Masks of training clips: rates and errors against the papers' figures."""

from __future__ import annotations

import math

import pytest
import torch

from reelworld.systems.genie.factored_codes import Factors
from reelworld.systems.genie.masking import CosineMasking, UniformMasking
from reelworld.types import UserError

FACTORS = Factors((4, 5))
CODES = torch.randint(0, 20, (4000, 6, 16), generator=torch.Generator().manual_seed(0))


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_uniform_rates_lie_where_they_should() -> None:
    shown = UniformMasking(least=0.5, most=1.0)(CODES, FACTORS, generator())
    assert torch.equal(shown.codes, CODES)
    assert not shown.hidden[:, 0].any()
    rates = shown.hidden[:, 1:].float().mean((1, 2))
    assert rates.min() > 0.3 and rates.max() == 1
    # mean and spread of a uniform number between 0.5 and 1, and of a share of 80 codes given it
    assert float(rates.mean()) == pytest.approx(0.75, abs=0.01)
    spread = math.sqrt(0.5**2 / 12 + (0.75 - 0.75**2 - 0.5**2 / 12) / 80)
    assert float(rates.std()) == pytest.approx(spread, rel=0.05)
    per_frame = shown.hidden[:, 1:].float().mean((0, 2))
    torch.testing.assert_close(per_frame, torch.full((5,), 0.75), atol=0.02, rtol=0)


def test_cosine_rates_are_drawn_per_frame() -> None:
    shown = CosineMasking(corrupt_rate=0, rollout_share=0)(CODES, FACTORS, generator())
    assert torch.equal(shown.codes, CODES)
    assert not shown.hidden[:, 0].any()
    rates = shown.hidden[:, 1:].float().mean(2)
    # of cos(u pi / 2): mean 2 / pi, mean square 1 / 2
    assert float(rates.mean()) == pytest.approx(2 / math.pi, abs=0.01)
    assert float((rates[:, 0] * rates[:, 1]).mean()) == pytest.approx(float(rates.mean()) ** 2, abs=0.01)
    assert float(rates.square().mean()) == pytest.approx(0.5 + (2 / math.pi - 0.5) / 16, abs=0.01)


def test_digits_are_corrupted_everywhere() -> None:
    shown = CosineMasking(corrupt_rate=0.4, rollout_share=0)(CODES, FACTORS, generator())
    wrong = FACTORS.split(shown.codes) != FACTORS.split(CODES)
    share = wrong.float().mean((0, 1, 2))
    # on average half of the greatest rate; a random digit is right by chance once in its size
    torch.testing.assert_close(share, 0.2 * torch.tensor([3 / 4, 4 / 5]), atol=0.005, rtol=0)
    assert wrong[:, 0].any() and wrong.float().mean((1, 2, 3)).max() < 0.5
    assert shown.codes.min() >= 0 and shown.codes.max() < 20


def test_rollouts_get_worse_after_their_prompt() -> None:
    shown = CosineMasking(corrupt_rate=0, rollout_share=1, prompt_frames=3)(CODES, FACTORS, generator())
    assert not shown.hidden[:, :3].any()
    assert torch.equal(shown.codes[:, :3], CODES[:, :3])
    wrong = (FACTORS.split(shown.codes) != FACTORS.split(CODES)).float()
    first = shown.hidden.any(2).float().argmax(1)  # the first masked frame; where it is 3, all later ones may be wrong
    counts = torch.bincount(first, minlength=6)[3:]
    assert counts.min() > 1000 and counts.sum() > 0.98 * len(CODES)  # few draw a rate that masks nothing
    # from 0.25 to 1 right at first, then 0.9 to 1 of that each frame
    right = 1 - wrong[first == 3][:, 3:].mean((0, 2)) / torch.tensor([3 / 4, 4 / 5])
    expected = torch.tensor([0.625 * 0.95, 0.625 * 0.95**2, 0.625 * 0.95**3])
    torch.testing.assert_close(right, expected[:, None].expand(3, 2), atol=0.02, rtol=0)


def test_prompts_longer_than_the_clip_leave_one_frame() -> None:
    shown = CosineMasking(rollout_share=1, prompt_frames=8)(CODES[:, :4], FACTORS, generator())
    assert not shown.hidden[:, :3].any() and shown.hidden[:, 3].any()


def test_draws_come_from_the_generator() -> None:
    for masking in (UniformMasking(), CosineMasking()):
        one, same, other = (masking(CODES[:2], FACTORS, generator(s)) for s in (1, 1, 2))
        assert torch.equal(one.hidden, same.hidden) and torch.equal(one.codes, same.codes)
        assert not torch.equal(one.hidden, other.hidden)


def test_impossible_rates_are_refused() -> None:
    with pytest.raises(UserError, match="least"):
        UniformMasking(least=0.9, most=0.5)
    with pytest.raises(UserError, match="corrupt_rate"):
        CosineMasking(corrupt_rate=1.5)
