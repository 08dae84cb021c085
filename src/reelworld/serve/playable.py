"""What playing needs of a world and its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from reelworld.generate.rolling import Watch
from reelworld.generate.samplers import SamplerConfig
from reelworld.types import ActionSpec, Clip, StepResult

__all__ = ["PlaySession", "Playable", "PlayableInfo"]


class PlaySession(Protocol):
    """The part of a session that playing needs; a real environment can offer it as well."""

    watch: Watch | None
    """To be called often, with the share that is done and their number, while several frames are made at once; what
    it raises must end the making."""
    sampler: SamplerConfig
    """How the frames to come are drawn."""

    def reset(
        self, context_frames: np.ndarray | None = None, context_actions: Any = None, seed: int | None = None
    ) -> StepResult:
        """Begin an episode, by itself or with frames, uint8 (T, H, W, 3), and the actions between them."""
        ...

    def step(self, action: Any) -> StepResult:
        """Take an action: stream name -> int64 (n,) or float32 (n, A), or None without streams."""
        ...

    def fork(self, n: int) -> PlaySession:
        """Open a session of n streams that go on from here."""
        ...

    def snapshot(self) -> Any:
        """Keep this moment."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Go back to a moment."""
        ...


class PlayableInfo(Protocol):
    """What a player is told about a world."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def recipe(self) -> str: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def fps(self) -> float: ...  # noqa: D102
    @property
    def actions(self) -> Mapping[str, ActionSpec]: ...  # noqa: D102
    @property
    def context_frames(self) -> int: ...  # noqa: D102
    @property
    def sampler(self) -> SamplerConfig: ...  # noqa: D102


class Playable(Protocol):
    """A world, or anything that opens sessions like one."""

    starts: list[Clip]
    """Moments that a player may begin at."""

    @property
    def info(self) -> PlayableInfo: ...  # noqa: D102

    def session(self, n: int = 1, seed: int | None = None) -> PlaySession:
        """Open a session."""
        ...
