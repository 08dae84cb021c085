"""What one stage of training is: which module learns from which batches, for how long, and how.

A recipe yields stages one after the other; the loop in ``loop.py`` trains them. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from reelworld.types import Batch, Losses, UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["OptimConfig", "Precision", "Stage"]

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, its schedule and what surrounds it."""

    lr: float = 2e-3
    """Highest learning rate."""
    beta1: float = 0.9
    """Decay of the mean of the gradient."""
    beta2: float = 0.98
    """Decay of the mean of the squared gradient."""
    weight_decay: float = 0.01
    """Decoupled decay, on matrices and convolutions only."""
    schedule: Literal["constant", "cosine", "wsd"] = "cosine"
    """Course of the learning rate after the warm-up; wsd is flat, then falls in a straight line."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0."""
    decay_share: float = 0.2
    """Last share of the training in which wsd falls."""
    min_lr_share: float = 0.0
    """Last learning rate as a share of the highest one."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 turns clipping off."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    ema: float = 0.0
    """Decay of the moving average of the weights, e.g. 0.999; 0 turns it off."""

    def __post_init__(self) -> None:
        limits = {
            "lr": self.lr > 0,
            "warmup_steps": self.warmup_steps >= 0,
            "decay_share": 0 < self.decay_share <= 1,
            "min_lr_share": 0 <= self.min_lr_share <= 1,
            "clip": self.clip >= 0,
            "accumulate": self.accumulate >= 1,
            "ema": 0 <= self.ema < 1,
        }
        if wrong := [name for name, is_right in limits.items() if not is_right]:
            raise UserError(
                f"{wrong[0]} is {getattr(self, wrong[0])}, out of its range; wanted lr > 0, warmup_steps >= 0, "
                "0 < decay_share <= 1, 0 <= min_lr_share <= 1, clip >= 0, accumulate >= 1, 0 <= ema < 1."
            )


@dataclass(kw_only=True)
class Stage:
    """One module learning from one stream of batches."""

    name: str
    """Name in logs and checkpoints; no two stages of a run share one."""
    part: str
    """Name of the part that learns."""
    module: nn.Module
    """What learns; has ``loss(batch, generator) -> Losses``. Usually the part itself."""
    batches: Callable[[int], Iterator[Batch]]
    """Batch number -> endless batches from there on; batch b is the same however often it is asked for."""
    steps: int
    """Optimizer steps; each takes ``optim.accumulate`` batches."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    max_minutes: float | None = None
    """Wall-clock minutes after which the stage ends; the schedule anneals to whichever end comes first."""
    precision: Precision = "auto"
    """bf16 autocast, fp32, or whichever a short timing finds faster on this machine."""
    frames_per_batch: int
    """Frames of one batch, for the speed shown."""
    validate: Callable[[], dict[str, float]] | None = None
    """Named numbers of the present weights (the averaged ones with ema); must not draw from shared state."""
    validate_every: int = 0
    """Steps between validations; 0 validates at the end only."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"stage {self.name!r} has steps={self.steps}; at least 1 is needed.")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise UserError(
                f"stage {self.name!r} has max_minutes={self.max_minutes}; give more than 0, or leave it out."
            )

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Ask the module for its loss."""
        return cast(Losses, cast(Any, self.module).loss(batch, generator))
