"""3D VQ-VAE: shapes for all strides, dependencies, refusals. Numbers: tests/parity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reelworld.systems.videogpt.vqvae import VQVAE3D, VQVAE3DConfig
from reelworld.types import Batch, Codes, UserError

SMALL = VQVAE3DConfig(
    clip_frames=4, height=16, width=16, downsample=(2, 4, 4), n_codes=16, embedding_dim=4, n_hiddens=8, n_res_layers=1
)


def made(config: VQVAE3DConfig = SMALL) -> VQVAE3D:
    torch.manual_seed(0)
    return VQVAE3D(config).eval()


@pytest.mark.parametrize("downsample", [(2, 2, 2), (1, 2, 2), (2, 1, 1), (4, 2, 2), (1, 4, 8), (2, 4, 4)])
def test_all_strides_keep_their_promise(downsample: tuple[int, int, int]) -> None:
    """(2, 2, 2) and (1, 2, 2) crash in the published code."""
    model = made(replace(SMALL, downsample=downsample, height=16, width=24))
    video = torch.rand(2, 4, 16, 24, 3) * 2 - 1
    frames, rows, columns = downsample
    spec = model.spec(4, 16, 24)
    assert (spec.video.rows, spec.video.columns, spec.time_stride) == (16 // rows, 24 // columns, frames)
    assert (spec.clip_frames, spec.is_causal) == (4, False)
    with torch.no_grad():
        codes = model.encode(video)
        assert codes.video.shape == (2, 4 // frames, spec.video.n_tokens)
        again = model.decode(codes)
    assert again.shape == video.shape
    assert again.abs().max() <= 1
    losses = model.train().loss(Batch(video=video))
    sum(s / n for s, n in losses.terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_codes_are_in_raster_order() -> None:
    model = made()
    book = model.codebook
    book.vectors.copy_(torch.eye(16, 4))
    codes = torch.randint(0, 16, (1, 2, 16))
    seen = []
    model.after.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        model.decode(Codes.of(codes))
    for t in range(2):
        for r in range(4):
            for c in range(4):
                assert torch.equal(seen[0][0, :, t, r, c], book.vectors[codes[0, t, 4 * r + c]])


def test_early_codes_depend_on_late_frames() -> None:
    """Why sessions code the context alone: this tokenizer is not causal."""
    model = made()
    video = torch.rand(1, 4, 16, 16, 3) * 2 - 1
    other = video.clone()
    other[:, 3] = -other[:, 3]
    with torch.no_grad():
        difference = (model.features(video) - model.features(other))[:, 0].abs().max()
    assert difference > 1e-4


def test_loss_is_in_published_units() -> None:
    model = made()
    video = torch.rand(2, 4, 16, 16, 3) * 2 - 1
    with torch.no_grad():
        loss = model.loss(Batch(video=video)).mean()
        features = model.features(video)
        codes = model.codebook.nearest(features)
        vectors = model.codebook.lookup(codes)
        error = ((model._pixels(vectors) - video / 2) ** 2).mean() / 0.06
        commitment = 0.25 * ((features - vectors) ** 2).mean()
    assert loss["reconstruction"] == pytest.approx(float(error), rel=1e-5)
    assert loss["commitment"] == pytest.approx(float(commitment), rel=1e-5)


def test_it_learns() -> None:
    model = made().train()
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(4, 2, 4, 4, 1, generator=generator).round() * 1.8 - 0.9  # a cell is black or white
    video = blocks.repeat_interleave(2, 1).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, -1, -1, -1, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    errors = []
    for _ in range(40):
        losses = model.loss(Batch(video=video), generator)
        optimizer.zero_grad()
        (losses.terms["reconstruction"][0] / video.numel() + losses.terms["commitment"][0] / 1e3).backward()
        optimizer.step()
        errors.append(losses.mean()["reconstruction"])
    assert errors[-1] < 0.5 * errors[0]
    assert len(model.eval().encode(video).video.unique()) > 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"downsample": (1, 1, 1)}, "powers of two"),
        ({"downsample": (3, 4, 4)}, "powers of two"),
        ({"clip_frames": 5}, r"5 frames are no multiple of the stride 2 \(nearest: 4 or 6\)"),
        ({"clip_frames": 1}, r"1 frames are no multiple of the stride 2 \(nearest: 2\)"),
        ({"height": 18, "width": 31}, r"18 rows .* \(nearest: 16 or 20\); 31 columns .* \(nearest: 28 or 32\)"),
        ({"n_hiddens": 7}, "must be even"),
        ({"n_codes": 0}, "n_codes is 0"),
    ],
)
def test_what_cannot_be_built_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_clips_that_the_strides_do_not_divide_are_refused() -> None:
    with pytest.raises(UserError, match="3 frames are no multiple"):
        made().encode(torch.zeros(1, 3, 16, 16, 3))
    with pytest.raises(UserError, match="made for 16x16"):
        made().spec(4, 16, 32)
