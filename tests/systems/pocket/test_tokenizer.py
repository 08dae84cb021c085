"""The patch tokenizer: locality of codes, shapes, weights for rare patches, learning tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reelworld.nn.pixels import patchify, rarity_weights, to_float, to_uint8, unpatchify
from reelworld.systems.pocket.tokenizer import PatchTokenizer, PatchTokenizerConfig
from reelworld.types import Batch, Codes, UserError


def make(**fields: int) -> PatchTokenizer:
    torch.manual_seed(0)
    return PatchTokenizer(PatchTokenizerConfig(width=32, **fields)).eval()


def test_pixels_round_trip() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    video = torch.randn(2, 3, 24, 16, 3)
    patches = patchify(video, 8)
    assert patches.shape == (2, 3, 6, 192)
    assert torch.equal(patches[0, 0, 3], video[0, 0, 8:16, 8:16].flatten())  # row 1, column 1 of a 3x2 grid
    assert torch.equal(unpatchify(patches, 8, 3, 2), video)


def test_codes_see_their_own_patch_only() -> None:
    tokenizer = make(rows=4, columns=3)
    video = torch.rand(1, 2, 32, 24, 3) * 2 - 1
    codes = tokenizer.encode(video).video
    changed = video.clone()
    changed[0, 0, 8:16, 8:16] *= -1
    moved = tokenizer.encode(changed).video != codes
    assert codes.shape == (1, 2, 12)
    assert moved.sum() <= 1 and not moved[0, 1].any()
    assert moved[0, 0, 4]


def test_decoder_is_causal_and_clamped() -> None:
    tokenizer = make(rows=4, columns=4)
    codes = torch.randint(0, 1000, (2, 3, 16))
    video = tokenizer.decode(Codes.of(codes))
    assert video.shape == (2, 3, 32, 32, 3) and video.abs().max() <= 1
    other = codes.clone()
    other[:, 2] = (other[:, 2] + 1) % 1000
    torch.testing.assert_close(tokenizer.decode(Codes.of(other))[:, :2], video[:, :2])


def test_rarity_weights_count_equal_patches() -> None:
    grey, red = torch.zeros(192), torch.full((192,), 0.5)
    patches = torch.stack([grey] * 9 + [red] * 4)
    plain = rarity_weights(patches, 0.0)
    assert torch.equal(plain, torch.ones(13))
    half = rarity_weights(patches, 0.5)
    torch.testing.assert_close(half[-1] / half[0], torch.tensor(9**0.5 / 4**0.5))
    whole = rarity_weights(patches, 1.0)
    torch.testing.assert_close(whole[:9].sum(), whole[9:].sum())


def test_sizes_are_checked() -> None:
    tokenizer = make()
    with pytest.raises(UserError, match=r"60x64.*56x64 or 64x64"):
        tokenizer.spec(1, 60, 64)
    with pytest.raises(UserError, match="reads 64x64"):
        tokenizer.encode(torch.zeros(1, 1, 32, 64, 3))


def test_learns_to_tell_tiles_apart() -> None:
    rng = np.random.default_rng(0)
    tiles = torch.from_numpy(rng.integers(0, 256, (6, 8 * 8 * 3)).astype(np.uint8))
    tokenizer = make(rows=3, columns=3).train()
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=4e-3)
    for _ in range(150):
        picks = torch.from_numpy(rng.integers(6, size=(8, 1, 9)))
        losses = tokenizer.loss(Batch(video=to_float(unpatchify(tiles[picks], 8, 3, 3))))
        objective = sum(losses.weights[k] * total / count for k, (total, count) in losses.terms.items())
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
    tokenizer.eval()
    picks = torch.from_numpy(rng.integers(6, size=(20, 1, 9)))
    video = to_float(unpatchify(tiles[picks], 8, 3, 3))
    decoded = patchify(to_uint8(tokenizer.decode(tokenizer.encode(video))), 8).flatten(0, 2).float()
    assert torch.equal(torch.cdist(decoded, tiles.float()).argmin(1), picks.flatten())
