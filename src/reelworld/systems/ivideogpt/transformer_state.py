"""State of the dynamics between two frames.

Shapes: B streams, P frames that the frame prior reads, M codes of a later frame, A numbers of all actions of a step
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reelworld.nn.kv_cache import KVCache
from reelworld.nn.streams import Streams


@dataclass(kw_only=True)
class IVideoGPTState(Streams):
    """State of B streams."""

    cache: KVCache
    reward: Tensor
    """Of the last step, float32 (B,)."""
    terminated: Tensor
    """Probability that the last step ended the episode, float32 (B,); 0 if termination is not learned."""
    past: Tensor
    """Codes of the last frames, the last one first, int64 (B, P, M); the codebook's size for context frames."""
    led: Tensor
    """Numbers of the actions that led to all but the first of these, (B, P - 1, A)."""
