"""What playing needs of a world and its sessions, and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import ProgressCallback
from reelworld.serve.protocol import Effects, Message, ProtocolError, Rewind, Sample
from reelworld.types import ActionSpec, Clip, StepResult

__all__ = ["PlaySession", "Playable", "PlayableInfo", "Rules", "rules_of"]


class PlaySession(Protocol):
    """The part of a session that playing needs; a real environment can offer it as well."""

    watch: ProgressCallback | None
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
    @property
    def provenance(self) -> Mapping[str, Any]: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What there is to see and to do, besides acting and beginning anew."""

    pictures: tuple[str, ...] = ("world",)
    """What a frame shows, from left to right, each ``width`` wide: "world", "game" (the real one)."""
    rewinds: bool = True
    """The player can go back."""
    draws: bool = True
    """There is a sampler whose settings the player can change."""
    forks: bool = True
    """The player can see what each action would do."""
    begins_anywhere: bool = True
    """A game can begin at a recorded moment or at a picture."""
    held: int = 1
    """Steps of the real game per step that is played."""
    keeps_all: bool = False
    """What is played is recorded from the first step on, where anything is."""

    def check(self, message: Message) -> None:
        """Refuse what is not there.

        Raises:
            ProtocolError: If a client asks for it nevertheless.
        """
        if isinstance(message, Rewind) and not self.rewinds:
            raise ProtocolError("the real game cannot be taken back")
        if isinstance(message, Effects) and not self.forks:
            raise ProtocolError("the real game cannot show what an action would do")
        if isinstance(message, Sample) and not self.draws:
            raise ProtocolError("the real game has nothing to be drawn")


class Playable(Protocol):
    """A world, or anything that opens sessions like one."""

    starts: list[Clip]
    """Moments that a player may begin at."""

    @property
    def info(self) -> PlayableInfo: ...  # noqa: D102

    def session(self, n: int = 1, seed: int | None = None) -> PlaySession:
        """Open a session."""
        ...


def rules_of(world: Playable) -> Rules:
    """Return the rules of what is played; worlds say nothing of their own and allow everything."""
    return getattr(world, "rules", Rules())
