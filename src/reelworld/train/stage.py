"""One stage of training: a module, its batches, its length and its optimizer.

A system yields stages one after the other; the loop in ``loop.py`` trains them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from reelworld.train.config import OptimConfig, Precision
from reelworld.types import Batch, Losses, UserError

Validate = Callable[[], dict[str, float]]
"""Returns named metrics of the current weights; must not draw from shared random state."""


@dataclass(kw_only=True)
class Stage:
    """Training of one module on one stream of batches."""

    name: str
    """Name in logs and checkpoints, unique within a run."""
    part: str
    """Name of the trained part."""
    module: nn.Module
    """Module to train, with ``loss(batch, generator) -> Losses``. Usually the part itself."""
    batches: Callable[[int], Iterator[Batch]]
    """Batch number -> endless batches from there on; batch b is always the same."""
    steps: int
    """Optimizer steps; each takes ``optim.accumulate`` batches."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    max_minutes: float | None = None
    """Wall-clock minutes after which the stage ends; the schedule anneals to whichever end comes first."""
    precision: Precision = "auto"
    """bf16 autocast, fp32, or auto: the faster one in a short timing on this machine."""
    frames_per_batch: int
    """Frames of one batch, for the reported speed."""
    validate: Validate | None = None
    """Validation metrics; with ema, of the averaged weights."""
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
        """Return the module's loss."""
        return cast(Losses, cast(Any, self.module).loss(batch, generator))
