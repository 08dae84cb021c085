"""The settings that all recipes have; each adds its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reelworld.config import require
from reelworld.types import Fit

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every recipe can be told."""

    seed: int = 0
    """Decides every random draw."""
    size: int | None = None
    """Pixels per side that frames are resized to; none keeps the recording's size."""
    fit: Fit = "none"
    """How frames of another shape become square: crop the centre, stretch, or pad with black."""
    max_minutes: float | None = None
    """Wall-clock budget of the whole training; schedules anneal to it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 autocast, fp32, or whichever a short timing finds faster on this machine."""

    def __post_init__(self) -> None:
        # Here and not where the values are used: a mistake shall not cost the minutes of the stage before.
        require(self, "seed", lambda v: v >= 0, "at least 0")
        require(self, "max_minutes", lambda v: v is None or 0 < v < math.inf, "above 0")
