"""What decides a VideoGPT world: every setting, and the sizes that have a name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from reelworld.config import require

__all__ = ["DEFAULT_SIZE", "SIZES", "Config"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a VideoGPT world. Defaults are those of the published scripts where they have one."""

    seed: int = 0
    """Decides every random draw."""
    size: int | None = None
    """Pixels per side that frames are resized to; none keeps the recording's size."""
    fit: Literal["none", "crop", "stretch", "pad"] = "none"
    """How frames of another shape become square: crop the centre, stretch, or pad with black."""
    frame_stride: int = 1
    """Keep every k-th frame."""
    max_minutes: float | None = None
    """Wall-clock budget of the whole training; schedules anneal to it."""
    tokenizer_share: float = 0.4
    """Share of max_minutes that the VQ-VAE gets."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 autocast, fp32, or whichever a short timing finds faster on this machine."""

    sequence_length: int = 16
    """Frames of a clip; longer videos slide over it."""
    downsample: tuple[int, int, int] = (4, 4, 4)
    """Frames, rows and columns per code: powers of two."""
    n_codes: int = 2048
    """Size of the codebook."""
    embedding_dim: int = 256
    """Width of a code's vector."""
    n_hiddens: int = 240
    """Width of the VQ-VAE."""
    n_res_layers: int = 4
    """Attention-residual blocks of the encoder, and of the decoder."""
    tokenizer_steps: int = 200_000
    """Optimizer steps of the VQ-VAE."""
    tokenizer_batch: int = 32
    """Clips per step."""
    tokenizer_lr: float = 3e-4
    """Learning rate of the VQ-VAE."""
    tokenizer_schedule: Literal["constant", "cosine", "wsd"] = "constant"
    """Course of that learning rate."""

    hidden_dim: int = 576
    """Width of the prior."""
    heads: int = 4
    """Attention heads."""
    layers: int = 8
    """Transformer blocks."""
    attention: Literal["full", "sparse"] = "full"
    """Every token sees all before it, or nearby blocks of 32 and those at its place in earlier frames."""
    dropout: float = 0.2
    """Share of each block's output that training drops."""
    attn_dropout: float = 0.3
    """Share of attention weights that training drops (full attention)."""
    cond_frames: int = 0
    """First frames of a clip that the prior is shown as pixels."""
    class_cond: bool = False
    """Tell the prior the class of a clip (the folder it lies in)."""
    alone_share: float = 0.0
    """Share of training batches whose first latent frames are coded from their own frames alone, as those of a clip
    that is continued are; 0 as published."""
    resnet_width: int = 64
    """Channels of the first group of the network that reads conditioning frames."""
    resnet_dim: int = 240
    """Width of the features that it makes."""
    steps: int = 200_000
    """Optimizer steps of the prior."""
    batch: int = 8
    """Clips per step."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    lr: float = 3e-4
    """Highest learning rate of the prior; it falls to 0 along a cosine."""
    warmup_steps: int = 0
    """Steps over which the learning rates rise from 0."""
    temperature: float = 1.0
    """How bold the world's draws are unless asked otherwise; 0 takes the likeliest code."""
    beta2: float = 0.999
    """Decay of the mean of the squared gradient, in both optimizers."""
    clip: float = 1.0
    """Largest norm of the prior's gradient; 0 turns clipping off."""

    def __post_init__(self) -> None:
        counts = "frame_stride tokenizer_steps tokenizer_batch steps batch accumulate"
        require(self, counts, lambda v: v >= 1, "at least 1")
        require(self, "seed warmup_steps clip", lambda v: v >= 0, "at least 0")
        require(self, "alone_share", lambda v: 0 <= v <= 1, "from 0 to 1")
        require(self, "tokenizer_share", lambda v: 0 < v < 1, "between 0 and 1")
        require(self, "max_minutes tokenizer_lr lr", lambda v: v is None or 0 < v < math.inf, "above 0")
        require(self, "temperature", lambda v: 0 <= v <= 10, "from 0 to 10")
        require(self, "beta2", lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "cond_frames", lambda v: 0 <= v < self.sequence_length, "from 0 to sequence_length - 1")

    @property
    def context_frames(self) -> int:
        """Frames that a continuation begins with: those the prior is shown, else one latent frame."""
        return self.cond_frames or self.downsample[0]


def tiny() -> Config:
    """For tests: seconds of training, no quality."""
    quick = Config(tokenizer_steps=12, tokenizer_batch=2, steps=12, batch=2, sequence_length=8, downsample=(2, 8, 8))
    quick = replace(quick, n_codes=32, embedding_dim=8, n_hiddens=8, n_res_layers=1, tokenizer_lr=1e-3, lr=1e-3)
    return replace(quick, hidden_dim=24, heads=2, layers=2, cond_frames=1, resnet_width=4, resnet_dim=8)


def small() -> Config:
    """Ours, for two CPU cores: a tile game or a first smooth world in about seven minutes."""
    tokenizer = Config(
        sequence_length=8,
        downsample=(2, 8, 8),
        n_codes=32,
        embedding_dim=64,
        n_hiddens=32,
        n_res_layers=0,
        tokenizer_share=0.25,
        tokenizer_steps=2000,
        tokenizer_batch=4,
        tokenizer_lr=5e-3,
        tokenizer_schedule="cosine",
        warmup_steps=50,
        beta2=0.98,
    )
    return replace(
        tokenizer,
        hidden_dim=128,
        heads=4,
        layers=4,
        dropout=0.0,
        attn_dropout=0.0,
        alone_share=0.5,
        steps=12_000,
        batch=2,
        lr=2e-3,
        temperature=0.5,
    )


def bair() -> Config:
    """Checkpoints bair_stride4x2x2 and bair_gpt: robot pushing, 16 frames of 64x64, one conditioning frame."""
    return Config(
        size=64,  # script default
        sequence_length=16,  # script default
        downsample=(4, 2, 2),  # the checkpoint's name
        n_codes=2048,  # script default (paper: 1024)
        embedding_dim=256,  # script default
        n_hiddens=240,  # script default
        n_res_layers=4,  # script default
        tokenizer_steps=200_000,  # script default (paper: 100,000)
        tokenizer_batch=32,  # script default
        tokenizer_lr=3e-4,  # script default
        hidden_dim=576,  # script default (paper: 512)
        heads=4,  # script default
        layers=8,  # script default
        attention="sparse",  # README of the checkpoints
        dropout=0.2,  # script default
        attn_dropout=0.3,  # script default (sparse attention ignores it)
        cond_frames=1,  # README of the checkpoints
        steps=200_000,  # paper; the script has no default
        batch=8,  # script default, per GPU
        accumulate=4,  # README: four GPUs
        lr=3e-4,  # script default
        clip=1.0,  # README
        precision="bf16",  # README says 16 bits (fp16 with loss scaling)
    )


def ucf101() -> Config:
    """Checkpoints ucf101_stride4x4x4 and ucf101_uncond_gpt: 16 frames of 128x128, no condition."""
    return replace(
        bair(),
        size=128,  # README of the checkpoints
        fit="crop",  # the published loader resizes the shorter side and crops
        downsample=(4, 4, 4),  # the checkpoint's name
        cond_frames=0,  # README of the checkpoints
        layers=8,  # unknown (paper: gpt_large has 20)
        hidden_dim=576,  # unknown (paper: 1024)
        heads=4,  # unknown (paper: 8)
    )


def kinetics() -> Config:
    """Checkpoint kinetics_stride4x4x4, a VQ-VAE on 16 frames of 128x128; no prior was published for it."""
    return replace(
        ucf101(),
        attention="full",  # script default
    )


def kinetics_stride2x4x4() -> Config:
    """Checkpoint kinetics_stride2x4x4, a VQ-VAE with half the time stride; no prior was published for it."""
    return replace(
        kinetics(),
        downsample=(2, 4, 4),  # the checkpoint's name
    )


def bair_paper() -> Config:
    """BAIR as the paper has it: twice the latent frames, smaller codebook, 512 wide. No checkpoint was published."""
    return replace(
        bair(),
        downsample=(2, 2, 2),  # paper (the published code cannot build it)
        n_codes=1024,  # paper
        tokenizer_steps=100_000,  # paper
        hidden_dim=512,  # paper
        resnet_dim=576,  # paper
        batch=32,  # paper
        accumulate=1,  # paper: one number for all GPUs
    )


SIZES = {
    "tiny": tiny,
    "small": small,
    "bair": bair,
    "bair_paper": bair_paper,
    "ucf101": ucf101,
    "kinetics": kinetics,
    "kinetics_stride2x4x4": kinetics_stride2x4x4,
}
DEFAULT_SIZE = "small"
