"""Where streams of a transformer over slots and codes stand between two frames.

Shapes: B streams, P frames that a draft reads, M codes of a later frame, A numbers of all actions of a step
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelworld.nn.stream_cache import StreamCache

__all__ = ["SlotTransformerState"]

_ROWS = ("reward", "terminated", "past", "led")
"""What has a row per stream, beside the cache."""


@dataclass(kw_only=True)
class SlotTransformerState:
    """Where B streams stand."""

    cache: StreamCache
    reward: Tensor
    """Of the last step, float32 (B,)."""
    terminated: Tensor
    """Probability that the last step ended the episode, float32 (B,); 0 where nothing is learned of ends."""
    past: Tensor
    """Codes of the last frames, the last one first, int64 (B, P, M); the codebook's size where they are context."""
    led: Tensor
    """Numbers of the actions that led to all but the first of these, (B, P - 1, A)."""

    @classmethod
    def joined(cls, states: Sequence[SlotTransformerState]) -> SlotTransformerState:
        """Copy several states into one, their streams in this order."""
        rows = {name: torch.cat([getattr(state, name) for state in states]) for name in _ROWS}
        return cls(cache=StreamCache.joined([state.cache for state in states]), **rows)

    def select(self, streams: Tensor) -> SlotTransformerState:
        """Copy the given streams."""
        rows = {name: getattr(self, name)[streams] for name in _ROWS}
        return SlotTransformerState(cache=self.cache.select(streams), **rows)

    def replace(self, streams: Tensor, other: SlotTransformerState) -> None:
        """Overwrite streams in place with those of another state."""
        self.cache.replace(streams, other.cache)
        for name in _ROWS:
            rows = getattr(self, name).clone()
            rows[streams] = getattr(other, name)
            setattr(self, name, rows)
