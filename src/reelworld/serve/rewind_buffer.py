"""Rewind buffer: snapshots of the current episode, within a limit of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class EpisodeState:
    """State of an episode after one step: a snapshot of its session, and the values that the page shows."""

    snapshot: Any
    frame: np.ndarray
    """uint8, (H, W, 3)."""
    step: int = 0
    total_reward: float = 0.0
    has_ended: bool = False


class RewindBuffer:
    """The newest states of one episode, the current one last; the oldest are dropped when the buffer is full."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._states: deque[tuple[EpisodeState, int]] = deque()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._states)

    def clear(self) -> None:
        """Drop all states, at the start of an episode."""
        self._states.clear()
        self.n_bytes = 0

    def append(self, state: EpisodeState) -> None:
        """Add the current state; it is kept even when it alone exceeds the limit."""
        size = count_bytes(state)
        self._states.append((state, size))
        self.n_bytes += size
        while self.n_bytes > self._max_bytes and len(self._states) > 1:
            self.n_bytes -= self._states.popleft()[1]

    def rewind(self, n_steps: int) -> EpisodeState:
        """Drop the last ``n_steps`` states, all but the oldest at most, and return the one before them."""
        for _ in range(min(n_steps, len(self._states) - 1)):
            self.n_bytes -= self._states.pop()[1]
        return self._states[-1][0]


def count_bytes(value: object) -> int:
    """Count the bytes of all tensors and arrays that an object refers to, each storage once."""
    sizes: dict[int, int] = {}
    _measure(value, sizes, set())
    return sum(sizes.values())


def _measure(value: object, sizes: dict[int, int], visited: set[int]) -> None:
    if id(value) in visited or isinstance(value, torch.nn.Module | type):
        return
    visited.add(id(value))
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
    elif isinstance(value, np.ndarray):
        sizes[id(value)] = value.nbytes
    elif isinstance(value, Mapping):
        for item in value.values():
            _measure(item, sizes, visited)
    elif isinstance(value, list | tuple | deque):
        for item in value:
            _measure(item, sizes, visited)
    elif hasattr(value, "__dict__"):
        _measure(vars(value), sizes, visited)
