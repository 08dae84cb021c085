"""Masked dynamics: steps against recomputing everything, copies, sliding tables, losses by hand, draws, learning."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.genie.maskgit import MaskGIT, MaskGITConfig, MaskGITState
from reelworld.systems.genie.masking import MaskedInput
from reelworld.systems.genie.spacetime import STConfig
from reelworld.types import ActionSpec, Batch, Codes, Conditions, GridSpec

GRID = GridSpec(rows=2, columns=3, codebook_size=12)
STACK = STConfig(width=16, layers=2, heads=2, rows=2, columns=3, window=3)
ACTIONS = {
    "discrete": {"action": ActionSpec(kind="discrete", n=5)},
    "stacked": {"action": ActionSpec(kind="discrete", n=5, repeat=3)},
    "vectors": {"latent": ActionSpec(kind="continuous", n=4)},
    "none": {},
}
TABLE = {"positions": "table", "transformer": replace(STACK, window=4, time="none", space="none", norms="no_time")}
FORMS: dict[str, dict[str, Any]] = {
    "add": {},
    "prepend-factors": {"conditioning": "prepend", "factors": (3, 4)},
    "concat-lags": {"conditioning": "concat", "transformer": replace(STACK, time="lags", space="rotary")},
    "film-vectors": {"conditioning": "film", "actions": ACTIONS["vectors"], "has_outcomes": False},
    "stacked": {"actions": ACTIONS["stacked"]},
    "alone": {"actions": {}, "factors": (2, 3, 2)},
    "copy_prior": {"copy_prior": True, "past": "true", "factors": (3, 4)},
    "table-copy_prior": {**TABLE, "copy_prior": True, "past": "true", "conditioning": "film"},
    "table": {**TABLE, "kept_frames": 2},
    "table-alone": {**TABLE, "actions": {}, "mup_base_width": 8, "factors": (4, 3)},
}


def make(form: str = "add", **fields: Any) -> MaskGIT:
    """Build a model whose every weight matters."""
    torch.manual_seed(0)
    config = {"grid": GRID, "actions": ACTIONS["discrete"], "transformer": STACK, **FORMS[form], **fields}
    model = MaskGIT(MaskGITConfig(**config))
    for name, weight in model.named_parameters():
        is_table = name.startswith(("embed", "table", "carried", "transformer.place", "actions", "first_action"))
        fan_in = weight.shape[-1] if weight.ndim > 1 and not is_table else 1
        # sharp attention and no constant that drowns the rest: otherwise all tokens of a frame become alike
        gain = 0.1 if weight.ndim == 1 else 1.5 if "heads" in name else 1
        kept = 0.02 * fan_in**0.5 if name.startswith("transformer.blocks") and weight.ndim > 1 else 1.0
        weight.data.mul_(kept).add_(gain * torch.randn(weight.shape) / fan_in**0.5)
    return model.eval()


def draw(model: MaskGIT, batch: int, frames: int, seed: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
    """Codes (B, T, N) and actions."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 12, (batch, frames, 6), generator=generator)
    actions = {}
    for name, spec in model.config.actions.items():
        shape = (batch, frames) if spec.repeat == 1 else (batch, frames, spec.repeat)
        actions[name] = torch.randint(0, spec.n, shape, generator=generator)
        if spec.kind == "continuous":
            actions[name] = torch.randn(batch, frames, spec.n, generator=generator)
    return codes, actions


def rows(actions: dict[str, Tensor], begin: int, end: int) -> Conditions:
    return Conditions(actions={k: v[:, begin:end] for k, v in actions.items()})


def greedy(steps: int = 1, **fields: Any) -> TokenSampler:
    return TokenSampler(SamplerConfig(steps=steps, temperature=0.0, **fields))


class Recorder(TokenSampler):
    """Keeps the logits it was shown."""

    def __init__(self, config: SamplerConfig) -> None:
        super().__init__(config)
        self.logits: list[Tensor] = []

    def __call__(self, logits: Tensor, generator: object) -> Tensor:
        self.logits.append(logits)
        return super().__call__(logits, generator)


# ------------------------------------------------------------------ the slow way, from the papers' words


def window_begin(model: MaskGIT, t: int) -> int:
    """First frame that is read to predict frame t: tables begin anew when they are full."""
    if model.table is None:
        return 0
    begin = 0
    while t - begin >= model.config.transformer.window:
        begin += model.config.transformer.window - model.table.kept
    return begin


def uncached_frame(
    model: MaskGIT, codes: Tensor, actions: dict[str, Tensor], t: int, sampler: Any
) -> tuple[Tensor, Tensor]:
    """Decode frame t of (B, T, N) from those before it, reading everything in every pass.

    Returns the codes (B, N), and per row the smallest margin by which a position was kept or masked (B,).
    """
    begin, tokens = window_begin(model, t), codes.shape[2]
    now = codes[:, begin : t + 1].clone()
    told = rows(actions, begin, t + 1)
    known = torch.zeros_like(now[:, -1], dtype=torch.bool)
    hidden = torch.zeros_like(now, dtype=torch.bool)
    margin = torch.full((len(now),), float("inf"))
    for k in range(sampler.steps):
        hidden[:, -1] = ~known
        parts = model.logits(Codes.of(now), told, hidden)[:, -1].split(list(model.config.sizes), -1)
        digits = [sampler(part, None) for part in parts]
        sure = sum(p.log_softmax(-1).gather(-1, d[..., None])[..., 0] for p, d in zip(parts, digits, strict=True))
        ids, radix = torch.zeros_like(digits[0]), 1
        for digit, size in zip(digits, model.config.sizes, strict=True):
            ids, radix = ids + radix * digit, radix * size
        now[:, -1] = torch.where(known, now[:, -1], ids)
        if k + 1 < sampler.steps:
            n_masked = math.ceil(math.cos((k + 1) / sampler.steps * math.pi / 2) * tokens)
            order = sure.masked_fill(known, float("inf")).sort(1)
            if n_masked < tokens:
                margin = margin.minimum(order.values[:, n_masked] - order.values[:, n_masked - 1])
            known = torch.ones_like(known).scatter(1, order.indices[:, :n_masked], False)
    return now[:, -1], margin


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("context", [1, 2, 6])
@torch.inference_mode()
def test_cached_steps_equal_the_parallel_passes(form: str, context: int) -> None:
    """With the true past: logits of a step, those of one pass per frame, and those of one pass for all frames."""
    model = make(form)
    codes, actions = draw(model, 2, 12)
    judged = model.score(Codes.of(codes), rows(actions, 0, 12))
    state = model.prefill(Codes.of(codes[:, :context]), rows(actions, 0, context - 1))
    for t in range(context, 12):
        sampler = Recorder(SamplerConfig(temperature=0.0))
        _, state = model.step(state, rows(actions, t - 1, t), sampler, None)
        logits = torch.cat(sampler.logits, -1)[:, 0]
        begin = window_begin(model, t)
        now = Codes.of(codes[:, begin : t + 1])
        hidden = torch.zeros_like(now.video, dtype=torch.bool)
        hidden[:, -1] = True
        expected = model.logits(now, rows(actions, begin, t + 1), hidden)[:, -1]
        if model.table is None or begin == window_begin(model, t - 1):
            assert not torch.allclose(expected, model.logits(now, rows(actions, begin, t + 1), hidden)[:, 0])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        nats = model.factors.nll(logits, codes[:, t]).sum(1)
        torch.testing.assert_close(nats, judged.nll[:, t - 1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(state.reward, judged.reward[:, t - 1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(state.terminated, judged.terminated[:, t - 1], atol=1e-5, rtol=1e-4)
        go_on_from(state, codes[:, t])
    assert judged.nll.std() > 0.5
    assert (judged.reward.std() > 0.01) == model.config.has_outcomes


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("steps", [1, 2, 4, 9])
@torch.inference_mode()
def test_decoded_frames_equal_recomputing_everything(form: str, steps: int) -> None:
    """Token for token, far longer than the window; 9 passes are more than there are codes.

    Every other frame is followed by a random one: random models soon repeat themselves.
    """
    model = make(form)
    codes, actions = draw(model, 3, 14)
    sampler, seen, n_clear = greedy(steps), [], 0
    state = model.prefill(Codes.of(codes[:, :2]), rows(actions, 0, 1))
    for t in range(2, 14):
        made, state = model.step(state, rows(actions, t - 1, t), sampler, None)
        expected, margin = uncached_frame(model, codes, actions, t, sampler)
        clear = margin > 1e-5  # rounding decides ties
        n_clear += int(clear.sum())
        assert torch.equal(made.video[clear, 0], expected[clear]), t
        seen.append(made.video)
        if t % 2:
            codes[:, t] = made.video[:, 0]
        else:
            go_on_from(state, codes[:, t])
    assert n_clear >= 15, "of 36"
    frames = torch.cat(seen, 1)
    assert len(frames.flatten(0, 1).unique(dim=0)) > 6 and len(frames.unique()) > 4


def go_on_from(state: MaskGITState, codes_BN: Tensor) -> None:
    """Replace the current frame."""
    state.codes = codes_BN
    if state.history is not None:
        state.history.codes[:, -1] = codes_BN


@pytest.mark.parametrize("form", ["add", "prepend-factors", "table"])
@pytest.mark.parametrize("steps", [1, 3])
@torch.inference_mode()
def test_streams_can_be_copied_and_replaced(form: str, steps: int) -> None:
    model = make(form)
    codes, actions = draw(model, 3, 14)

    def advance(state: MaskGITState, streams: list[int], t: int) -> tuple[Tensor, MaskGITState]:
        told = Conditions(actions={k: v[streams, t : t + 1] for k, v in actions.items()})
        made, state = model.step(state, told, greedy(steps), None)
        return made.video[:, 0], state

    def run(streams: list[int], reset_at: int | None = None) -> list[Tensor]:
        told = Conditions(actions={k: v[streams, :4] for k, v in actions.items()})
        state, seen = model.prefill(Codes.of(codes[streams, :5]), told), []
        for t in range(4, 13):
            if t == reset_at:  # of another age
                first = Conditions(actions={k: v[:1, :1] for k, v in actions.items()})
                state.index_copy_(torch.tensor([1]), model.prefill(Codes.of(codes[:1, :2]), first))
            frame, state = advance(state, streams, t)
            seen.append(frame)
        return seen

    together, alone, replaced = run([0, 1, 2]), run([2]), run([0, 1, 2], reset_at=7)
    assert all(torch.equal(a[2:], b) for a, b in zip(together, alone, strict=True))
    assert all(torch.equal(a[[0, 2]], b[[0, 2]]) for a, b in zip(together, replaced, strict=True))
    state = model.prefill(Codes.of(codes[:1, :2]), Conditions(actions={k: v[:1, :1] for k, v in actions.items()}))
    for t in range(7, 13):
        frame, state = advance(state, [1], t)
        assert torch.equal(frame, replaced[t - 4][1:2]), t


@torch.inference_mode()
def test_copies_do_not_share_memory() -> None:
    for form in ("add", "table"):
        model = make(form)
        codes, actions = draw(model, 1, 12)
        state = model.prefill(Codes.of(codes[:, :3]), rows(actions, 0, 2))
        moment = state.index_select(torch.tensor([0]))
        runs = []
        for begun in (state, moment):
            seen = []
            for t in range(2, 10):
                made, begun = model.step(begun, rows(actions, t, t + 1), greedy(2), None)
                seen.append(made.video)
            runs.append(torch.cat(seen))
        assert torch.equal(*runs)


@torch.inference_mode()
def test_streams_of_several_ages_can_be_copied() -> None:
    """A table's windows are full at different times."""
    model = make("table")
    codes, actions = draw(model, 2, 12)
    old = model.prefill(Codes.of(codes[:, :3]), rows(actions, 0, 2))
    first = Conditions(actions={k: v[:1, :1] for k, v in actions.items()})
    old.index_copy_(torch.tensor([0]), model.prefill(Codes.of(codes[:1, :2]), first))
    swapped = old.index_select(torch.tensor([1, 0]))
    for t in range(2, 9):
        now = rows(actions, t, t + 1)
        turned = Conditions(actions={k: v.flip(0) for k, v in now.actions.items()})
        made, old = model.step(old, now, greedy(2), None)
        other, swapped = model.step(swapped, turned, greedy(2), None)
        assert torch.equal(made.video, other.video.flip(0)), t


@pytest.mark.parametrize("form", [f for f in FORMS if "table" not in f])
@torch.inference_mode()
def test_long_clips_are_judged_as_short_ones(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the cache, in little memory, and at once."""
    model = make(form)
    codes, actions = draw(model, 2, 9)
    at_once = model.score(Codes.of(codes), rows(actions, 0, 9))
    monkeypatch.setattr("reelworld.systems.genie.maskgit.MAX_PARALLEL_FRAMES", 8)
    reads = []
    hook = model.transformer.blocks[0].mlp.register_forward_hook(lambda _, inputs, out: reads.append(out.shape[1]))
    one_by_one = model.score(Codes.of(codes), rows(actions, 0, 9))
    hook.remove()
    assert set(reads) == {0, 2}  # nothing, then a true frame and a masked one at a time
    for a, b in zip(at_once, one_by_one, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ causes


@pytest.mark.parametrize("form", FORMS)
@torch.inference_mode()
def test_an_action_counts_from_the_frame_it_leads_to(form: str) -> None:
    model = make(form)
    codes, actions = draw(model, 1, 6)
    if not actions:
        return
    other = {k: v.clone() for k, v in actions.items()}
    for stream in other.values():
        stream[:, 2] = stream[:, 2] + 1 if stream.is_floating_point() else (stream[:, 2] + 1) % 5
    moved = model.score(Codes.of(codes), rows(other, 0, 6)).nll - model.score(Codes.of(codes), rows(actions, 0, 6)).nll
    assert moved[:, :2].abs().max() == 0  # about frames 1 and 2
    assert moved[:, 2].abs().min() > 1e-3


@pytest.mark.parametrize("form", FORMS)
@torch.inference_mode()
def test_a_frame_and_those_after_it_say_nothing_about_it(form: str) -> None:
    model = make(form)
    codes, actions = draw(model, 1, 8)
    other, _ = draw(model, 1, 8, seed=2)
    other[:, :5] = codes[:, :5]
    one, two = (model.score(Codes.of(c), rows(actions, 0, 8)) for c in (codes, other))
    torch.testing.assert_close(one.nll[:, :4], two.nll[:, :4])
    torch.testing.assert_close(one.reward[:, :5], two.reward[:, :5])
    assert not torch.allclose(one.nll[:, 5:], two.nll[:, 5:])


# ------------------------------------------------------------------ losses


def test_loss_counts_masked_codes_of_real_frames() -> None:
    model = make("prepend-factors")
    rewards, ended = torch.randn(2, 5), torch.zeros(2, 5, dtype=torch.bool)
    rewards[0, 1] = 0
    valid = torch.ones(2, 5, dtype=torch.bool)
    valid[1, 3:] = False
    codes, actions = draw(model, 2, 5)
    told = rows(actions, 0, 5)
    batch = Batch(codes=Codes.of(codes), conditions=told, rewards=rewards, terminated=ended, valid=valid)
    hidden = torch.rand(codes.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    with torch.no_grad():
        losses = model.loss(batch, shown=MaskedInput((codes + 1) % 12, hidden))
        logits = model.logits(Codes.of((codes + 1) % 12), told, hidden)
    total, right, count = 0.0, 0, 0
    for b in range(2):
        for t in range(1, 5):
            for n in range(6):
                if not (hidden[b, t, n] and valid[b, t]):
                    continue
                code, count = int(codes[b, t, n]), count + 1
                digits = (code % 3, code // 3)
                parts = logits[b, t, n, :3], logits[b, t, n, 3:]
                total -= sum(float(p.log_softmax(0)[d]) for p, d in zip(parts, digits, strict=True))
                right += all(int(p.argmax()) == d for p, d in zip(parts, digits, strict=True))
    assert float(losses.terms["codes"][0]) == pytest.approx(total, rel=1e-5)
    assert [int(losses.terms[k][1]) for k in ("codes", "accuracy")] == [count, count]
    assert int(losses.terms["accuracy"][0]) == right
    assert [int(losses.terms[k][1]) for k in ("rewarded", "reward", "terminated")] == [6, 6, 6]
    assert losses.weights == {"accuracy": 0.0, "rewarded": 0.1, "reward": 0.1, "terminated": 0.1}


@pytest.mark.parametrize("form", ["add", "alone", "table"])
@torch.no_grad()
def test_all_masked_beside_the_true_past_is_what_judges_see(form: str) -> None:
    """The loss with a true past, everything masked, is the surprise at playing; with a masked past it is not."""
    nats = {}
    for past in ("true", "masked"):
        model = make(form, past=past)
        codes, actions = draw(model, 2, 4)
        batch = Batch(codes=Codes.of(codes), conditions=rows(actions, 0, 4))
        everything = MaskedInput(codes, torch.arange(4)[:, None].expand(2, 4, 6) > 0)
        nats[past] = model.loss(batch, shown=everything).mean()["codes"]
    assert nats["true"] == pytest.approx(float(model.score(batch.codes, batch.conditions).nll.mean()) / 6, rel=1e-4)
    assert abs(nats["true"] - nats["masked"]) > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_learns(form: str) -> None:
    model = make(form).train()
    codes, actions = draw(model, 2, 4)
    ended = torch.ones(2, 4, dtype=torch.bool)
    batch = Batch(codes=Codes.of(codes), conditions=rows(actions, 0, 4), rewards=torch.ones(2, 4), terminated=ended)
    losses = model.loss(batch, torch.Generator().manual_seed(0))
    sum(losses.terms[k][0] for k in losses.terms if losses.weights.get(k, 1)).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still


@pytest.mark.slow
@pytest.mark.parametrize("past", ["masked", "true"])
def test_learns_a_shift_by_the_action(past: str) -> None:
    """The next frame is this one shifted by the action's number: certain, given both."""
    torch.manual_seed(0)
    stack = replace(STACK, width=32, layers=2, window=4)
    model = MaskGIT(MaskGITConfig(grid=GRID, actions=ACTIONS["discrete"], transformer=stack, past=past))
    optimizer, generator = torch.optim.AdamW(model.parameters(), 5e-3), torch.Generator().manual_seed(1)

    def clips(n: int) -> Batch:
        first = torch.randint(0, 12, (n, 1, 6), generator=generator)
        actions = torch.randint(0, 5, (n, 4), generator=generator)
        shift = torch.cat([torch.zeros(n, 1, dtype=torch.int64), actions[:, :3].cumsum(1)], 1)
        return Batch(
            codes=Codes.of((first + shift[..., None]) % 12), conditions=Conditions(actions={"action": actions})
        )

    for _ in range(300):
        optimizer.zero_grad()
        total, count = model.loss(clips(32), generator).terms["codes"]
        (total / count).backward()
        optimizer.step()
    batch = clips(64)
    with torch.no_grad():
        judged = model.eval().score(batch.codes, batch.conditions)
    # a frame of six codes at chance: 6 log 12 = 15 nats
    assert judged.nll.mean() < 1.5 and judged.correct.float().mean() > 0.8


@torch.no_grad()
def test_mup_scales_the_readout() -> None:
    model = make("table-alone")  # 16 wide, 8 at the base
    codes, _ = draw(model, 1, 3)
    features = []
    hook = model.transformer.register_forward_hook(lambda module, inputs, out: features.append(out))
    logits = model.logits(Codes.of(codes), Conditions())
    hook.remove()
    torch.testing.assert_close(logits, features[0] / 2 @ model.head.weight.T + model.head.bias)
