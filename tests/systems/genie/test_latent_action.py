"""Latent action models: causality, and recovery of the actions of a small game."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from reelworld.nn.pixels import patchify
from reelworld.systems.genie.conv_latent_action import GridLatentActions, GridLatentConfig
from reelworld.systems.genie.latent_action import LatentActionModel
from reelworld.systems.genie.spacetime_latent_action import STLatentActions, STLatentConfig
from reelworld.types import Batch, UserError

SAME: dict[str, Any] = {
    "height": 16, "width": 16, "patch": 4, "n_codes": 4, "code_width": 8, "encoder_layers": 2, "decoder_layers": 2,
}  # fmt: skip
ST = STLatentConfig(model_width=16, window=4, heads=2, **SAME)
GRID = GridLatentConfig(model_width=32, **SAME)
KINDS = {"st": (STLatentActions, ST), "grid": (GridLatentActions, GRID)}
COLOURS = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1]])


def made(kind: str = "grid", **fields: Any) -> LatentActionModel:
    torch.manual_seed(0)
    cls, config = KINDS[kind]
    model: LatentActionModel = cls(replace(config, **fields))
    return model.eval()


def clips(n: int = 2, frames: int = 5) -> torch.Tensor:
    return torch.rand(n, frames, 16, 16, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


def game(n: int, frames: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A square in one of 16 cells, which differ from clip to clip; an action gives it a colour: video and actions."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randint(0, 3, (n, frames - 1), generator=generator)
    place = torch.randint(0, 4, (n, 2), generator=generator) * 4
    first = torch.randint(0, 3, (n, 1), generator=generator)
    colours = COLOURS[torch.cat([first, actions], 1)]
    video = -torch.ones(n, frames, 16, 16, 3)
    for i, (y, x) in enumerate(place.tolist()):
        video[i, :, y : y + 4, x : x + 4] = colours[i, :, None, None]
    return video, actions


def purity(codes: torch.Tensor, actions: torch.Tensor) -> float:
    counts = torch.zeros(int(codes.max()) + 1, 3).index_put_((codes, actions), torch.ones(len(codes)), accumulate=True)
    return float(counts.max(1).values.sum() / counts.sum())


def train(model: LatentActionModel, steps: int, lr: float = 3e-3) -> None:
    optimizer = torch.optim.Adam(model.train().parameters(), lr, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        video, _ = game(16, 2, step + 100)
        losses = model.loss(Batch(video=video), generator)
        loss = sum(losses.weights.get(k, 1.0) * s / n for k, (s, n) in losses.terms.items())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def features(model: LatentActionModel, video: torch.Tensor) -> torch.Tensor:
    return model.features(patchify(video, 4))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_action_depends_on_the_frame_it_leads_to_and_on_none_after(kind: str) -> None:
    model, video = made(kind), clips()
    other = video.clone()
    other[:, 3:] = -other[:, 3:]
    before, changed = features(model, video), features(model, other)
    assert torch.equal(before[:, :2], changed[:, :2])  # lead to frames 1 and 2
    assert (before[:, 2] - changed[:, 2]).abs().max() > 1e-4  # leads to frame 3


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_decoder_sees_the_past_and_the_code_only(kind: str) -> None:
    model, video = made(kind), clips()
    torch.nn.init.normal_(model.change.weight, std=0.1)
    codes = torch.zeros(2, 5, dtype=torch.int64)
    before = model.predict(video, codes)
    later = video.clone()
    later[:, 3:] = 0
    assert torch.equal(model.predict(later, codes)[:, :3], before[:, :3])
    told = codes.clone()
    told[:, 2] = 1
    moved = model.predict(video, told)
    assert torch.equal(moved[:, :2], before[:, :2])
    assert (moved[:, 2] - before[:, 2]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_starts_as_a_copy_of_the_last_frame(kind: str) -> None:
    model, video = made(kind), clips()
    torch.testing.assert_close(model.predict(video, torch.zeros(2, 5, dtype=torch.int64)), video)
    terms = model.loss(Batch(video=video)).mean()
    assert terms["square"] == pytest.approx(terms["copy"], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "fields"), [("grid", {}), *(("st", {"conditioning": c}) for c in ("add", "prepend", "concat", "film"))]
)
def test_every_weight_gets_a_gradient(kind: str, fields: dict[str, Any]) -> None:
    model = made(kind, **fields).train()
    for name, weight in model.named_parameters():
        if not weight.abs().max() > 0 and "bias" not in name:  # what is 0 at the start hides the rest
            torch.nn.init.normal_(weight, std=0.1)
    losses = model.loss(Batch(video=clips()), torch.Generator().manual_seed(0))
    sum(s / n for k, (s, n) in losses.terms.items() if k != "perplexity").backward()  # type: ignore[union-attr]
    missing = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # a constant before InputNorm is taken away again
    assert [k for k in missing if k not in ("before.bias", "encoder.norm.bias")] == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "steps"), [("grid", 400), ("st", 300)])
def test_it_finds_the_actions_of_a_game(kind: str, steps: int) -> None:
    model = made(kind, augment_prob=0.5, n_codes=6)
    train(model, steps)
    video, actions = game(128, 2, 7)
    with torch.no_grad():
        codes = model.encode(video)
        error = (model.predict(video[:, :-1], codes[:, :-1]) - video[:, 1:]).square().mean()
        others = codes[torch.randperm(128, generator=torch.Generator().manual_seed(0))]
        wrong = (model.predict(video[:, :-1], others[:, :-1]) - video[:, 1:]).square().mean()
    copied = (video[:, :-1] - video[:, 1:]).square().mean()
    changes = (video[:, 0] != video[:, 1]).flatten(1).any(1)
    assert purity(codes[changes, 0], actions[changes, 0]) > 0.98  # 0.33 to 0.45 for codes that say nothing
    assert error < 0.05 * copied
    assert wrong > 3 * error


def test_clips_are_moved_as_a_whole_and_some_stay() -> None:
    model = made(augment_prob=0.5)
    video = clips(64, 2)
    moved = model._moved(video, torch.Generator().manual_seed(0))
    kept = 0
    for before, after in zip(video, moved, strict=True):
        matches = [
            (k, y, x)
            for k in range(4)
            for y in range(4)
            for x in range(4)
            if torch.equal(before.roll((4 * y, 4 * x), (1, 2)).rot90(k, (1, 2)), after)
        ]
        assert len(matches) == 1
        kept += matches == [(0, 0, 0)]
    assert 20 <= kept <= 46


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="only square frames"):
        made(width=24, augment_prob=0.5)
    with pytest.raises(UserError, match="an action is what happens between two"):
        made().encode(clips(1, 1))
    with pytest.raises(UserError, match="made for 16x16"):
        made().encode(torch.zeros(1, 2, 32, 32, 3))
