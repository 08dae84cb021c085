"""What decides a Genie world: every setting, and the sizes that have a name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from reelworld.config import require
from reelworld.types import UserError

__all__ = ["DEFAULT_SIZE", "SIZES", "Config"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a Genie world. Defaults are the paper's for CoinRun where it has them."""

    seed: int = 0
    """Decides every random draw."""
    size: int | None = None
    """Pixels per side that frames are resized to; none keeps the recording's size."""
    fit: Literal["none", "crop", "stretch", "pad"] = "none"
    """How frames of another shape become square: crop the centre, stretch, or pad with black."""
    actions: Literal["latent", "given", "none"] = "latent"
    """Find actions in the video, learn from the recording's actions, or make a world that runs by itself."""
    max_minutes: float | None = None
    """Wall-clock budget of the whole training; schedules anneal to it."""
    tokenizer_share: float = 0.3
    """Share of max_minutes that the tokenizer gets."""
    actions_share: float = 0.2
    """Share of max_minutes that the latent action model gets."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 autocast, fp32, or whichever a short timing finds faster on this machine."""
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
        counts = "tokenizer_steps tokenizer_batch latent_steps latent_batch steps batch decoding_steps context_frames"
        require(self, counts, lambda v: v >= 1, "at least 1")
        require(self, "clip_frames latent_frames", lambda v: v >= 2, "at least 2, to see something happen")
        require(self, "seed warmup_steps", lambda v: v >= 0, "at least 0")
        require(self, "rarity moved_share min_lr_share", lambda v: 0 <= v <= 1, "from 0 to 1")
        require(self, "tokenizer_share actions_share", lambda v: 0 < v < 1, "between 0 and 1")
        require(self, "max_minutes tokenizer_lr latent_lr lr", lambda v: v is None or 0 < v < math.inf, "above 0")
        require(self, "temperature", lambda v: 0 <= v <= 10, "from 0 to 10")
        require(self, "beta2", lambda v: 0 <= v < 1, "at least 0 and below 1")
        if self.tokenizer_share + self.actions_share >= 1:
            raise UserError("tokenizer_share and actions_share leave nothing of max_minutes for the dynamics.")


def tiny() -> Config:
    """For tests: seconds of training, no quality."""
    quick = Config(clip_frames=4, latent_frames=3, patch=8, n_codes=32, code_width=8, latent="grid", latent_patch=8)
    quick = replace(quick, encoder_width=16, encoder_layers=1, encoder_heads=2, decoder_width=16, decoder_layers=1)
    quick = replace(quick, decoder_heads=2, latent_width=16, latent_layers=1, latent_codes=4, width=32, layers=2)
    quick = replace(quick, heads=2, past="true", carries=True, decoding_steps=2, warmup_steps=2, context_frames=2)
    quick = replace(quick, tokenizer_steps=12, tokenizer_batch=2, latent_steps=12, latent_batch=4, steps=12, batch=2)
    return replace(quick, beta2=0.98, learned_codes=6, tokenizer_lr=1e-3, latent_lr=1e-3, lr=1e-3)


def small() -> Config:
    """Ours, for two CPU cores: 64x64 pixels, tokens of 8x8, latent actions by convolutions."""
    ours = Config(clip_frames=5, latent_frames=2, patch=8, n_codes=256, latent="grid", latent_patch=8, beta2=0.98)
    ours = replace(ours, encoder_width=64, encoder_layers=0, encoder_heads=4, decoder_width=96, decoder_layers=2)
    ours = replace(ours, decoder_heads=4, rarity=0.5, latent_width=64, latent_layers=2, width=96, layers=4, heads=4)
    ours = replace(ours, past="true", carries=True, decoding_steps=2, context_frames=2, warmup_steps=50)
    ours = replace(ours, min_lr_share=0.0)
    ours = replace(ours, tokenizer_steps=700, tokenizer_batch=8, tokenizer_lr=2e-3)
    ours = replace(ours, learned_codes=64, latent_steps=1200, latent_batch=64, latent_lr=2e-3)
    return replace(ours, steps=1400, batch=4, lr=2e-3, temperature=0.7)


def coinrun() -> Config:
    """The paper's case study on CoinRun, which fits a device of 16 GB."""
    return Config(
        size=64,  # paper
        latent_codes=6,  # paper
        latent_patch=16,  # reproductions (jafar, jasmine); the paper gives it for Platformers only
        precision="bf16",  # paper, for the dynamics
    )


def platformers() -> Config:
    """The paper's largest, 10.7B in all, at 160x90 padded to 160x92; several GPUs are not supported yet."""
    return replace(
        coinrun(),
        size=None,  # paper: 160x90, the height padded to a multiple of the patch
        encoder_layers=12,  # paper
        decoder_width=1024,  # paper
        decoder_layers=20,  # paper
        decoder_heads=16,  # paper
        tokenizer_batch=384,  # paper
        latent_codes=8,  # paper
        latent_width=1024,  # paper
        latent_layers=20,  # paper
        latent_heads=16,  # paper
        width=5120,  # paper
        layers=48,  # paper
        heads=40,  # paper: 36 with 128 wide heads, which is no divisor of 5120
        steps=125_000,  # paper
        batch=512,  # paper
        temperature=2.0,  # paper
    )


LADDER = {  # the paper's scaling study, appendix: layers, heads, width
    "41m": (18, 8, 512),
    "96m": (16, 16, 768),
    "192m": (20, 16, 1024),  # paper: 18 heads, which is no divisor of 1024
    "404m": (21, 12, 1536),
    "811m": (20, 16, 2048),  # paper: 20 heads, which is no divisor of 2048
    "1.6b": (28, 20, 2560),  # paper: 22 heads, which is no divisor of 2560
    "2.7b": (36, 20, 2560),  # paper: 22 heads
}


def ladder(name: str) -> Config:
    """Make a rung of the paper's scaling study: Platformers with smaller dynamics."""
    layers, heads, width = LADDER[name]
    return replace(platformers(), layers=layers, heads=heads, width=width, steps=200_000, batch=256)


SIZES = {
    "tiny": tiny,
    "small": small,
    "coinrun": coinrun,
    "platformers": platformers,
    **{f"platformers_{name}": partial(ladder, name) for name in LADDER},
}
DEFAULT_SIZE = "small"
