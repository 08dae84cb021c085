"""What a session asks of the way in which frames come out of a world.

``FrameByFrame`` and ``SlidingWindow`` are the two ways; the tokenizer decides which one a world needs. Neither
knows of streams by number, of seeds or of what a person may type: that is the session's.

Shapes: n streams, T frames, H W pixel rows and columns, A action width, N tokens per latent frame
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from reelworld.types import Sampler

__all__ = ["Rolling", "Shown", "State"]


class State(Protocol):
    """Where n streams stand: tensors with one row per stream."""

    def select(self, streams: Tensor) -> Any:
        """Copy the given streams."""
        ...

    def replace(self, streams: Tensor, other: Any) -> None:
        """Overwrite streams in place with those of another state."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The next frame of each stream and what belongs to it."""

    frame: np.ndarray
    """uint8, (n, H, W, 3)."""
    reward: np.ndarray
    """float32, (n,)."""
    terminated: np.ndarray
    """Probability that the step ended the episode, float32, (n,)."""
    codes: np.ndarray
    """int64, (n, N): of the latent frame that the frame belongs to."""


class Rolling(Protocol):
    """A way in which frames come out of a world."""

    def begin(
        self,
        frames: np.ndarray,
        actions: Mapping[str, Tensor],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
    ) -> tuple[np.ndarray, State]:
        """Read frames to begin with, uint8 (n, T, H, W, 3), and the actions between them, (n, T - 1, ...).

        Returns:
            The frames that are shown first, uint8 (n, H, W, 3), and the state.
        """
        ...

    def advance(
        self, state: Any, actions: Mapping[str, Tensor], sampler: Sampler, generators: Sequence[torch.Generator]
    ) -> tuple[Shown, State]:
        """Take one action per stream, (n, 1, ...); the old state is used up."""
        ...
