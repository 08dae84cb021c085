"""Interfaces of what can be played: a world or a real environment, its sessions, and the features they support."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import ProgressCallback
from reelworld.serve.protocol import ActionPreviews, Message, ProtocolError, Rewind, Sample
from reelworld.types import Clip, ModelSpec, StepResult

DEFAULT_FPS = 10.0  # for worlds whose recordings have no frame rate
MAX_FPS = 60.0  # more than screens show


class PlaySession(Protocol):
    """The part of a session that playing needs; a real environment can offer it as well."""

    watch: ProgressCallback | None
    """Called with the fraction done and the number of frames while several are generated at once. An exception that
    it raises must cancel them."""
    sampler: SamplerConfig
    """Sampling settings of the next frames."""

    def reset(
        self,
        context_frames: np.ndarray | None = None,
        context_actions: Mapping[str, np.ndarray] | None = None,
        seed: int | None = None,
    ) -> StepResult:
        """Start an episode, optionally from frames, uint8 (T, H, W, 3), and the actions between them."""
        ...

    def step(self, action: Mapping[str, np.ndarray] | None) -> StepResult:
        """Take an action: stream name -> int64 (n,) or float32 (n, A), or None without streams."""
        ...

    def fork(self, n: int) -> PlaySession:
        """Open a session of n streams that continue from the current state."""
        ...

    def snapshot(self) -> Any:
        """Copy the current state."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Return to an earlier state."""
        ...


class PlayableInfo(Protocol):
    """Name and origin of a world."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def system(self) -> str: ...  # noqa: D102
    @property
    def sampler(self) -> SamplerConfig: ...  # noqa: D102
    @property
    def provenance(self) -> Mapping[str, object]: ...  # noqa: D102


class Playable(Protocol):
    """A world, or anything else that opens sessions."""

    initial_contexts: list[Clip]
    """Recorded clips that an episode may start from."""

    @property
    def spec(self) -> ModelSpec: ...  # noqa: D102
    @property
    def info(self) -> PlayableInfo: ...  # noqa: D102

    def session(self, n: int = 1, seed: int | None = None) -> PlaySession:
        """Open a session."""
        ...


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of the page that a playable supports, besides actions and resets."""

    views: tuple[str, ...] = ("world",)
    """Pictures of a frame from left to right, each ``width`` wide: "world", "env" (the real environment)."""
    rewind: bool = True
    sampler: bool = True
    """The sampling settings can be changed."""
    action_previews: bool = True
    initial_contexts: bool = True
    """An episode can start from a recorded clip or an uploaded image."""
    action_repeat: int = 1
    """Steps of the real environment per step."""
    record_all: bool = False
    """Episodes are recorded from the first step on, where recording is possible."""

    def check(self, message: Message) -> None:
        """Refuse a request for a missing feature.

        Raises:
            ProtocolError: If the feature is missing.
        """
        if isinstance(message, Rewind) and not self.rewind:
            raise ProtocolError("the real environment cannot be rewound")
        if isinstance(message, ActionPreviews) and not self.action_previews:
            raise ProtocolError("the real environment has no action previews")
        if isinstance(message, Sample) and not self.sampler:
            raise ProtocolError("the real environment has no sampling settings")


@runtime_checkable
class HasFeatures(Protocol):
    """A playable that supports less, or shows more, than a world."""

    features: Features


def features_of(world: Playable) -> Features:
    """Return the features of a playable; a world supports all."""
    return world.features if isinstance(world, HasFeatures) else Features()


def play_fps(spec: ModelSpec) -> float:
    """Return the steps per second of a real-time world."""
    return min(spec.fps or DEFAULT_FPS, MAX_FPS)
