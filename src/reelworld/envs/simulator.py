"""Simulator: a gymnasium environment reduced to reset, step and a lossless RGB frame.

Equal configurations (``SimulatorConfig``, kept in dataset.json) and equal seeds give equal frames. Recorded actions can
therefore be replayed, and a learned world can be compared with its environment:

    simulator = Simulator(SimulatorConfig(env_id="MiniGrid-DoorKey-8x8-v0", drawing="fast", ...))
    frame = simulator.reset(seed=7)
    reward, terminated, truncated = simulator.step(2)
    frame = simulator.frame()
"""

from __future__ import annotations

import copy
import importlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from reelworld.config import closest
from reelworld.envs.action_spaces import member, stream_specs
from reelworld.envs.env_keys import environment_hints
from reelworld.envs.old_api import adapt, as_reward, frame_rate, in_one_line, say_once
from reelworld.envs.presets import SimulatorConfig, action_hints
from reelworld.envs.robots import RenderThread, prepare_mujoco, register_tasks, remove_shadows, uses_mujoco
from reelworld.types import ActionSpec, UserError

StreamAction = int | np.ndarray | Sequence[float]
"""An id from 0 on, or a vector (A,)."""
EnvAction = StreamAction | Mapping[str, StreamAction]
"""An action of the only stream, or one of each: stream name -> action."""

PACKAGES = {
    "MiniGrid-": ("minigrid", "reelworld[envs]"),
    "BabyAI-": ("minigrid", "reelworld[envs]"),
    "ALE/": ("ale_py", "reelworld[atari]"),
    "dm_control/": ("dm_control", "reelworld[robotics]"),
}
"""Prefix of environments that are registered when their package is imported -> module, what to install."""


class Simulator:
    """One environment that yields RGB frames.

    Every reset builds the environment anew. An episode therefore depends on its seed alone, never on what an
    environment or a wrapper keeps from earlier episodes of the same process.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame environments render without a display
        self.config = config
        self._env = _make(config)
        self.fps = frame_rate(self._env, config.env_id) / config.action_repeat
        self.action_specs = _action_specs(config.env_id, self._env)
        self._observation: Any = None

    @property
    def action_spec(self) -> ActionSpec:
        """The only action stream.

        Raises:
            UserError: If there are several.
        """
        if len(self.action_specs) > 1:
            raise UserError(
                f"{self.config.env_id} has the action streams {', '.join(self.action_specs)}; one is wanted."
            )
        return next(iter(self.action_specs.values()))

    @property
    def env(self) -> gym.Env:
        """The environment of the current episode, for policies that read the simulator's state."""
        return self._env

    @property
    def observation(self) -> Any:
        """The last observation; under fast rendering MiniGrid's is computed on request."""
        return self._env.get_wrapper_attr("observe")() if _has_tile_renderer(self.config) else self._observation

    def reset(self, seed: int) -> np.ndarray:
        """Start the episode of a seed and return its first frame, uint8 (H, W, 3)."""
        self._env.close()
        self._env = _make(self.config)
        with in_one_line(self.config.env_id, "reset"):
            self._observation, _ = self._env.reset(seed=seed)
        null = self._to_env({name: _null(spec) for name, spec in self.action_specs.items()})
        for _ in range(self.config.warmup_steps):
            _, terminated, truncated = self._step(null)
            if terminated or truncated:
                raise UserError(
                    f"{self.config.env_id} ended during its {self.config.warmup_steps} warm-up steps (seed {seed}); "
                    "use a smaller warmup_steps."
                )
        return self.frame()

    def step(self, action: EnvAction) -> tuple[float, bool, bool]:
        """Hold an action for ``action_repeat`` environment steps; stop early when the episode ends.

        Args:
            action: Id in [0, n) or vector (A,), as in ``action_spec``; with several streams, one of each by name.

        Returns:
            Summed reward, terminated, truncated.
        """
        env_action, total = self._to_env(action), 0.0
        for _ in range(self.config.action_repeat):
            reward, terminated, truncated = self._step(env_action)
            total += reward
            if terminated or truncated:
                break
        return total, terminated, truncated

    def frame(self) -> np.ndarray:
        """Render the current state, uint8 (H, W, 3)."""
        config = self.config
        if config.frames == "render" or _is_fast_car(config):
            with in_one_line(config.env_id, "render"):
                picture = self._env.render()
            frame = _as_rgb(picture, f"render() of {config.env_id}")
        else:
            frame = _as_rgb(_image_of(self._observation), f"the observation of {config.env_id}")
        if config.size is not None and frame.shape[:2] != config.size:
            frame = resize(frame, *config.size, config.resize)
        return frame

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _step(self, action: Any) -> tuple[float, bool, bool]:
        with in_one_line(self.config.env_id, "step"):
            self._observation, reward, terminated, truncated, _ = self._env.step(action)
        return as_reward(reward, self.config.env_id), bool(terminated), bool(truncated)

    def _to_env(self, action: EnvAction) -> Any:
        streams = action if isinstance(action, Mapping) else dict.fromkeys(self.action_specs, action)
        if streams.keys() != self.action_specs.keys() or (len(streams) > 1 and streams is not action):
            raise UserError(
                f"action {action} came; {self.config.env_id} wants one of {', '.join(self.action_specs)} each."
            )
        return member(self._env.action_space, streams, self.config.env_id)


def _null(spec: ActionSpec) -> StreamAction:
    if spec.null is not None:
        return spec.null
    zeros = np.zeros(spec.n, np.float32)
    return 0 if spec.kind == "discrete" else np.clip(zeros, spec.low or None, spec.high or None)


def see_current_folder() -> None:
    """Let modules of the current folder be imported, as ``python -m`` does; the installed script does not by itself."""
    if "" not in sys.path and (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def import_object(path: str, expected: str) -> Callable[..., Any]:
    """Import a callable by 'module:name', also from the current folder.

    Args:
        path: The user's 'module:name'.
        expected: Noun for errors, e.g. 'a wrapper class'.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise UserError(f"{path!r} came; wanted {expected} as 'module:name'.")
    see_current_folder()
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"cannot import {expected} {path!r}: {error}; check the module's name and folder.") from error
    if not callable(result := getattr(module, name, None)):
        raise UserError(f"module {module_name!r} has no {name!r}{closest(name, vars(module))}; wanted {expected}.")
    return result


def resize(frame: np.ndarray, height: int, width: int, method: Literal["area", "nearest"]) -> np.ndarray:
    """Resize a frame, uint8 (H, W, 3), by exact area mean or nearest pixel."""
    if method == "nearest":
        rows = ((np.arange(height) + 0.5) * frame.shape[0] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * frame.shape[1] / width).astype(int)
        return np.ascontiguousarray(frame[rows][:, columns])
    # sums of whole numbers in float64 are exact, in any order
    rows_in, columns_in = _coverage(frame.shape[0], height), _coverage(frame.shape[1], width)
    sums = np.tensordot(np.tensordot(rows_in, frame.astype(np.float64), 1), columns_in, ([1], [1])).swapaxes(1, 2)
    return np.rint(sums / (frame.shape[0] * frame.shape[1])).astype(np.uint8)


def _coverage(n_in: int, n_out: int) -> np.ndarray:
    """Part of output cell i that input cell j covers, in units of 1 / n_in of the output cell, whole, (n_out, n_in)."""
    edges, cells = np.arange(n_out + 1) * n_in, np.arange(n_in) * n_out
    overlap = np.minimum(edges[1:, None], cells + n_out) - np.maximum(edges[:-1, None], cells)
    return np.clip(overlap, 0, None).astype(np.float64)


def _make(config: SimulatorConfig) -> gym.Env:
    spec = _env_spec(config)
    kwargs = dict(config.env_kwargs)
    if config.frames == "render":
        kwargs["render_mode"] = "rgb_array"
    if uses_mujoco(spec):
        prepare_mujoco()
        if config.size is not None:  # rendered at this size, not resized to it
            kwargs = {"height": config.size[0], "width": config.size[1], **kwargs}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*not in the possible render_modes")  # said below, in one line
            env: gym.Env = gym.make(spec, disable_env_checker=True, **kwargs)
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        raise UserError(
            f"{config.env_id} needs packages that are not installed ({error}); pip install '{_package_of(error)}'"
        ) from error
    except (TypeError, ValueError, LookupError, gym.error.Error) as error:
        raise UserError(
            f"{config.env_id} refuses the arguments {kwargs}: {str(error).splitlines()[0]}; change --env-kwargs."
        ) from error
    adapt(env, config.env_id)
    if uses_mujoco(spec):
        env = RenderThread(env)
        if config.drawing == "fast":
            remove_shadows(env)
    if _has_tile_renderer(config):
        env = import_object("reelworld.envs.fast_render_minigrid:TileRenderer", "a renderer")(env)
    if config.frames == "render" and "rgb_array" not in (env.metadata.get("render_modes") or ()):
        raise UserError(f"{config.env_id} cannot render 'rgb_array'; record --frames observation.")
    for wrapper in config.wrappers:
        kind = import_object(wrapper.path, "a wrapper class")
        try:
            env = kind(env, **wrapper.kwargs)
        except UserError:
            raise
        except (TypeError, ValueError, AttributeError, AssertionError) as error:
            raise UserError(f"wrapper {wrapper.path} with {dict(wrapper.kwargs)} fails: {error}") from error
    return env


def _is_fast_car(config: SimulatorConfig) -> bool:
    return config.drawing == "fast" and config.env_id.startswith("CarRacing-")


def _has_tile_renderer(config: SimulatorConfig) -> bool:
    """Return True where MiniGrid's map is rendered from a cache of tiles: wrappers may render something else."""
    is_map = config.frames == "render" and not config.wrappers
    return is_map and config.drawing == "fast" and config.env_id.startswith(("MiniGrid-", "BabyAI-"))


def _package_of(error: ImportError | gym.error.DependencyNotInstalled) -> str:
    """Name the package to install from the error of gymnasium or Python."""
    extra = re.search(r"gymnasium\[([\w-]+)\]", str(error))
    if extra and extra[1] != "box2d":
        return f"gymnasium[{extra[1]}]"
    missing = error.name if isinstance(error, ImportError) else None
    return missing.partition(".")[0] if missing and not extra else "reelworld[envs]"


def _env_spec(config: SimulatorConfig) -> gym.envs.registration.EnvSpec:
    """Find an environment's registration; errors name the closest match or the missing extra."""
    name = config.env_id
    for prefix, (module, extra) in PACKAGES.items():
        if name.startswith(prefix):
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise UserError(
                    f"{name} needs the package {module}, which is not installed; pip install '{extra}'"
                ) from error
    if name.startswith("dm_control/"):
        register_tasks()
    if ":" in name:
        module, name = name.split(":", 1)
        see_current_folder()
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"cannot import the module of {config.env_id!r}: {error}") from error
    if name not in gym.registry:
        known = list(gym.registry)
        raise UserError(
            f"unknown environment {name!r}{closest(name, known) or '; '}"
            f" {len(known)} are registered; another package's needs 'module:Name'."
        )
    spec = gym.spec(name)
    if config.drawing == "fast":
        if name.startswith("CarRacing-"):
            spec = copy.deepcopy(spec)
            spec.entry_point = "reelworld.envs.fast_render_carracing:FastCarRacing"
            spec.kwargs["size"] = config.size or (64, 64)
        elif not name.startswith(("MiniGrid-", "BabyAI-")) and not uses_mujoco(spec):
            raise UserError(
                f"fast drawing came for {name}; it exists for MiniGrid, CarRacing and MuJoCo, use 'environment'."
            )
    return spec


def _action_specs(env_id: str, env: gym.Env) -> dict[str, ActionSpec]:
    """Describe the action streams, with the names and keys that the table or the environment has."""
    specs = stream_specs(env.action_space, env_id)
    own = environment_hints(env)
    known = {name: action_hints(env_id, spec.kind, spec.n) for name, spec in specs.items()} if len(specs) == 1 else {}
    return {name: replace(spec, **(known.get(name) or own[name])) for name, spec in specs.items()}


def _image_of(observation: object) -> object:
    """Return the first image of a dictionary observation, else the observation itself."""
    if isinstance(observation, Mapping):
        images = {k: v for k, v in observation.items() if np.ndim(v) == 3}
        if len(images) > 1:
            say_once(f"the observation has the images {', '.join(images)}; {next(iter(images))} is recorded.")
        return next(iter(images.values()), observation)
    return observation


def _as_rgb(image: object, where: str) -> np.ndarray:
    """Check one image and return a copy with three channels, uint8 (H, W, 3).

    Channels may come first; floats are in [0, 1]; an alpha channel is dropped; of a list the last frame is taken.
    """
    if isinstance(image, list) and image and isinstance(image[-1], np.ndarray):  # the frames since the last call
        image = image[-1]
    array = image if isinstance(image, np.ndarray) else None
    if array is not None and array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array is not None and array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        array = np.rint(255 * array).astype(np.uint8)
    if array is not None and array.dtype == np.uint8:
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim == 3 and array.shape[2] in (1, 3, 4) and array.size:
            colours = array[..., :3] if array.shape[2] == 4 else array
            return np.ascontiguousarray(np.broadcast_to(colours, (*array.shape[:2], 3))).copy()
    got = type(image).__name__ if array is None else f"{array.dtype} {array.shape}"
    raise UserError(
        f"{where} is {got}; wanted an image (H, W, 3), uint8 or floats in [0, 1]: use the other --frames, or a "
        "--wrapper."
    )
