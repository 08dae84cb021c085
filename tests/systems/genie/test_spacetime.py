"""Spacetime transformer: against a plain one in float64, cached against parallel, causality, windows, copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reelworld.nn.rotary import PERIOD, Rotary
from reelworld.systems.genie.spacetime import STConfig, STTransformer
from reelworld.types import UserError

BASE = STConfig(width=16, layers=3, heads=2, rows=2, columns=3, window=3)
FORMS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "lags": {"time": "lags", "qk_norm": False, "qkv_bias": True},
    "grid-rotary": {"space": "rotary", "proj_bias": False, "mlp_bias": False},
    "1xgpt": {"time": "none", "space": "none", "norms": "no_time", "qk_norm": False},
    "1xgpt-qk-norm": {"time": "none", "space": "none", "norms": "none", "qk_norm": True},
    "mup": {"is_mup": True, "mlp_ratio": 2.5},
}


def make(form: str = "rotary", **fields: Any) -> STTransformer:
    """Build a stack whose every weight matters."""
    torch.manual_seed(0)
    model = STTransformer(replace(BASE, **{**FORMS[form], **fields}))
    for weight in model.parameters():
        weight.data.add_(0.4 * torch.randn(weight.shape) / max(weight.shape[-1] if weight.ndim > 1 else 1, 1) ** 0.5)
    return model.eval()


def draw(frames: int, batch: int = 2, tokens: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(batch, frames, tokens, 16, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ a plain one, from the paper's words


def plain_norm(x: Tensor, norm: Any) -> Tensor:
    if isinstance(norm, torch.nn.Identity):
        return x
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def plain_turn(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs of channels (i, i + E / 2) as complex numbers."""
    half = x.shape[-1] // 2
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], -1)


def plain_attention(queries: Tensor, keys: Tensor, heads: Any, bias: Any, turn: Any) -> Tensor:
    """Attend from tokens (Q, D) to tokens (K, D); bias(head, i, j) is -inf where j is hidden."""
    width = queries.shape[-1]
    weights = heads.qkv.weight.view(3, heads.heads, width // heads.heads, width)
    out = []
    for h in range(heads.heads):
        biases = [0.0, 0.0, 0.0]
        if heads.qkv.bias is not None:
            biases = list(heads.qkv.bias.view(3, heads.heads, -1)[:, h])
        q, k, v = (x @ w[h].T + b for x, w, b in zip((queries, keys, keys), weights, biases, strict=True))
        q, k = turn(plain_norm(q, heads.norm)), turn(plain_norm(k, heads.norm))
        scores = (q @ k.T) * heads.scale
        extra = torch.tensor([[float(bias(h, i, j)) for j in range(len(k))] for i in range(len(q))])
        out.append((scores + extra).softmax(-1) @ v)
    mixed = torch.cat(out, -1) @ heads.out.weight.T
    return mixed if heads.out.bias is None else mixed + heads.out.bias


def plain(model: STTransformer, x: Tensor) -> Tensor:
    """Map (T, S, D) token by token, in float64."""
    config, (frames, tokens, _) = model.config, x.shape
    if config.space == "learned":
        x = x + model.place.table
    pi = torch.pi
    for block in model.blocks:
        turn = lambda part: part  # noqa: E731
        if config.space == "rotary":
            steps = block.space.rotary.angles.double() * 2 * pi / PERIOD
            turn = lambda part, a=steps: plain_turn(part, a)  # noqa: E731
        h = plain_norm(x, block.norm_space)
        mixed = [plain_attention(h[t], h[t], block.space.heads, lambda *_: 0.0, turn) for t in range(frames)]
        x = x + torch.stack(mixed)
        turn = lambda part: part  # noqa: E731
        if config.time == "rotary":
            angles = torch.arange(frames).double()[:, None] * block.time.sense.rotary.turns * 2 * pi / PERIOD
            turn = lambda part, a=angles: plain_turn(part, a)  # noqa: E731

        def bias(head: int, i: int, j: int, block: Any = block) -> float:
            if not 0 <= i - j < config.window:
                return float("-inf")
            return float(block.time.sense.lag_bias[head, i - j]) if config.time == "lags" else 0.0

        h = plain_norm(x, block.norm_time)
        mixed = [plain_attention(h[:, s], h[:, s], block.time.heads, bias, turn) for s in range(tokens)]
        x = x + torch.stack(mixed, 1)
        up, _, _, down, _ = block.mlp
        h = plain_norm(x, block.norm_mlp) @ up.weight.T
        h = h if up.bias is None else h + up.bias
        h = 0.5 * h * (1 + torch.erf(h / 2**0.5)) @ down.weight.T
        x = x + (h if down.bias is None else h + down.bias)
    return plain_norm(x, model.norm)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frames", [2, 5])
@torch.no_grad()
def test_equals_a_plain_one(form: str, frames: int) -> None:
    """Within the window of 3 frames, and beyond it."""
    model = make(form).double()
    x = draw(frames, batch=1).double()
    torch.testing.assert_close(model(x)[0], plain(model, x[0]), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ the cache


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("context", [0, 1, 5])
@torch.inference_mode()
def test_cached_steps_equal_the_parallel_pass(form: str, context: int) -> None:
    model, x = make(form), draw(11)
    parallel = model(x)
    first, cache = model.prefill(x[:, :context])
    torch.testing.assert_close(first, parallel[:, :context], atol=1e-5, rtol=1e-4)
    for t in range(context, 11):
        now = model.step(x[:, t : t + 1], cache)
        torch.testing.assert_close(now[:, 0], parallel[:, t], atol=1e-5, rtol=1e-4)
    assert parallel.std() > 0.3


@pytest.mark.parametrize("form", FORMS)
@torch.inference_mode()
def test_drafts_leave_no_trace(form: str) -> None:
    """Each frame is first read as two drafts, then settled together with the draft of the next one."""
    model, x, drafts = make(form), draw(10), draw(11, seed=2)
    settled = model(x)
    _, cache = model.prefill(x[:, :2], ahead=2)
    for t in range(2, 10):
        for draft in (drafts[:, t], drafts[:, t].flip(1)):
            seen = model.step(draft[:, None], cache, keep=0)
            expected = model(torch.cat([x[:, :t], draft[:, None]], 1))[:, -1]
            torch.testing.assert_close(seen[:, 0], expected, atol=1e-5, rtol=1e-4)
        both = model.step(torch.stack([x[:, t], drafts[:, t + 1]], 1), cache, keep=1)
        torch.testing.assert_close(both[:, 0], settled[:, t], atol=1e-5, rtol=1e-4)
        expected = model(torch.cat([x[:, : t + 1], drafts[:, t + 1 : t + 2]], 1))[:, -1]
        torch.testing.assert_close(both[:, 1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@torch.inference_mode()
def test_drafts_beside_settled_frames_equal_each_alone(form: str) -> None:
    model, x, drafts = make(form), draw(6), draw(6, seed=2)
    numbers = torch.arange(6)
    positions, is_draft = torch.cat([numbers, numbers[1:]]), torch.arange(11) >= 6
    both = model(torch.cat([x, drafts[:, 1:]], 1), positions=positions, drafts=is_draft)
    torch.testing.assert_close(both[:, :6], model(x), atol=1e-5, rtol=1e-4)
    for t in range(1, 6):
        expected = model(torch.cat([x[:, :t], drafts[:, t : t + 1]], 1))[:, -1]
        torch.testing.assert_close(both[:, 5 + t], expected, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_streams_can_be_copied_and_replaced() -> None:
    model, x = make(), draw(12, batch=3)
    parallel = model(x)
    _, cache = model.prefill(x[:, :4])
    for t in range(4, 7):
        model.step(x[:, t : t + 1], cache)
    copy = cache.index_select(torch.tensor([2, 0]))
    _, fresh = model.prefill(x[:1, :2])  # another age, another place in the ring
    cache.index_copy_(torch.tensor([1]), fresh)
    for t in range(7, 12):
        now = torch.stack([x[0, t], x[0, t - 5], x[2, t]])[:, None]
        out = model.step(now, cache)[:, 0]
        expected = torch.stack([parallel[0, t], parallel[0, t - 5], parallel[2, t]])
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
        out = model.step(x[[2, 0], t : t + 1], copy)[:, 0]
        torch.testing.assert_close(out, parallel[[2, 0], t], atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------ who sees whom


@torch.inference_mode()
def test_later_frames_change_nothing_before() -> None:
    model, x = make(window=8), draw(6)
    later = x.clone()
    later[:, 4:] = draw(2, seed=3)
    torch.testing.assert_close(model(later)[:, :4], model(x)[:, :4])
    assert (model(later)[:, 4:] - model(x)[:, 4:]).abs().max() > 0.1


@torch.inference_mode()
def test_the_past_reaches_one_window_per_layer() -> None:
    model, x = make(), draw(9)  # 3 layers of a window of 3: two frames each
    for age, is_seen in ((6, True), (7, False)):
        other = x.clone()
        other[:, 8 - age] = draw(1, seed=4)[:, 0]
        moved = (model(other)[:, 8] - model(x)[:, 8]).abs().max()
        assert (moved > 1e-5) == is_seen, (age, moved)


@pytest.mark.parametrize("form", ["rotary", "lags"])
@torch.inference_mode()
def test_only_differences_of_time_count(form: str) -> None:
    """Also after more frames than rotary angles have periods, to the last bits."""
    model, x = make(form), draw(3)
    late = torch.arange(3) + 10**9
    torch.testing.assert_close(model(x, positions=late), model(x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(x, positions=torch.tensor([0, 2, 3])), model(x), atol=1e-3)


def test_rotary_scores_tell_lags_apart() -> None:
    """Over the distance they are made for: no two lags give one vector the same scores."""
    rotary, x = Rotary(8, 16), torch.ones(32, 8)
    turned = rotary(x, torch.arange(32))
    scores = turned @ turned[0]
    assert (scores[:16, None] - scores[:16]).abs()[~torch.eye(16, dtype=torch.bool)].min() > 1e-3
    torch.testing.assert_close(turned[5:] @ turned[5], scores[:27])


@torch.inference_mode()
def test_tokens_know_their_place() -> None:
    for form in ("rotary", "grid-rotary"):
        model, x = make(form), draw(2)
        order = torch.tensor([1, 0, 2, 3, 4, 5])
        assert not torch.allclose(model(x[:, :, order]), model(x)[:, :, order], atol=1e-3), form
    model = make("1xgpt")
    torch.testing.assert_close(model(x[:, :, order]), model(x)[:, :, order])


@torch.inference_mode()
def test_film_scales_and_shifts_the_feed_forward() -> None:
    model, x = make(), draw(4)
    nothing = torch.zeros(2, 4, 3, 2, 16)
    torch.testing.assert_close(model(x, nothing), model(x))
    late = nothing.clone()
    late[:, 2, 1, 1] = 0.5
    out = model(x, late)
    torch.testing.assert_close(out[:, :2], model(x)[:, :2])
    assert (out[:, 2:] - model(x)[:, 2:]).abs().amax((0, 2, 3)).min() > 1e-3
    # a scale of 1 doubles: as if the norm's gain and bias were twice as large
    last = nothing.clone()
    last[:, :, 2, 0] = 1
    out = model(x, last)
    for weight in model.blocks[2].norm_mlp.parameters():
        weight.mul_(2)
    torch.testing.assert_close(model(x), out, rtol=1e-4, atol=1e-5)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UserError, match=r"\(2, 3, 5, 16\); wanted"):
        make()(torch.randn(2, 3, 5, 16))
    with pytest.raises(UserError, match="multiple of heads"):
        STConfig(width=10, heads=4)
    with pytest.raises(UserError, match="even width"):
        STTransformer(replace(BASE, width=6, heads=2))


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_learns(form: str) -> None:
    model, x = make(form).train(), draw(5)
    model(x).square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still
