"""Config of a pocket world, and its presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from reelworld.config import require
from reelworld.models.system import SystemConfig
from reelworld.train.config import OptimConfig, StageConfig

LARGEST_CODEBOOK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Patch tokenizer: one FSQ code per patch of 8x8 pixels."""

    width: int = 128
    """Width of encoder and decoder."""
    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Levels per digit of a code; their product is the codebook size."""

    def __post_init__(self) -> None:
        require(self, "width", lambda v: v >= 1, "at least 1")
        require(self, "levels", lambda v: v and min(v) >= 2, "one or more numbers of at least 2")
        small_enough = f"numbers with a product of at most {LARGEST_CODEBOOK:,} codes"
        require(self, "levels", lambda v: math.prod(v) <= LARGEST_CODEBOOK, small_enough)


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """Action-conditioned dynamics on the grid of codes: a cached trunk over past frames and a small decoding head."""

    width: int = 64
    """Width of trunk and head."""
    trunk_layers: int = 4
    """Mixer blocks that read the past; temporal attention follows each of the first ``temporal_layers``."""
    temporal_layers: int = 2
    """Layers with temporal attention."""
    head_layers: int = 2
    """Mixer blocks that run once per decoding pass."""
    window: int = 8
    """Window of temporal attention in frames, the current one included."""
    full_mask_prob: float = 0.5
    """Probability that all codes of a training frame are masked; the other frames follow the cosine schedule."""
    context_noise: float = 0.0
    """Greatest fraction of a context frame's codes that training replaces, drawn per clip."""

    def __post_init__(self) -> None:
        require(self, "width", lambda v: v > 0 and v % 4 == 0, "a multiple of 4 (attention heads)")
        require(self, "trunk_layers window", lambda v: v >= 1, "at least 1")
        require(self, "head_layers", lambda v: v >= 0, "at least 0")
        require(self, "temporal_layers", lambda v: 0 <= v <= self.trunk_layers, "from 0 to trunk_layers")
        require(self, "full_mask_prob context_noise", lambda v: 0 <= v <= 1, "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class TokenizerStage(TokenizerConfig, StageConfig):
    """The patch tokenizer and its training."""

    table: Literal["auto", "always", "never"] = "auto"
    """Codes as numbers of a table of the recordings' patches: auto takes them where the learned code loses parts of
    what moves and the table keeps them, on validation episodes."""
    mosaic_prob: float = 0.5
    """Fraction of a batch that is put together from distinct patches, if the game is drawn from tiles."""

    def __post_init__(self) -> None:
        TokenizerConfig.__post_init__(self)
        StageConfig.__post_init__(self)
        require(self, "mosaic_prob", lambda v: 0 <= v <= 1, "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class DynamicsStage(DynamicsConfig, StageConfig):
    """The dynamics and their training."""

    rare_event_fraction: float = 0.3
    """Fraction of clips drawn for their rare events."""

    def __post_init__(self) -> None:
        DynamicsConfig.__post_init__(self)
        StageConfig.__post_init__(self)
        require(self, "rare_event_fraction", lambda v: 0 <= v <= 1, "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Config(SystemConfig):
    """Everything that decides a pocket world."""

    actions: Literal["given", "none"] = "given"
    """Learn from the recording's actions, or make a world that runs by itself."""
    frame_stride: int = 1
    """Keep every k-th frame; the k actions between two kept frames stay together."""
    merge: Literal["stack", "last", "sum"] = "stack"
    """Reduction of those k actions: all of them, the last one, or their sum."""
    clip_frames: int = 9
    """Frames of a training clip of the dynamics; all but the first are predicted."""
    context_frames: int = 4
    """Frames that a session starts from."""
    tokenizer: TokenizerStage = TokenizerStage(batch=16, optim=OptimConfig(lr=4e-3), time_fraction=0.2)
    """The patch tokenizer and its training."""
    dynamics: DynamicsStage = DynamicsStage(steps=3000, optim=OptimConfig(lr=2e-3))
    """The dynamics and their training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "frame_stride context_frames", lambda v: v >= 1, "at least 1")
        require(self, "clip_frames", lambda v: v >= 2, "at least 2, to predict one frame")

    @property
    def uses_actions(self) -> bool:
        """True if the recorded actions are learned."""
        return self.actions == "given"

    @property
    def action_merge(self) -> Literal["stack", "last", "sum"]:
        """Treatment of the recorded actions between two kept frames."""
        return self.merge


SMALL = Config()

TINY = replace(
    SMALL,
    clip_frames=4,
    context_frames=2,
    tokenizer=replace(SMALL.tokenizer, width=32, steps=20, batch=4),
    dynamics=replace(
        SMALL.dynamics, width=32, trunk_layers=2, temporal_layers=1, head_layers=1, window=3, steps=20, batch=4
    ),
)

PRESETS = {
    "tiny": TINY,
    "small": SMALL,
    "medium": replace(
        SMALL,
        tokenizer=replace(SMALL.tokenizer, steps=4000),
        dynamics=replace(SMALL.dynamics, width=128, steps=12_000),
    ),
    "large": replace(
        SMALL,
        clip_frames=17,
        tokenizer=replace(SMALL.tokenizer, steps=20_000, batch=32),
        dynamics=replace(SMALL.dynamics, width=512, trunk_layers=8, head_layers=4, window=16, steps=60_000, batch=16),
    ),
}

ABOUT = {
    "tiny": "For tests: seconds of training, no quality.",
    "small": "A tile game or a first smooth world in minutes, on a laptop CPU.",
    "medium": "Wider dynamics, for an hour of training and more; in four CPU-minutes small is still ahead.",
    "large": "For a GPU and 128x128: 42 million parameters of dynamics, a window of 16 frames. Not trained here.",
}
