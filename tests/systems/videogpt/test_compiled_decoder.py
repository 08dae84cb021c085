"""Drawing token by token: compiled and eager steps give the logits of the parallel pass, in every type."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.videogpt import prior as module
from reelworld.systems.videogpt.prior import AutoregressivePrior, PriorConfig
from reelworld.types import Codes, Conditions, GridSpec

EVERYTHING = PriorConfig(
    grid=GridSpec(rows=4, columns=16, codebook_size=11),
    latent_frames=3,
    embedding_dim=5,
    hidden_dim=24,
    heads=2,
    layers=2,
    attention="sparse",
    cond_frames=1,
    cond_height=8,
    cond_width=12,
    resnet_width=2,
    resnet_dim=6,
    n_classes=3,
)
KINDS = {"everything": EVERYTHING, "plain": replace(EVERYTHING, attention="full", cond_frames=0, n_classes=0)}
STREAMS = 3
BACKENDS = ("compiled", "eager")


class Noted:
    """A sampler that keeps the logits it is shown."""

    steps = 1

    def __init__(self, temperature: float = 1.0) -> None:
        self.inner, self.logits = TokenSampler(SamplerConfig(temperature=temperature)), list[Tensor]()

    def __call__(self, logits: Tensor, generator: object) -> Tensor:
        self.logits.append(logits)
        return self.inner(logits, generator)  # type: ignore[arg-type]

    def confidence(self, logits: Tensor, ids: Tensor, generator: object) -> Tensor:
        raise NotImplementedError


def made(config: PriorConfig, dtype: torch.dtype = torch.float32) -> AutoregressivePrior:
    torch.manual_seed(0)
    prior = AutoregressivePrior(config).eval()
    prior.codebook.normal_()
    for weight in prior.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return prior.to(dtype)


def conditions(config: PriorConfig) -> Conditions:
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(STREAMS, 1, 8, 12, 3, generator=generator) * 2 - 1
    return Conditions(
        context_video=frames if config.cond_frames else None,
        class_id=torch.tensor([2, 0, 1]) if config.n_classes else None,
    )


def rolled(prior: AutoregressivePrior, given: Codes, told: Conditions) -> tuple[Codes, Tensor]:
    """Draw the rest of the clips: all codes, and the logits they were drawn from, (B, L - L', V)."""
    state, sampler = prior.prefill(given, told), Noted()
    generators = [torch.Generator().manual_seed(s) for s in range(STREAMS)]
    for _ in range(given.video.shape[1], prior.config.latent_frames):
        _, state = prior.step(state, told, sampler, generators)
    return Codes.of(state.codes), torch.stack(sampler.logits, 1)


@pytest.fixture(params=sorted(KINDS))
def config(request: pytest.FixtureRequest) -> PriorConfig:
    kind: PriorConfig = KINDS[request.param]
    return kind


def use(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "eager":
        monkeypatch.setattr(module, "decode_library", lambda weights: None)
    elif module.decode_library(torch.empty(0)) is None:
        pytest.skip("there is no C compiler")


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("given", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_equal_the_parallel_pass(
    monkeypatch: pytest.MonkeyPatch, config: PriorConfig, backend: str, given: int, dtype: torch.dtype
) -> None:
    use(backend, monkeypatch)
    prior, told = made(config, dtype), conditions(config)
    start = Codes.of(torch.randint(0, 11, (STREAMS, given, 64), generator=torch.Generator().manual_seed(2)))
    codes, logits = rolled(prior, start, told)
    wide = made(config)
    wide.load_state_dict(prior.state_dict())  # the same rounded weights, computed with in float32
    expected = wide.logits(codes, told).flatten(1, 2)[:, given * 64 :]
    assert logits.dtype == torch.float32
    if dtype == torch.float32:
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    else:
        assert (logits - expected).abs().mean() < 0.02 * expected.std()


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_is_drawn_as_if_it_were_alone(
    monkeypatch: pytest.MonkeyPatch, config: PriorConfig, backend: str
) -> None:
    use(backend, monkeypatch)
    prior, told = made(config), conditions(config)
    together, _ = rolled(prior, Codes.of(torch.zeros(STREAMS, 0, 64, dtype=torch.int64)), told)
    for stream in range(STREAMS):
        row = slice(stream, stream + 1)
        alone = Conditions(
            context_video=None if told.context_video is None else told.context_video[row],
            class_id=None if told.class_id is None else told.class_id[row],
        )
        state = prior.prefill(Codes.of(torch.zeros(1, 0, 64, dtype=torch.int64)), alone)
        generator = [torch.Generator().manual_seed(stream)]
        for _ in range(3):
            _, state = prior.step(state, alone, Noted(), generator)
        assert torch.equal(state.codes, together.video[row])


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_selected_state_goes_on_alone(monkeypatch: pytest.MonkeyPatch, config: PriorConfig, backend: str) -> None:
    use(backend, monkeypatch)
    prior, told = made(config), conditions(config)
    state = prior.prefill(Codes.of(torch.zeros(STREAMS, 1, 64, dtype=torch.int64)), told)
    picked = torch.tensor([2, 2, 0, 1])
    copy = state.index_select(picked)
    noted = []
    for one, n in ((state, STREAMS), (copy, len(picked))):
        sampler = Noted(temperature=0)
        for _ in range(2):
            _, one = prior.step(one, told, sampler, [torch.Generator()] * n)
        noted.append((one.codes, torch.stack(sampler.logits)))
    assert torch.equal(noted[1][0], noted[0][0][picked])
    torch.testing.assert_close(noted[1][1], noted[0][1][:, picked], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_share_the_work(monkeypatch: pytest.MonkeyPatch, config: PriorConfig, threads: int) -> None:
    """Fewer or more of them than heads: every thread does its part, once the parts it needs are done."""
    use("compiled", monkeypatch)
    prior, told = made(config), conditions(config)
    inputs = torch.randn(6, STREAMS, config.hidden_dim, generator=torch.Generator().manual_seed(3))
    logits = []
    before = torch.get_num_threads()
    for n in (1, threads):
        state = prior.prefill(Codes.of(torch.zeros(STREAMS, 1, 64, dtype=torch.int64)), told)
        torch.set_num_threads(n)
        try:
            logits.append(torch.stack([prior.decode_token(state, x) for x in inputs]))
        finally:
            torch.set_num_threads(before)
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_compiled_steps_end_where_their_room_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    use("compiled", monkeypatch)
    config = KINDS["plain"]
    prior = made(config)
    state = prior.prefill(Codes.of(torch.zeros(1, 2, 64, dtype=torch.int64)), Conditions())
    for _ in range(64):
        prior.decode_token(state, torch.zeros(1, config.hidden_dim))
    with pytest.raises(AssertionError):
        prior.decode_token(state, torch.zeros(1, config.hidden_dim))


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
def test_forks_go_on_as_their_stream(monkeypatch: pytest.MonkeyPatch, config: PriorConfig, backend: str) -> None:
    """Copies of one stream, whose caches share a prefix until they are written to."""
    use(backend, monkeypatch)
    prior, told = made(config), conditions(config)
    state = prior.prefill(Codes.of(torch.zeros(STREAMS, 1, 64, dtype=torch.int64)), told)
    forks, sampler, alone = state.index_select(torch.tensor([1, 1])), Noted(temperature=0), Noted(temperature=0)
    prior.step(forks, told, sampler, [torch.Generator()] * 2)
    prior.step(state, told, alone, [torch.Generator()] * STREAMS)
    expected = torch.stack(alone.logits)[:, [1, 1]]
    torch.testing.assert_close(torch.stack(sampler.logits), expected, rtol=1e-4, atol=1e-5)
