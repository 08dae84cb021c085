"""Configs of the optimizer and of a stage of training. Torch-free: they are nested in the configs of systems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reelworld.config import require

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, learning-rate schedule, gradient clipping and accumulation, EMA."""

    lr: float = 2e-3
    """Highest learning rate."""
    beta1: float = 0.9
    """Decay of the mean of the gradient."""
    beta2: float = 0.98
    """Decay of the mean of the squared gradient."""
    weight_decay: float = 0.01
    """Decoupled decay, on matrices and convolutions only."""
    schedule: Literal["constant", "cosine", "wsd"] = "cosine"
    """Learning-rate schedule after the warm-up; wsd is constant, then decays linearly."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0."""
    decay_fraction: float = 0.2
    """Last fraction of the training, in which wsd falls."""
    min_lr_fraction: float = 0.0
    """Last learning rate as a fraction of the highest one."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0 turns clipping off."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    ema: float = 0.0
    """Decay of the moving average of the weights, e.g. 0.999; 0 turns it off."""

    def __post_init__(self) -> None:
        require(self, "lr", lambda v: 0 < v < math.inf, "above 0")
        require(self, "beta1 beta2 ema", lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "weight_decay warmup_steps grad_clip", lambda v: v >= 0, "at least 0")
        require(self, "decay_fraction", lambda v: 0 < v <= 1, "above 0, at most 1")
        require(self, "min_lr_fraction", lambda v: 0 <= v <= 1, "from 0 to 1")
        require(self, "accumulate", lambda v: v >= 1, "at least 1")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Length of one stage of training, its batches and its optimizer."""

    steps: int = 1000
    """Optimizer steps."""
    batch: int = 8
    """Clips per batch; frames, where the part learns from single frames."""
    optim: OptimConfig = OptimConfig()
    """Optimizer and learning-rate schedule."""
    time_fraction: float = 0.0
    """Fraction of max_minutes for this stage; 0 gives it the rest."""

    def __post_init__(self) -> None:
        require(self, "steps batch", lambda v: v >= 1, "at least 1")
        require(self, "time_fraction", lambda v: 0 <= v < 1, "at least 0 and below 1")
