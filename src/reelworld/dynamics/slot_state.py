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
        return cls(
            cache=StreamCache.joined([state.cache for state in states]),
            reward=torch.cat([state.reward for state in states]),
            terminated=torch.cat([state.terminated for state in states]),
            past=torch.cat([state.past for state in states]),
            led=torch.cat([state.led for state in states]),
        )

    def select(self, streams: Tensor) -> SlotTransformerState:
        """Copy the given streams."""
        return SlotTransformerState(
            cache=self.cache.select(streams),
            reward=self.reward[streams],
            terminated=self.terminated[streams],
            past=self.past[streams],
            led=self.led[streams],
        )

    def replace(self, streams: Tensor, other: SlotTransformerState) -> None:
        """Overwrite streams in place with those of another state."""
        self.cache.replace(streams, other.cache)
        for name in ("reward", "terminated", "past", "led"):
            rows = getattr(self, name).clone()
            rows[streams] = getattr(other, name)
            setattr(self, name, rows)
