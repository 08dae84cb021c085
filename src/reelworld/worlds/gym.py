"""Worlds as gymnasium environments: one stream (``WorldEnv``) or a batch of them (``WorldVectorEnv``).

    env = WorldEnv("runs/demo/world", max_episode_steps=200)
    envs = WorldVectorEnv("runs/demo/world", num_envs=16)

or, with this module imported, ``gymnasium.make("reelworld/World-v0", world="runs/demo/world")`` and ``make_vec``.
Observations are frames. Rewards and terminations are the world's predictions; an episode is truncated at
``max_episode_steps``. Equal seeds and actions give equal episodes. Unconditional worlds have one action without effect.

Shapes: n streams, H W pixel rows and columns, A action width
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from reelworld.config import unknown
from reelworld.rollout.session import Session
from reelworld.rollout.validation import Action
from reelworld.types import ActionSpec, StepResult, UserError
from reelworld.worlds.world import World

ENV_ID = "reelworld/World-v0"
RESET_OPTIONS = ("context_frames", "context_actions", "class_id", "goal")
DEFAULT_FPS = 10.0  # of render(), where the frame rate of the recordings is unknown


class WorldEnv(gymnasium.Env[np.ndarray, Action]):
    """One stream of a world.

    Observations are uint8 (H, W, 3). The action is an id or a vector (A,), a dictionary for worlds with several action
    streams, and ignored by worlds without actions.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": DEFAULT_FPS}  # noqa: RUF012 (gymnasium's interface)

    def __init__(
        self,
        world: World | Path | str,
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        device: str = "cpu",
    ) -> None:
        """Open a session.

        Args:
            world: A world or its folder.
            max_episode_steps: Steps after which an episode is truncated; None never truncates.
            render_mode: "rgb_array" lets ``render()`` return the frame.
            device: Device for a world given by its folder.
        """
        _check(max_episode_steps, render_mode)
        kwargs = {"world": world, "max_episode_steps": max_episode_steps, "device": device}
        self.spec = EnvSpec(ENV_ID, entry_point="reelworld.worlds.gym:WorldEnv", kwargs=kwargs)
        self.world = world if isinstance(world, World) else World.load(world, device)
        self.metadata = _metadata(self.world)
        self.render_mode = render_mode
        self.observation_space = _observation_space(self.world)
        self.action_space = _action_space(self.world)
        self._max_steps = max_episode_steps
        self._session = self.world.session(n=1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the world's generator; None keeps its state.
            options: ``context_frames`` uint8 (T, H, W, 3) and ``context_actions`` (T - 1, ...) to start from instead of
                one of the world's initial contexts; ``class_id`` for worlds with classes; ``goal`` uint8 (H, W, 3) for
                worlds with goals.
        """
        super().reset(seed=seed)
        result = _reset(self._session, seed, options)
        return result.frame[0], {}

    def step(self, action: Action) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one action."""
        result = self._session.step(action if self.world.spec.actions else None)
        truncated = self._max_steps is not None and self._session.n_steps >= self._max_steps
        probability = float(result.info["terminated_probability"][0])
        return (
            result.frame[0],
            float(result.reward[0]),
            bool(result.terminated[0]),
            truncated,
            {"terminated_probability": probability},
        )

    def render(self) -> np.ndarray | None:
        """Return the current frame, uint8 (H, W, 3), in render mode rgb_array."""
        return self._session.frame[0].copy() if self.render_mode == "rgb_array" else None


class WorldVectorEnv(VectorEnv[np.ndarray, Action, np.ndarray]):
    """n streams of a world, stepped together as one batch.

    Observations are uint8 (n, H, W, 3), actions int64 (n,) or float32 (n, A), or a dictionary of those. A stream that
    ended is reset in the next step (gymnasium's autoreset mode NEXT_STEP): that step ignores its action and returns the
    first frame of the new episode, reward 0 and no end. Streams do not depend on each other: until it ends, stream 0
    equals the ``WorldEnv`` of the same seed.
    """

    def __init__(
        self,
        world: World | Path | str,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        device: str = "cpu",
    ) -> None:
        """Open a session of ``num_envs`` streams; the other arguments are those of ``WorldEnv``."""
        _check(max_episode_steps, render_mode)
        self.world = world if isinstance(world, World) else World.load(world, device)
        self.num_envs = num_envs
        self.metadata = _metadata(self.world) | {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = render_mode
        self.single_observation_space = _observation_space(self.world)
        self.single_action_space = _action_space(self.world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._max_steps = max_episode_steps
        self._session = self.world.session(n=num_envs)
        self._steps = np.zeros(num_envs, np.int64)
        self._has_ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every stream; ``options`` as in ``WorldEnv``, frames (n, T, H, W, 3)."""
        super().reset(seed=seed)
        result = _reset(self._session, seed, options)
        self._steps[:], self._has_ended[:] = 0, False
        return result.frame, {}

    def step(self, actions: Action) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one action per stream; streams that ended in the last step are reset instead."""
        result = self._session.step(actions if self.world.spec.actions else None)
        frame, is_reset = result.frame, self._has_ended
        if is_reset.any():
            frame = self._session.reset(streams=np.flatnonzero(is_reset).tolist()).frame
        self._steps = np.where(is_reset, 0, self._steps + 1)
        terminated = result.terminated & ~is_reset
        is_late = self._steps >= self._max_steps if self._max_steps is not None else np.zeros(self.num_envs, bool)
        self._has_ended = terminated | is_late
        reward = np.where(is_reset, 0.0, result.reward).astype(np.float32)
        probability = np.where(is_reset, 0.0, result.info["terminated_probability"]).astype(np.float32)
        return frame, reward, terminated, is_late, {"terminated_probability": probability}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return the current frame of each stream, uint8 (H, W, 3), in render mode rgb_array."""
        return tuple(self._session.frame.copy()) if self.render_mode == "rgb_array" else None


def _reset(session: Session, seed: int | None, options: dict[str, Any] | None) -> StepResult:
    options = options or {}
    if surplus := sorted(options.keys() - RESET_OPTIONS):
        raise unknown("option", surplus[0], RESET_OPTIONS)
    return session.reset(seed=seed, **options)


def _check(max_episode_steps: int | None, render_mode: str | None) -> None:
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UserError(f"max_episode_steps is {max_episode_steps}; it must be 1 or more, or None.")
    if render_mode not in (None, "rgb_array"):
        raise UserError(f"render_mode is {render_mode!r}; wanted 'rgb_array' or None.")


def _metadata(world: World) -> dict[str, object]:
    return {"render_modes": ["rgb_array"], "render_fps": world.spec.fps or DEFAULT_FPS}


def _observation_space(world: World) -> spaces.Box:
    return spaces.Box(0, 255, (world.spec.height, world.spec.width, 3), np.uint8)


def _action_space(world: World) -> spaces.Space[Any]:
    streams = {name: _stream_space(spec) for name, spec in world.spec.actions.items()}
    if len(streams) == 1:
        return next(iter(streams.values()))
    return spaces.Dict(streams) if streams else spaces.Discrete(1)


def _stream_space(spec: ActionSpec) -> spaces.Space[Any]:
    if spec.kind == "discrete":
        return spaces.Discrete(spec.n)
    if spec.kind == "buttons":
        return spaces.MultiBinary(spec.n)
    low = np.array(spec.low or (-1.0,) * spec.n, np.float32)
    high = np.array(spec.high or (1.0,) * spec.n, np.float32)
    return spaces.Box(low, high, dtype=np.float32)


gymnasium.register(
    ENV_ID, entry_point="reelworld.worlds.gym:WorldEnv", vector_entry_point="reelworld.worlds.gym:WorldVectorEnv"
)
