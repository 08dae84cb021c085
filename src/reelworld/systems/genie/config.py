"""What decides a Genie world, setting by setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reelworld.config import require
from reelworld.models.system import SystemConfig
from reelworld.types import UserError


@dataclass(frozen=True, kw_only=True)
class Config(SystemConfig):
    """Everything that decides a Genie world. Defaults are the paper's for CoinRun where it has them."""

    actions: Literal["latent", "given", "none"] = "latent"
    """Find actions in the video, learn from the recording's actions, or make a world that runs by itself."""
    tokenizer_share: float = 0.3
    """Share of max_minutes that the tokenizer gets."""
    actions_share: float = 0.2
    """Share of max_minutes that the latent action model gets."""
    clip_frames: int = 16
    """Frames of a training clip, and of the window that is looked back over."""

    patch: int = 4
    """Pixels per token, along each side."""
    n_codes: int = 1024
    """Size of the tokenizer's codebook."""
    code_width: int = 32
    """Width of a code's vector."""
    encoder_width: int = 512
    """Width of the tokenizer's encoder."""
    encoder_layers: int = 8
    """Blocks of the tokenizer's encoder; 0 codes each patch by itself, so that what stands still keeps its codes."""
    encoder_heads: int = 8
    """Attention heads of the tokenizer's encoder."""
    decoder_width: int = 512
    """Width of the tokenizer's decoder."""
    decoder_layers: int = 8
    """Blocks of the tokenizer's decoder."""
    decoder_heads: int = 8
    """Attention heads of the tokenizer's decoder."""
    rarity: float = 0.0
    """Patches seen c times in a batch weigh c ** -rarity in the losses on pixels; 0 as published."""
    tokenizer_steps: int = 300_000
    """Optimizer steps of the tokenizer."""
    tokenizer_batch: int = 48
    """Clips per step."""
    tokenizer_lr: float = 3e-4
    """Learning rate of the tokenizer."""

    latent: Literal["st", "grid"] = "st"
    """Networks of the latent action model: spacetime transformers, or convolutions (small worlds, CPUs)."""
    latent_codes: int = 8
    """Latent actions."""
    learned_codes: int = 0
    """Codes while latent actions are learned; in the end those that do the same are merged to latent_codes. 0 learns
    latent_codes, as published."""
    latent_patch: int = 16
    """Pixels per patch of the latent action model."""
    latent_width: int = 512
    """Width of the latent action model."""
    latent_layers: int = 8
    """Blocks of its encoder, and of its decoder."""
    latent_heads: int = 8
    """Its attention heads (st)."""
    latent_frames: int = 16
    """Frames of a clip it learns from."""
    moved_share: float = 0.0
    """Share of clips that its decoder sees moved and turned, so that a code says what was done and not where; for
    games seen from above. 0 as published."""
    latent_steps: int = 200_000
    """Optimizer steps of the latent action model."""
    latent_batch: int = 36
    """Clips per step."""
    latent_lr: float = 3e-5
    """Highest learning rate of the latent action model."""

    width: int = 512
    """Width of the dynamics."""
    layers: int = 12
    """Blocks of the dynamics."""
    heads: int = 8
    """Attention heads of the dynamics."""
    conditioning: Literal["add", "prepend", "concat", "film"] = "add"
    """How a frame is told of the action that leads to it."""
    past: Literal["masked", "true"] = "masked"
    """What a frame is predicted from in training: masked frames before it, as published, or the true ones."""
    carries: bool = False
    """Whether a masked code is told the code before it at its place and starts as that: most of a picture stands
    still. Needs past true; off as published."""
    steps: int = 200_000
    """Optimizer steps of the dynamics."""
    batch: int = 36
    """Clips per step."""
    lr: float = 3e-5
    """Highest learning rate of the dynamics."""
    min_lr_share: float = 0.1
    """Last learning rate of dynamics and latent actions, as a share of the highest."""
    warmup_steps: int = 5000
    """Steps over which learning rates rise from 0."""
    beta2: float = 0.9
    """Decay of the mean of the squared gradient."""
    decoding_steps: int = 25
    """Passes per frame at play."""
    temperature: float = 1.0
    """How bold the world's draws are unless asked otherwise; 0 takes the likeliest code."""
    context_frames: int = 1
    """Frames a session begins with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = "tokenizer_steps tokenizer_batch latent_steps latent_batch steps batch decoding_steps context_frames"
        require(self, counts, lambda v: v >= 1, "at least 1")
        require(self, "clip_frames latent_frames", lambda v: v >= 2, "at least 2, to see something happen")
        require(self, "warmup_steps", lambda v: v >= 0, "at least 0")
        require(self, "rarity moved_share min_lr_share", lambda v: 0 <= v <= 1, "from 0 to 1")
        require(self, "tokenizer_share actions_share", lambda v: 0 < v < 1, "between 0 and 1")
        require(self, "tokenizer_lr latent_lr lr", lambda v: 0 < v < math.inf, "above 0")
        require(self, "temperature", lambda v: 0 <= v <= 10, "from 0 to 10")
        require(self, "beta2", lambda v: 0 <= v < 1, "at least 0 and below 1")
        if self.tokenizer_share + self.actions_share >= 1:
            raise UserError("tokenizer_share and actions_share leave nothing of max_minutes for the dynamics.")

    @property
    def uses_actions(self) -> bool:
        """True if the recorded actions are learned."""
        return self.actions == "given"
