"""MuJoCo robots: the tasks of dm_control as gymnasium environments, and rendering without a display.

Names are ``dm_control/DOMAIN-TASK``: ``dm_control/cartpole-swingup``, ``dm_control/reacher-easy`` ... They and
gymnasium's MuJoCo environments (``Reacher-v5`` ...) are rendered at the requested size. Fast rendering leaves out
shadows and mirrors, which cost most of the time without a graphics card.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np

from reelworld.types import UserError

PREFIX = "dm_control/"
PROBE = "import mujoco, os; mujoco.GLContext(64, 64).make_current(); os._exit(0)"
"""Program that succeeds where MuJoCo can render; closing the context is not part of the test."""


class DmControlTask(gym.Env):
    """One task of dm_control's suite."""

    def __init__(
        self,
        domain: str,
        task: str,
        *,
        render_mode: str | None = None,
        height: int = 64,
        width: int = 64,
        camera: int | str = 0,
        field_of_view: float | None = None,
    ) -> None:
        """Build the task.

        Args:
            domain: The robot, e.g. 'reacher'.
            task: The task, e.g. 'easy'.
            render_mode: 'rgb_array' or None.
            height: Pixel rows of frames.
            width: Pixel columns of frames.
            camera: Name or number of one of the model's cameras; -1 is a free one that shows everything.
            field_of_view: Vertical degrees; None keeps the camera's own.

        Raises:
            KeyError: If the model has no camera of that name.
        """
        from dm_control import suite

        # This seed builds the model, for every episode; reset seeds the rest.
        self._suite: Any = suite.load(domain, task, task_kwargs={"random": 0})
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / self._suite.control_timestep(), 3)}
        spec = self._suite.action_spec()
        self.action_space = gym.spaces.Box(
            np.broadcast_to(spec.minimum, spec.shape).astype(np.float32),
            np.broadcast_to(spec.maximum, spec.shape).astype(np.float32),
        )
        self.observation_space = gym.spaces.Dict(
            {
                name: gym.spaces.Box(-np.inf, np.inf, part.shape, np.float64)
                for name, part in self._suite.observation_spec().items()
            }
        )
        model = self.model
        self._camera = model.camera(camera).id  # KeyError where there is none
        if field_of_view is not None:
            model.cam_fovy[self._camera] = field_of_view
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width

    @property
    def physics(self) -> Any:
        """The simulation, dm_control's ``Physics``."""
        return self._suite.physics

    @property
    def model(self) -> Any:
        """The model, ``mujoco.MjModel``; named as in gymnasium's environments."""
        return self.physics.model.ptr

    @property
    def data(self) -> Any:
        """The state, ``mujoco.MjData``; named as in gymnasium's environments."""
        return self.physics.data.ptr

    @functools.cached_property
    def _renderer(self) -> Any:
        """The renderer; built after the model is changed."""
        import mujoco

        buffer = self.model.vis.global_
        return mujoco.Renderer(self.model, buffer.offheight, buffer.offwidth)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Start an episode; all its random numbers come from the seed."""
        super().reset(seed=seed)
        if seed is not None:
            self._suite.task.random.seed(np.random.SeedSequence(seed).generate_state(4))
        return dict(self._suite.reset().observation), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, object]]:
        """Take one control step; discount 0 terminates, the time limit truncates."""
        step = self._suite.step(action)
        is_over = bool(step.last())
        is_terminated = is_over and step.discount == 0
        return dict(step.observation), float(step.reward), is_terminated, is_over and not is_terminated, {}

    def render(self) -> np.ndarray:
        """Render the current state, uint8 (height, width, 3)."""
        self._renderer.update_scene(self.data, self._camera)
        out: np.ndarray = self._renderer.render()
        return out

    def close(self) -> None:
        """Free the buffers of the renderer."""
        if "_renderer" in vars(self):
            self._renderer.close()
        self._suite.close()


def register_tasks() -> None:
    """Register the suite's tasks with gymnasium.

    Raises:
        UserError: If no backend can render.
    """
    prepare_mujoco()
    from dm_control import suite

    for domain, task in suite.ALL_TASKS:
        if (name := f"{PREFIX}{domain}-{task}") not in gym.registry:
            gym.register(name, f"{__name__}:DmControlTask", kwargs={"domain": domain, "task": task})


def uses_mujoco(spec: gym.envs.registration.EnvSpec) -> bool:
    """Return True for MuJoCo environments, ours or gymnasium's: they render at any size."""
    return str(spec.entry_point).startswith((f"{__name__}:", "gymnasium.envs.mujoco."))


class RenderThread(gym.Wrapper):
    """Environment that is rendered in a thread of its own, called from any.

    An OpenGL context belongs to the thread that made it, and a thread renders into the context it made last. From
    another thread, or with two environments in one, frames come out black or of the other environment.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._thread = ThreadPoolExecutor(1)
        self._is_open = True

    def render(self) -> Any:
        """Render the current state."""
        return self._thread.submit(self.env.render).result()

    def close(self) -> None:
        """Close the environment and end the thread."""
        if self._is_open:
            self._is_open = False
            self._thread.submit(self.env.close).result()
            self._thread.shutdown()


def remove_shadows(env: gym.Env) -> None:
    """Remove shadows and mirrors from an environment that ``uses_mujoco``."""
    inner: Any = env.unwrapped
    inner.model.light_castshadow[:] = 0
    inner.model.mat_reflectance[:] = 0


def prepare_mujoco() -> None:
    """Choose MuJoCo's rendering backend and log its warnings, before an environment is made.

    MuJoCo itself would write its warnings into a file in the current folder, again for every episode.

    Raises:
        UserError: If MuJoCo is not installed or no backend can render.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise UserError("robots need the package mujoco, which is not installed; pip install 'reelworld[robotics]'")
    _choose_backend()
    import mujoco

    mujoco.set_mju_user_warning(_warn)


@functools.cache
def _warn(text: str) -> None:
    """Log a warning once, unless it is about deprecated words in a robot's description."""
    if "deprecated" not in text:
        logging.getLogger(__name__).warning("MuJoCo: %s", text)


@functools.cache
def _choose_backend() -> None:
    """Choose the graphics card (EGL) or the processor (OSMesa), unless MUJOCO_GL is set.

    The choice must precede the import of MuJoCo; another process therefore tests it.
    """
    if multiprocessing.parent_process() is not None:  # the parent process has chosen
        return
    chosen = os.environ.get("MUJOCO_GL")
    names = [chosen] if chosen else ["egl", "osmesa"] if sys.platform == "linux" else [""]
    for name in names:
        tried = subprocess.run(
            [sys.executable, "-c", PROBE], env={**os.environ, "MUJOCO_GL": name}, capture_output=True, check=False
        )
        if tried.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return
    raise UserError(
        f"MuJoCo cannot draw here ({f'MUJOCO_GL={chosen}' if chosen else 'neither by EGL nor by OSMesa'} fails); "
        "on Debian: apt install libosmesa6, or libegl1 with libgl1-mesa-dri, and leave MUJOCO_GL unset."
    )
