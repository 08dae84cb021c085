"""Robots of MuJoCo: the tasks of dm_control as gymnasium environments, and drawing without a display.

``dm_control/cartpole-swingup``, ``dm_control/reacher-easy``, ``dm_control/cheetah-run`` ...: DOMAIN-TASK of the suite
of dm_control. They and gymnasium's own MuJoCo environments (``Reacher-v5`` ...) are drawn at the wanted size, and under
quick drawing without shadows and mirrors: without a graphics card those cost most of the time.
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

__all__ = ["DmControlTask", "DrawnInOneThread", "draw_plainly", "prepare_mujoco", "register_tasks", "uses_mujoco"]

PREFIX = "dm_control/"
PROBE = "import mujoco, os; mujoco.GLContext(64, 64).make_current(); os._exit(0)"
"""What a process must be able to do where MuJoCo can draw; closing the context is no part of it."""


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
            task: What it shall do, e.g. 'easy'.
            render_mode: 'rgb_array' or None.
            height: Pixel rows of frames.
            width: Pixel columns of frames.
            camera: Name or number of one of the model's cameras; -1 is one that sees everything.
            field_of_view: Degrees that the camera sees from top to bottom; None leaves it as it is.

        Raises:
            KeyError: If the model has no camera of that name.
        """
        from dm_control import suite

        # The model is built from this seed, whatever the episode's; reset seeds the rest.
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
        """What is simulated and drawn, ``mujoco.MjModel``; named as in gymnasium's environments."""
        return self.physics.model.ptr

    @property
    def data(self) -> Any:
        """The state, ``mujoco.MjData``; named as in gymnasium's environments."""
        return self.physics.data.ptr

    @functools.cached_property
    def _painter(self) -> Any:
        """What draws; made when the model is as it shall look."""
        import mujoco

        buffer = self.model.vis.global_
        return mujoco.Renderer(self.model, buffer.offheight, buffer.offwidth)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode; all of its random numbers come from the seed."""
        super().reset(seed=seed)
        if seed is not None:
            self._suite.task.random.seed(np.random.SeedSequence(seed).generate_state(4))
        return dict(self._suite.reset().observation), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """Take one step of the task's clock; it ends (discount 0) or its time is over."""
        step = self._suite.step(action)
        is_over = bool(step.last())
        is_terminated = is_over and step.discount == 0
        return dict(step.observation), float(step.reward), is_terminated, is_over and not is_terminated, {}

    def render(self) -> np.ndarray:
        """Draw the current state, uint8 (height, width, 3)."""
        self._painter.update_scene(self.data, self._camera)
        return self._painter.render()

    def close(self) -> None:
        """Free the picture buffers."""
        if "_painter" in vars(self):
            self._painter.close()
        self._suite.close()


def register_tasks() -> None:
    """Make the suite's tasks known to gymnasium.

    Raises:
        UserError: If nothing here can draw.
    """
    prepare_mujoco()
    from dm_control import suite

    for domain, task in suite.ALL_TASKS:
        if (name := f"{PREFIX}{domain}-{task}") not in gym.registry:
            gym.register(name, f"{__name__}:DmControlTask", kwargs={"domain": domain, "task": task})


def uses_mujoco(spec: gym.envs.registration.EnvSpec) -> bool:
    """Tell whether MuJoCo simulates and draws an environment, ours or gymnasium's, at any size asked for."""
    return str(spec.entry_point).startswith((f"{__name__}:", "gymnasium.envs.mujoco."))


class DrawnInOneThread(gym.Wrapper):
    """Draws an environment in a thread of its own, whoever asks.

    A drawing context belongs to the thread that made it, and a thread draws into the context it made last: from
    elsewhere, or with two environments in one thread, frames come out black or of the other environment.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._thread = ThreadPoolExecutor(1)
        self._is_open = True

    def render(self) -> Any:
        """Draw the current state."""
        return self._thread.submit(self.env.render).result()

    def close(self) -> None:
        """Close the environment and end the thread."""
        if self._is_open:
            self._is_open = False
            self._thread.submit(self.env.close).result()
            self._thread.shutdown()


def draw_plainly(env: gym.Env) -> None:
    """Take shadows and mirrors out of an environment that ``uses_mujoco``."""
    inner: Any = env.unwrapped
    inner.model.light_castshadow[:] = 0
    inner.model.mat_reflectance[:] = 0


def prepare_mujoco() -> None:
    """Settle how MuJoCo draws and warns, before an environment is made.

    MuJoCo itself would write its warnings into a file in the current folder, again for every episode.

    Raises:
        UserError: If MuJoCo is not installed or nothing here can draw.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise UserError("robots need the package mujoco, which is not installed; pip install 'reelworld[robotics]'")
    _choose_drawing()
    import mujoco

    mujoco.set_mju_user_warning(_warn)


@functools.cache
def _warn(text: str) -> None:
    """Pass on what MuJoCo warns of, once; old-fashioned words in a robot's description are not the user's to change."""
    if "deprecated" not in text:
        logging.getLogger(__name__).warning("MuJoCo: %s", text)


@functools.cache
def _choose_drawing() -> None:
    """Choose what draws: a graphics card (EGL) or the processor (OSMesa), unless MUJOCO_GL says it.

    It must be settled before MuJoCo is imported; so another process tries it out.
    """
    if multiprocessing.parent_process() is not None:  # the process that started this one has chosen
        return
    given = os.environ.get("MUJOCO_GL")
    names = [given] if given else ["egl", "osmesa"] if sys.platform == "linux" else [""]
    for name in names:
        tried = subprocess.run(
            [sys.executable, "-c", PROBE], env={**os.environ, "MUJOCO_GL": name}, capture_output=True, check=False
        )
        if tried.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return
    raise UserError(
        f"MuJoCo cannot draw here ({f'MUJOCO_GL={given}' if given else 'neither by EGL nor by OSMesa'} fails); "
        "on Debian: apt install libosmesa6, or libegl1 with libgl1-mesa-dri, and leave MUJOCO_GL unset."
    )
