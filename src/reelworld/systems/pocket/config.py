"""What decides a pocket world, setting by setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reelworld.config import require
from reelworld.models.system import SystemConfig

LARGEST_CODEBOOK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Config(SystemConfig):
    """Everything that decides a pocket world."""

    actions: Literal["given", "none"] = "given"
    """Learn from the recording's actions, or make a world that runs by itself."""
    frame_stride: int = 1
    """Keep every k-th frame; the k actions between two kept frames stay together."""
    merge: Literal["stack", "last", "sum"] = "stack"
    """What becomes of those k actions: all are given to the model, the last one, or their sum."""
    tokenizer_share: float = 0.2
    """Share of max_minutes that the tokenizer gets."""

    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Levels per digit of a code; their product is the codebook size."""
    tokenizer_width: int = 128
    """Width of the tokenizer."""
    tokenizer_steps: int = 1000
    """Optimizer steps of the tokenizer."""
    tokenizer_batch: int = 16
    """Frames per step."""
    tokenizer_lr: float = 4e-3
    """Highest learning rate of the tokenizer."""
    mosaic_share: float = 0.5
    """Share of a batch that is put together from distinct patches, when the game is drawn from tiles."""

    width: int = 64
    """Width of the dynamics."""
    trunk_layers: int = 4
    """Grid blocks that read the past."""
    temporal_layers: int = 2
    """How many of them are followed by temporal attention."""
    head_layers: int = 2
    """Grid blocks that run once per decoding pass."""
    window: int = 8
    """Frames that temporal attention reaches back to."""
    clip_frames: int = 9
    """Frames of a training clip; all but the first are predicted."""
    batch: int = 8
    """Clips per step."""
    steps: int = 3000
    """Optimizer steps of the dynamics."""
    lr: float = 2e-3
    """Highest learning rate of the dynamics."""
    event_share: float = 0.3
    """Share of clips drawn because something rare happens in them."""
    full_mask_share: float = 0.5
    """Share of frames predicted from nothing but the past; the others see some of their codes."""
    context_noise: float = 0.0
    """Greatest share of a clip's past codes that training replaces."""
    context_frames: int = 4
    """Frames a session begins with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = "frame_stride tokenizer_width tokenizer_steps tokenizer_batch trunk_layers steps batch window"
        require(self, f"{counts} context_frames", lambda v: v >= 1, "at least 1")
        require(self, "head_layers", lambda v: v >= 0, "at least 0")
        require(self, "temporal_layers", lambda v: 0 <= v <= self.trunk_layers, "from 0 to trunk_layers")
        shares = "mosaic_share event_share full_mask_share context_noise"
        require(self, shares, lambda v: 0 <= v <= 1, "from 0 to 1")
        require(self, "tokenizer_share", lambda v: 0 < v < 1, "between 0 and 1")
        require(self, "tokenizer_lr lr", lambda v: 0 < v < math.inf, "above 0")
        require(self, "levels", lambda v: v and min(v) >= 2, "one or more numbers of at least 2")
        small_enough = f"numbers with a product of at most {LARGEST_CODEBOOK:,} codes"
        require(self, "levels", lambda v: math.prod(v) <= LARGEST_CODEBOOK, small_enough)
        require(self, "clip_frames", lambda v: v >= 2, "at least 2, to predict one frame")
        require(self, "width", lambda v: v > 0 and v % 4 == 0, "a multiple of 4 (attention heads)")

    @property
    def uses_actions(self) -> bool:
        """True if the recorded actions are learned."""
        return self.actions == "given"
