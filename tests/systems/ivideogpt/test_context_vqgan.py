"""Context VQGAN: later frames depend on the context only; frame by frame equals all at once; training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN, ContextVQGANConfig
from reelworld.types import Batch, Codes, UserError

SMALL = ContextVQGANConfig(
    height=16, width=32, context_frames=2, channels=(32, 32, 64), layers=1, latent=8, code_width=8, context_codes=24,
    frame_codes=16, patch=2, groups=8, max_attention_resolution=8, dropout=0.1,
)  # fmt: skip


def made(config: ContextVQGANConfig = SMALL) -> ContextVQGAN:
    """A model whose every weight matters; fresh ones have no positions, and codes too close to choose between."""
    torch.manual_seed(0)
    model = ContextVQGAN(config).eval()
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "pos_emb" in name or name.endswith("codebook.vectors"):
            weight.data.copy_(torch.randn(weight.shape, generator=generator))
    return model


def clips(n: int = 2, frames: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, frames, 16, 32, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def test_both_grids_have_the_shape_that_is_told() -> None:
    model = made()
    spec = model.spec(6, 16, 32)
    codes = model.encode(clips())
    assert {name: (g.rows, g.columns) for name, g in spec.grids.items()} == {"context": (4, 8), "video": (2, 4)}
    assert codes.grids["context"].shape == codes.keep["context"].shape == (2, 6, 32)
    assert codes.grids["video"].shape == codes.keep["video"].shape == (2, 6, 8)
    assert codes.keep["context"].all(-1).tolist() == [[True] * 2 + [False] * 4] * 2
    assert torch.equal(codes.keep["video"].all(-1), ~codes.keep["context"].any(-1))
    for name, grid in spec.grids.items():
        chosen = codes.grids[name][codes.keep[name]]
        assert chosen.min() >= 0 and chosen.max() < grid.codebook_size and len(chosen.unique()) > 4
    assert model.decode(codes).shape == (2, 6, 16, 32, 3)


@torch.no_grad()
def test_a_later_frame_knows_the_context_and_itself() -> None:
    model, video = made(), clips()
    later = model.encode(video).video[:, 2:]
    other = video.clone()
    other[:, 4] = -other[:, 4]
    changed = (model.encode(other).video[:, 2:] != later).any(-1).any(0)
    assert changed.tolist() == [False, False, True, False]
    other = video.clone()
    other[:, 1] = -other[:, 1]
    assert (model.encode(other).video[:, 2:] != later).any(-1).any(0).all()
    assert torch.equal(model.encode(other).grids["context"][:, 0], model.encode(video).grids["context"][:, 0])


@torch.no_grad()
def test_a_frame_that_is_unconditional_encoder_has_the_same_codes_behind_any_context() -> None:
    model, video = made(replace(SMALL, unconditional_encoder=True)), clips()
    other = video.clone()
    other[:, :2] = -other[:, :2]
    codes, behind_other = model.encode(video), model.encode(other)
    assert torch.equal(behind_other.video[:, 2:], codes.video[:, 2:])
    mixed = Codes({"context": behind_other.grids["context"], "video": codes.video}, codes.keep)
    assert not torch.equal(model.decode(mixed)[:, 2:], model.decode(codes)[:, 2:])  # its decoder looks


@torch.no_grad()
def test_one_frame_at_a_time_is_as_all_at_once() -> None:
    """Both ways, with the features of the context made once."""
    model, video = made(), clips()
    codes, pixels = model.encode(video), model.decode(model.encode(video))
    of_context, watched = model.watch(video[:, :2])
    assert torch.equal(of_context, codes.grids["context"][:, :2])
    memory = model.init_state(codes[:3])
    for t in range(2, 6):
        assert torch.equal(model.encode_frames(video[:, t : t + 1], watched), codes.video[:, t : t + 1])
        frame = model.decode_step(codes[t : t + 1], memory)
        torch.testing.assert_close(frame[:, 0], pixels[:, t], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_decoded_frames_know_the_context() -> None:
    model, codes = made(), made().encode(clips())
    others = Codes({**codes.grids, "context": codes.grids["context"].flip(2)}, codes.keep)
    apart = (model.decode(codes) - model.decode(others)).abs()
    assert apart[:, 2:].amax((0, 2, 3, 4)).min() > 1e-3


@torch.no_grad()
def test_memories_can_be_copied_and_replaced() -> None:
    model = made()
    codes = model.encode(clips(3))
    memory = model.init_state(codes)
    whole = model.decode_step(codes[4:5], memory)
    turned = memory.index_select(torch.tensor([2, 0]))
    swapped = Codes({"video": codes.video[[2, 0], 4:5]})
    torch.testing.assert_close(model.decode_step(swapped, turned), whole[[2, 0]])
    turned.index_copy_(torch.tensor([1]), memory.index_select(torch.tensor([1])))
    torch.testing.assert_close(model.decode_step(Codes({"video": codes.video[[2, 1], 4:5]}), turned), whole[[2, 1]])
    torch.testing.assert_close(model.decode_step(codes[4:5], memory), whole)


@torch.no_grad()
def test_many_frames_come_in_pieces_and_none_is_fine() -> None:
    model = made()
    video = clips(1, 2 + 40)
    codes = model.encode(video)
    assert torch.equal(codes.video[:, 30:], model.encode(torch.cat([video[:, :2], video[:, 30:]], 1)).video[:, 2:])
    assert model.decode(codes).shape[1] == 42
    alone = model.encode(video[:, :2])
    assert alone.video.shape == (1, 2, 8) and model.decode(alone).shape[1] == 2


def test_what_does_not_fit_is_said() -> None:
    model = made()
    with pytest.raises(UserError, match=r"has 1 frames; .* reads 2 as the context"):
        model.encode(clips(1, 1))
    with pytest.raises(UserError, match="made for 16x32"):
        model.spec(1, 32, 32)
    with pytest.raises(UserError, match="multiples of 8"):
        replace(SMALL, height=20)
    with pytest.raises(UserError, match="multiple of groups"):
        replace(SMALL, channels=(32, 48))


@pytest.mark.slow
@pytest.mark.parametrize("codebook_decay", [0.0, 0.9])
def test_it_learns_a_few_clips(codebook_decay: float) -> None:
    """A block that is there from the beginning, and moves when the context is over."""
    torch.manual_seed(0)
    config = replace(SMALL, height=16, width=16, channels=(32, 32), patch=4, dead_code_threshold=0.1, dropout=0.0)
    config = replace(config, codebook_decay=codebook_decay)
    model = ContextVQGAN(config).train()
    video = torch.full((3, 4, 16, 16, 3), -0.5)
    for clip in range(3):
        for t in range(4):
            video[clip, t, 4 * clip : 4 * clip + 8, 4 * t : 4 * t + 4] = 0.8
    optimizer, generator = torch.optim.Adam(model.parameters(), 1e-3), torch.Generator().manual_seed(0)
    for _ in range(40):
        losses = model.loss(Batch(video=video), generator)
        loss = sum(s / n for s, n in losses.terms.values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    model.eval()
    with torch.no_grad():
        error = (model.decode(model.encode(video)) - video)[:, 2:].square().mean()
        still = (video[:, 1:2] - video)[:, 2:].square().mean()
    assert error < still / 8, (float(error), float(still))


def test_codebooks_that_move_need_no_gradient_and_are_part_of_the_weights() -> None:
    model = made(replace(SMALL, codebook_decay=0.9, dead_code_threshold=0.1, commitment_weight=0.25)).train()
    losses = model.loss(Batch(video=clips()), torch.Generator().manual_seed(0))
    assert losses.weights == {"context_commitment": 0.25, "video_commitment": 0.25}
    before = model.frame_codebook.vectors.clone()
    model.loss(Batch(video=clips(seed=2)), torch.Generator().manual_seed(0))
    assert not torch.equal(model.frame_codebook.vectors, before)
    assert not any("codebook" in name for name, _ in model.named_parameters())
    again = made(model.config)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.encode(clips()).video, model.eval().encode(clips()).video)
