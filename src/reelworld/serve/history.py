"""The moments a player can go back to: a ring of snapshots that never holds more than so many bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["History", "Moment", "n_bytes"]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A snapshot with what the screen said then."""

    snapshot: Any
    frame: np.ndarray
    """uint8, (H, W, 3)."""
    step: int
    total: float
    has_ended: bool


class History:
    """The newest moments of one episode, the present one last; the oldest go when the room is used up."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._moments: deque[tuple[Moment, int]] = deque()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._moments)

    def clear(self) -> None:
        """Forget everything: an episode begins."""
        self._moments.clear()
        self.n_bytes = 0

    def keep(self, moment: Moment) -> None:
        """Add the present moment; it alone may be larger than the room there is."""
        size = n_bytes(moment)
        self._moments.append((moment, size))
        self.n_bytes += size
        while self.n_bytes > self._max_bytes and len(self._moments) > 1:
            self.n_bytes -= self._moments.popleft()[1]

    def back(self, n_steps: int) -> Moment:
        """Return the moment ``n_steps`` before the present one, or the oldest; what came after it is forgotten."""
        for _ in range(min(n_steps, len(self._moments) - 1)):
            self.n_bytes -= self._moments.pop()[1]
        return self._moments[-1][0]


def n_bytes(value: Any) -> int:
    """Count the bytes of all tensors and arrays that an object holds; what is held twice counts once."""
    sizes: dict[int, int] = {}
    _measure(value, sizes, set())
    return sum(sizes.values())


def _measure(value: Any, sizes: dict[int, int], seen: set[int]) -> None:
    if id(value) in seen or isinstance(value, torch.nn.Module | type):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
    elif isinstance(value, np.ndarray):
        sizes[id(value)] = value.nbytes
    elif isinstance(value, Mapping):
        for item in value.values():
            _measure(item, sizes, seen)
    elif isinstance(value, list | tuple | deque):
        for item in value:
            _measure(item, sizes, seen)
    elif hasattr(value, "__dict__"):
        _measure(vars(value), sizes, seen)
