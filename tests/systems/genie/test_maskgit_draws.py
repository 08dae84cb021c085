"""Masked dynamics: draws, the order of unmasking, configs, fresh models, mistakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.systems.genie.test_maskgit import GRID, STACK, Recorder, draw, make, rows

from reelworld.config import from_json, to_json
from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.genie.maskgit import MaskGIT, MaskGITConfig
from reelworld.systems.genie.masking import CosineMasking, UniformMasking
from reelworld.types import Codes, Conditions, UserError

# ------------------------------------------------------------------ draws


@torch.inference_mode()
def test_draws_follow_the_temperature() -> None:
    """The codes of one frame, drawn in one pass for many streams, follow softmax(logits / T) of each digit."""
    model, n = make("prepend-factors"), 8_000
    codes, actions = draw(model, 1, 2)
    probabilities = {}
    for temperature in (0.5, 1.0, 2.0):
        state = model.prefill(Codes.of(codes), rows(actions, 0, 1))
        recorder = Recorder(SamplerConfig(temperature=temperature))
        model.step(
            state.index_select(torch.zeros(1, dtype=torch.int64)), rows(actions, 1, 2), recorder, torch.Generator()
        )
        many = state.index_select(torch.zeros(n, dtype=torch.int64))
        told = Conditions(actions={"action": actions["action"][:, 1:2].expand(n, 1)})
        sampler = TokenSampler(SamplerConfig(temperature=temperature))
        made, _ = model.step(many, told, sampler, torch.Generator().manual_seed(2))
        digits = model.factors.split(made.video)[:, 0]  # (n, N, 2)
        for k, logits in enumerate(recorder.logits):
            expected = (logits[0, 0] / temperature).softmax(-1)
            seen = torch.stack([digits[:, i, k].bincount(minlength=logits.shape[-1]) / n for i in range(6)])
            torch.testing.assert_close(seen, expected, atol=0.02, rtol=0)
            probabilities[temperature, k] = expected
    assert (probabilities[0.5, 0] - probabilities[2.0, 0]).abs().max() > 0.1


@torch.inference_mode()
def test_order_of_unmasking() -> None:
    """Noise and chance change which codes are kept first; a generator decides them."""
    model = make()
    codes, actions = draw(model, 1, 2)
    runs = {}
    for name, fields in (
        ("surest", {"order_noise": 0.0}),
        ("noisy", {"order_noise": 5.0}),
        ("random", {"order": "random"}),
    ):
        frames = set()
        for seed in range(20):
            state = model.prefill(Codes.of(codes), rows(actions, 0, 1))
            sampler = TokenSampler(SamplerConfig(steps=4, temperature=1e-4, **fields))
            made, _ = model.step(state, rows(actions, 1, 2), sampler, torch.Generator().manual_seed(seed))
            frames.add(tuple(made.video.flatten().tolist()))
        runs[name] = len(frames)
    assert runs["surest"] == 1 and runs["noisy"] > 1 and runs["random"] > 1


# ------------------------------------------------------------------ configs and mistakes


@pytest.mark.parametrize("masking", [UniformMasking(least=0.4), CosineMasking(prompt_frames=3)])
def test_configs_survive_json(masking: Any) -> None:
    config = replace(make("table").config, masking=masking)
    assert from_json(MaskGITConfig, to_json(config)) == config


@pytest.mark.parametrize("factors", [(), (3, 4)])
@torch.no_grad()
def test_a_fresh_model_that_carries_codes_repeats_the_last_frame(factors: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    config = MaskGITConfig(grid=GRID, actions={}, transformer=STACK, factors=factors, past="true")
    codes = torch.randint(0, 12, (2, 3, 6), generator=torch.Generator().manual_seed(1))
    drawn = []
    for copies in (True, False):
        model = MaskGIT(replace(config, copy_prior=copies)).eval()
        state = model.prefill(Codes.of(codes), Conditions())
        greedy = TokenSampler(SamplerConfig(temperature=0, steps=2))
        drawn.append(model.step(state, Conditions(), greedy, None)[0].video[:, 0])
    assert torch.equal(drawn[0], codes[:, -1])
    assert (drawn[1] != codes[:, -1]).float().mean() > 0.5


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match='copy_prior needs past "true"'):
        make(copy_prior=True)
    with pytest.raises(UserError, match="make 10 codes, not 12"):
        make(factors=(2, 5))
    with pytest.raises(UserError, match="2x2 tokens, the grid has 2x3"):
        make(transformer=replace(STACK, columns=2))
    with pytest.raises(UserError, match="kept_frames is 4"):
        make("table", kept_frames=4)
    model = make("table")
    codes, actions = draw(model, 1, 5)
    with pytest.raises(UserError, match="5 frames; this model has positions for 4"):
        model.logits(Codes.of(codes), rows(actions, 0, 5))
    with pytest.raises(UserError, match="0 context frames"):
        model.prefill(Codes.of(codes[:, :0]), Conditions(actions={k: v[:, :0] for k, v in actions.items()}))
