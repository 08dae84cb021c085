"""The real game as something to play: a simulator behind what worlds offer, for ``reelworld record --play``.

A simulator cannot be forked or taken back, so the page offers neither.

Shapes: H W pixel rows and columns
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reelworld.envs.presets import SimulatorConfig
from reelworld.envs.recorder import describe_simulator
from reelworld.envs.simulator import Simulator
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import ProgressCallback
from reelworld.serve.playable import Rules
from reelworld.types import ActionSpec, Clip, StepResult

__all__ = ["RealGame", "RealSession", "new_seed"]


@dataclass(frozen=True, kw_only=True)
class RealInfo:
    """What a player is told about a game."""

    name: str
    height: int
    width: int
    fps: float
    actions: Mapping[str, ActionSpec]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """The simulator and the versions of its packages: kept with what is played."""
    recipe: str = ""
    context_frames: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Of no use here."""


class RealGame:
    """A simulator that is played like a world. Every session has a simulator of its own."""

    def __init__(self, config: SimulatorConfig) -> None:
        """Look at the game once.

        Raises:
            UserError: If it is not installed, not known, or has no pictures.
        """
        self._config = config
        self.rules = Rules(
            pictures=("game",),
            rewinds=False,
            draws=False,
            forks=False,
            begins_anywhere=False,
            keeps_all=True,
            held=config.action_repeat,
        )
        self.starts: list[Clip] = []
        simulator = Simulator(config)
        described = describe_simulator(simulator, seed=0)
        simulator.close()
        self.info = RealInfo(
            name=config.env_id,
            height=described.height,
            width=described.width,
            fps=described.fps,
            actions=described.actions,
            provenance=described.provenance,
        )

    def session(self, n: int = 1, seed: int | None = None) -> RealSession:
        """Open a session; it knows one stream only, and its episodes are seeded by ``reset``."""
        return RealSession(Simulator(self._config))


class RealSession:
    """One simulator as a session of one stream."""

    watch: ProgressCallback | None = None

    def __init__(self, simulator: Simulator) -> None:
        self.sampler = SamplerConfig()
        self._simulator = simulator
        weakref.finalize(self, simulator.close)

    def reset(
        self, context_frames: np.ndarray | None = None, context_actions: Any = None, seed: int | None = None
    ) -> StepResult:
        """Begin the episode of a seed, a fresh one without; the game begins where it begins, whatever frames came."""
        frame = self._simulator.reset(new_seed() if seed is None else seed)
        return _result(frame, 0.0, False, False)

    def step(self, action: Any) -> StepResult:
        """Take an action: {"action": int64 (1,) or float32 (1, A)}."""
        (rows,) = action.values()
        reward, terminated, truncated = self._simulator.step(rows[0])
        return _result(self._simulator.frame(), reward, terminated, truncated)

    def fork(self, n: int) -> RealSession:
        """Refuse: there is one game."""
        raise NotImplementedError("a simulator cannot be forked")

    def snapshot(self) -> None:
        """Keep nothing: a simulator cannot be taken back."""

    def restore(self, snapshot: Any) -> None:
        """Refuse: a simulator cannot be taken back."""
        raise NotImplementedError("a simulator cannot be taken back")


def new_seed() -> int:
    """Draw a seed that every environment takes."""
    return int(np.random.SeedSequence().generate_state(1)[0]) % 2**31


def _result(frame: np.ndarray, reward: float, terminated: bool, truncated: bool) -> StepResult:
    return StepResult(
        frame=frame[None],
        reward=np.array([reward], np.float32),
        terminated=np.array([terminated]),
        truncated=np.array([truncated]),
    )
