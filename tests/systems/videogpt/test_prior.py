"""The prior: nothing sees the future, cached equals parallel, conditions count. Numbers: tests/parity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from reelworld.systems.videogpt.block_sparse_layout import strided_layout
from reelworld.systems.videogpt.prior import AutoregressivePrior, PriorConfig
from reelworld.types import Batch, Codes, Conditions, GridSpec, UserError

PLAIN = PriorConfig(
    grid=GridSpec(rows=4, columns=8, codebook_size=11),
    latent_frames=4,
    embedding_dim=5,
    hidden_dim=24,
    heads=2,
    layers=2,
    cond_height=8,
    cond_width=8,
    resnet_width=2,
    resnet_dim=6,
)
KINDS = {
    "plain": PLAIN,
    "sparse": replace(PLAIN, attention="sparse"),
    "frames": replace(PLAIN, cond_frames=2),
    "classes": replace(PLAIN, n_classes=3),
    "everything": replace(PLAIN, attention="sparse", cond_frames=1, n_classes=3),
}


def made(config: PriorConfig) -> AutoregressivePrior:
    """A prior whose weights are large enough that every input matters."""
    torch.manual_seed(0)
    prior = AutoregressivePrior(config).eval()
    prior.codebook.normal_()
    for weight in prior.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return prior


def drawn(config: PriorConfig, n: int = 2, seed: int = 0) -> tuple[Codes, Conditions]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 11, (n, config.latent_frames, config.grid.n_tokens), generator=generator)
    frames = torch.rand(n, config.cond_frames, 8, 8, 3, generator=generator) * 2 - 1 if config.cond_frames else None
    class_id = torch.randint(0, 3, (n,), generator=generator) if config.n_classes else None
    return Codes.of(codes), Conditions(context_video=frames, class_id=class_id)


@pytest.fixture(params=sorted(KINDS))
def config(request: pytest.FixtureRequest) -> PriorConfig:
    kind: PriorConfig = KINDS[request.param]
    return kind


@torch.no_grad()
def test_nothing_sees_itself_or_the_future(config: PriorConfig) -> None:
    prior, (codes, conditions) = made(config), drawn(config)
    before = prior.logits(codes, conditions).flatten(1, 2)
    for place in (0, 1, 37, 127):
        other = codes.video.clone()
        other.view(2, -1)[:, place] = (other.view(2, -1)[:, place] + 1) % 11
        after = prior.logits(Codes.of(other), conditions).flatten(1, 2)
        moved = (before - after).abs().amax((0, 2)) > 0
        assert not moved[: place + 1].any()
        if place < 127:
            assert moved[place + 1], "the next token sees it"


@torch.no_grad()
def test_sparse_tokens_reach_what_the_layout_says() -> None:
    """With one block a token is moved by those its blocks see, and by no others."""
    config = replace(KINDS["sparse"], layers=1, latent_frames=8)
    prior, (codes, conditions) = made(config), drawn(config)
    before = prior.logits(codes, conditions).flatten(1, 2)
    layout = strided_layout(config.shape)
    for place in (0, 70, 130):
        other = codes.video.clone()
        other.view(2, -1)[:, place] = (other.view(2, -1)[:, place] + 1) % 11
        after = prior.logits(Codes.of(other), conditions).flatten(1, 2)
        moved = (before - after).abs().amax((0, 2)) > 1e-7
        source = place + 1  # where the token is the input
        reached = torch.zeros_like(moved)
        for token in range(source, config.n_tokens):
            reached[token] = layout[token // 32, source // 32]
        assert not (moved & ~reached).any()
        assert moved[reached].float().mean() > 0.9


class Forced:
    """A sampler that answers with given codes and keeps the logits it was shown."""

    steps = 1

    def __init__(self, codes_BL: Tensor, start: int) -> None:
        self.codes, self.place, self.logits = codes_BL, start, list[Tensor]()

    def __call__(self, logits: Tensor, generator: object) -> Tensor:
        self.logits.append(logits)
        self.place += 1
        return self.codes[:, self.place - 1]

    def confidence(self, logits: Tensor, ids: Tensor, generator: object) -> Tensor:
        raise NotImplementedError


@torch.no_grad()
@pytest.mark.parametrize("given", [0, 1, 3])
def test_cached_equals_parallel(config: PriorConfig, given: int) -> None:
    prior, (codes, conditions) = made(config), drawn(config)
    start = given * config.grid.n_tokens
    state = prior.prefill(codes[slice(given)], conditions)
    sampler = Forced(codes.video.flatten(1), start)
    for p in range(given, config.latent_frames):
        new, state = prior.step(state, Conditions(), sampler, None)
        assert torch.equal(new.video[:, 0], codes.video[:, p])
        assert state.n_latents == p + 1
    expected = prior.logits(codes, conditions).flatten(1, 2)[:, start:]
    torch.testing.assert_close(torch.stack(sampler.logits, 1), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_selected_streams_go_on_alone(config: PriorConfig) -> None:
    prior, (codes, conditions) = made(config), drawn(config, n=3)
    state = prior.prefill(codes[slice(2)], conditions)
    picked = torch.tensor([2, 0])
    logits = []
    for one, rows in ((state.index_select(picked), codes.video[picked]), (state, codes.video)):
        sampler = Forced(rows.flatten(1), 2 * config.grid.n_tokens)
        prior.step(one, Conditions(), sampler, None)
        logits.append(torch.stack(sampler.logits))
    torch.testing.assert_close(logits[0], logits[1][:, picked])


@torch.no_grad()
def test_conditions_count() -> None:
    for kind in ("frames", "classes", "everything"):
        config = KINDS[kind]
        prior, (codes, conditions) = made(config), drawn(config)
        before = prior.logits(codes, conditions)
        if conditions.context_video is not None:
            other = replace(conditions, context_video=-conditions.context_video)
            assert (prior.logits(codes, other) - before).abs().amax(-1).min() > 0
        if conditions.class_id is not None:
            other = replace(conditions, class_id=(conditions.class_id + 1) % 3)
            assert (prior.logits(codes, other) - before).abs().amax(-1).min() > 0


def test_a_fresh_prior_knows_nothing() -> None:
    """The published head starts at zero: every code is equally likely."""
    prior = AutoregressivePrior(PLAIN)
    prior.codebook.normal_()
    codes, conditions = drawn(PLAIN)
    assert prior.loss(Batch(codes=codes, conditions=conditions)).mean()["nats"] == pytest.approx(
        torch.tensor(11.0).log().item(), rel=1e-6
    )


def test_dropout_is_for_training_only(config: PriorConfig) -> None:
    prior, (codes, conditions) = made(config), drawn(config)
    with torch.no_grad():
        calm = [prior.nll(codes, conditions) for _ in range(2)]
        prior.train()
        wild = [prior.nll(codes, conditions) for _ in range(2)]
    assert torch.equal(*calm)
    assert not torch.equal(*wild)


def test_nats_are_those_of_the_logits(config: PriorConfig) -> None:
    prior, (codes, conditions) = made(config), drawn(config)
    with torch.no_grad():
        log = prior.logits(codes, conditions).log_softmax(-1)
        expected = -log.gather(-1, codes.video[..., None]).squeeze(-1)
        torch.testing.assert_close(prior.nll(codes, conditions), expected)


def test_a_full_clip_leaves_no_room() -> None:
    prior, (codes, conditions) = made(PLAIN), drawn(PLAIN)
    with pytest.raises(UserError, match="4 latent frames are given; a clip of this model has 4"):
        prior.prefill(codes, conditions)
    state = prior.prefill(codes[slice(3)], conditions)
    _, state = prior.step(state, Conditions(), Forced(codes.video.flatten(1), 96), None)
    with pytest.raises(UserError, match="start a new window"):
        prior.step(state, Conditions(), Forced(codes.video.flatten(1), 96), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_dim": 25}, "multiple of heads"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"attention": "sparse", "latent_frames": 1, "grid": GridSpec(rows=3, columns=3, codebook_size=5)}, "blocks"),
        ({"cond_frames": 1, "cond_height": 10}, "multiples of 4"),
        ({"latent_frames": 0}, "latent_frames is 0"),
    ],
)
def test_what_cannot_be_built_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(PLAIN, **change)  # type: ignore[arg-type]
