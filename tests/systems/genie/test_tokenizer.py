"""ST-ViViT: causality, frame-by-frame decoding equal to decoding all at once, training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reelworld.nn.pixels import patchify
from reelworld.systems.genie.tokenizer import STViViT, STViViTConfig
from reelworld.types import Batch, Codes, UserError

SMALL = STViViTConfig(
    height=16, width=24, patch=8, n_codes=16, code_width=8, window=3, encoder_width=16, encoder_layers=2,
    encoder_heads=2, decoder_width=24, decoder_layers=2, decoder_heads=2,
)  # fmt: skip


def made(config: STViViTConfig = SMALL) -> STViViT:
    torch.manual_seed(0)
    return STViViT(config).eval()


def clips(n: int = 2, frames: int = 7) -> torch.Tensor:
    return torch.rand(n, frames, 16, 24, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_codes_and_pixels_depend_on_no_later_frame() -> None:
    model, video = made(), clips()
    other = video.clone()
    other[:, 4:] = -other[:, 4:]
    features, changed = model.features(video), model.features(other)
    assert torch.equal(features[:, :4], changed[:, :4])
    assert (features[:, 4:] - changed[:, 4:]).abs().max() > 1e-3
    codes = model.encode(video).video
    others = codes.clone()
    others[:, 4:] = (others[:, 4:] + 1) % 16
    pixels, moved = model.decode(Codes.of(codes)), model.decode(Codes.of(others))
    assert torch.equal(pixels[:, :4], moved[:, :4])
    assert (pixels[:, 4:] - moved[:, 4:]).abs().max() > 1e-3


@torch.no_grad()
def test_without_encoder_blocks_each_patch_is_coded_by_itself() -> None:
    alone, seeing = made(replace(SMALL, encoder_layers=0)), made()
    video = clips()
    other = video.clone()
    other[:, 2, :8, :8] = -other[:, 2, :8, :8]
    for model, is_alone in ((alone, True), (seeing, False)):
        changed = (model.features(video) != model.features(other)).any(-1)
        assert changed[:, 2, 0].all()
        changed[:, 2, 0] = False
        assert changed.any() != is_alone


@torch.no_grad()
def test_a_frame_is_decoded_knowing_those_before_it() -> None:
    model = made()
    codes = torch.randint(0, 16, (1, 3, 6), generator=torch.Generator().manual_seed(2))
    others = codes.clone()
    others[:, 0] = (others[:, 0] + 1) % 16
    apart = (model.decode(Codes.of(codes)) - model.decode(Codes.of(others))).abs()
    assert apart[:, 2].max() > 1e-4
    assert model.spec(1, 16, 24).remembers


@pytest.mark.parametrize("given", [1, 2, 5])
@torch.no_grad()
def test_frame_by_frame_is_the_same_as_at_once(given: int) -> None:
    """Longer than the window, so that the ring turns."""
    model = made()
    codes = torch.randint(0, 16, (2, 9, 6), generator=torch.Generator().manual_seed(2))
    whole = model.decode(Codes.of(codes))
    memory = model.init_state(Codes.of(codes[:, :given]))
    for t in range(given, 9):
        frame = model.decode_step(Codes.of(codes[:, t : t + 1]), memory)
        torch.testing.assert_close(frame[:, 0], whole[:, t], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_memory_can_be_copied() -> None:
    model = made()
    codes = torch.randint(0, 16, (2, 4, 6), generator=torch.Generator().manual_seed(2))
    memory = model.init_state(Codes.of(codes[:, :3]))
    both = model.decode_step(Codes.of(codes[:, 3:]), memory.index_select(torch.tensor([0, 1])))
    second = model.decode_step(Codes.of(codes[1:, 3:]), memory.index_select(torch.tensor([1])))
    torch.testing.assert_close(both[1:], second, atol=1e-6, rtol=1e-5)


def test_patches_come_back_in_their_place() -> None:
    """What the last layer says of a token is painted where the token lies."""
    model = made()
    torch.nn.init.zeros_(model.pixels.weight)
    with torch.no_grad():
        model.pixels.bias.copy_(torch.linspace(-1, 1, 8 * 8 * 3))
        video = model.decode(Codes.of(torch.zeros(1, 1, 6, dtype=torch.int64)))
    expected = torch.linspace(-1, 1, 8 * 8 * 3).expand(6, -1)
    torch.testing.assert_close(patchify(video[0, 0], 8), expected)


@pytest.mark.slow
def test_it_learns_a_few_clips() -> None:
    torch.manual_seed(0)
    model = STViViT(SMALL).train()
    tiles = torch.rand(4, 8, 8, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    picks = torch.randint(0, 4, (4, 3, 2, 3), generator=torch.Generator().manual_seed(4))
    video = tiles[picks].permute(0, 1, 2, 4, 3, 5, 6).reshape(4, 3, 16, 24, 3)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        losses = model.loss(Batch(video=video), generator)
        loss = sum(losses.weights.get(k, 1.0) * s / n for k, (s, n) in losses.terms.items())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    model.eval()
    with torch.no_grad():
        error = (model.decode(model.encode(video)) - video).square().mean()
        mean = (video.mean() - video).square().mean()
    assert error < 0.1 * mean


def test_every_weight_gets_a_gradient() -> None:
    model = made().train()
    losses = model.loss(Batch(video=clips()))
    sum(s / n for s, n in losses.terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="multiples of the patch, 8"):
        replace(SMALL, height=20)
    with pytest.raises(UserError, match="made for 16x24"):
        made().encode(torch.zeros(1, 1, 32, 32, 3))
