"""What a session asks of the way in which frames come out of a world.

``FrameByFrame`` and ``SlidingWindow`` are the two ways; the tokenizer decides which one a world needs. Neither
knows of streams by number, of seeds or of what a person may type: that is the session's.

Shapes: n streams, T frames, H W pixel rows and columns, A action width, N tokens per latent frame
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from reelworld.types import Sampler

__all__ = ["Context", "FrameOutput", "ProgressCallback", "ProgressFanOut", "Rolling", "State"]

ProgressCallback = Callable[[float, int], Any]
"""Told, while a world makes several frames at once, the share that is done (0 to 1) and how many frames they are."""


class State(Protocol):
    """Where n streams stand: tensors with one row per stream."""

    @classmethod
    def joined(cls, states: Sequence[Any]) -> Any:
        """Copy several states into one, their streams in this order."""
        ...

    def select(self, streams: Tensor) -> Any:
        """Copy the given streams."""
        ...

    def replace(self, streams: Tensor, other: Any) -> None:
        """Overwrite streams in place with those of another state."""
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """What n streams begin from."""

    frames: np.ndarray
    """uint8, (n, T, H, W, 3); T may be 0 where ``can_begin_from_nothing``."""
    actions: Mapping[str, Tensor] = field(default_factory=dict)
    """Between the frames: stream name -> (n, T - 1, ...)."""
    class_id: Tensor | None = None
    """int64, (n,); None in worlds without classes."""
    goal: np.ndarray | None = None
    """What they go towards, uint8, (n, H, W, 3); None in worlds without goals."""


@dataclass(frozen=True, kw_only=True)
class FrameOutput:
    """The next frame of each stream and what belongs to it."""

    frame: np.ndarray
    """uint8, (n, H, W, 3)."""
    reward: np.ndarray
    """float32, (n,)."""
    terminated: np.ndarray
    """Probability that the step ended the episode, float32, (n,)."""
    codes: np.ndarray
    """int64, (n, N): of the latent frame that the frame belongs to."""

    def select(self, streams: np.ndarray) -> FrameOutput:
        """Copy the given streams, so that none keeps the others in memory."""
        return FrameOutput(**{name: rows[streams] for name, rows in vars(self).items()})


class ProgressFanOut:
    """Tells several watches how far the making is; one that raises is told no more, and when all have, it ends.

    Attributes:
        raised: What watches raised, by their number.
    """

    class AllCancelled(Exception):
        """Nobody wants the frames any more."""

    def __init__(self, watches: Sequence[ProgressCallback | None]) -> None:
        self._watches = watches
        self.raised: dict[int, Exception] = {}

    def __call__(self, share: float, n_frames: int) -> None:
        """Tell those that still want to know."""
        for i, watch in enumerate(self._watches):
            if watch is None or i in self.raised:
                continue
            try:
                watch(share, n_frames)
            except Exception as error:  # noqa: BLE001 (it is handed to whoever gave the watch)
                self.raised[i] = error
        if len(self.raised) == len(self._watches):
            raise ProgressFanOut.AllCancelled


class Rolling(Protocol):
    """A way in which frames come out of a world."""

    has_goal: bool
    """True when streams go towards a goal, which they begin with."""

    @property
    def can_begin_from_nothing(self) -> bool:
        """True when no frames are needed to begin with."""
        ...

    def check_context(self, n_frames: int) -> None:
        """Refuse a number of frames to begin with.

        Raises:
            UserError: If it is not one that this world can begin with.
        """
        ...

    def begin(
        self,
        beginning: Context,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
    ) -> tuple[np.ndarray, State]:
        """Read what streams begin from.

        Returns:
            The frames that are shown first, uint8 (n, H, W, 3): the last given ones; and the state.
        """
        ...

    def phase(self, state: Any) -> Hashable:
        """Say what the next frame takes: streams of equal phase go well side by side."""
        ...

    def advance(
        self,
        state: Any,
        actions: Mapping[str, Tensor],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
    ) -> tuple[FrameOutput, State]:
        """Take one action per stream, (n, 1, ...); the old state is used up."""
        ...
