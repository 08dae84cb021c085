"""What decides a VideoGPT world, setting by setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reelworld.config import require
from reelworld.models.system import SystemConfig


@dataclass(frozen=True, kw_only=True)
class Config(SystemConfig):
    """Everything that decides a VideoGPT world. Defaults are those of the published scripts where they have one."""

    frame_stride: int = 1
    """Keep every k-th frame."""
    tokenizer_share: float = 0.4
    """Share of max_minutes that the VQ-VAE gets."""

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
        super().__post_init__()
        counts = "frame_stride tokenizer_steps tokenizer_batch steps batch accumulate"
        require(self, counts, lambda v: v >= 1, "at least 1")
        require(self, "warmup_steps clip", lambda v: v >= 0, "at least 0")
        require(self, "alone_share", lambda v: 0 <= v <= 1, "from 0 to 1")
        require(self, "tokenizer_share", lambda v: 0 < v < 1, "between 0 and 1")
        require(self, "tokenizer_lr lr", lambda v: 0 < v < math.inf, "above 0")
        require(self, "temperature", lambda v: 0 <= v <= 10, "from 0 to 10")
        require(self, "beta2", lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "cond_frames", lambda v: 0 <= v < self.sequence_length, "from 0 to sequence_length - 1")

    @property
    def context_frames(self) -> int:
        """Frames that a continuation begins with: those the prior is shown, else one latent frame."""
        return self.cond_frames or self.downsample[0]
