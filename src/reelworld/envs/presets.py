"""What describes a simulator; good settings for environments we know; names and keys of their actions.

Keys are the browser's KeyboardEvent.code. Keys held together are joined by '+', in any order: of the entries
whose keys are all held, the one with the most keys counts; among equals, the one pressed last. When none is
held the null action counts; an action stream without one waits for a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from reelworld.types import UserError

__all__ = ["CAR_PEDALS", "CAR_STEERINGS", "PRESETS", "SimulatorConfig", "WrapperConfig", "action_hints", "preset"]


@dataclass(frozen=True, kw_only=True)
class WrapperConfig:
    """One gymnasium wrapper around the environment."""

    path: str
    """Where it lives, 'module:Class'."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class, besides the environment."""


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """Everything that decides which frame follows which action."""

    env_id: str
    """Name of a gymnasium environment; 'module:Name' imports the module first."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for gymnasium.make."""
    wrappers: tuple[WrapperConfig, ...] = ()
    """Wrappers, the innermost first."""
    frames: Literal["render", "observation"] = "render"
    """Where frames come from: the environment's rgb_array rendering or its observation."""
    drawing: Literal["environment", "fast"] = "environment"
    """Who draws: the environment, or our own quick drawing (MiniGrid: the same pixels; CarRacing: its own;
    MuJoCo: no shadows and mirrors)."""
    size: tuple[int, int] | None = None
    """Rows and columns to resize frames to; none keeps the environment's size."""
    resize: Literal["area", "nearest"] = "area"
    """How frames are resized: exact mean over the covered area, or the nearest pixel."""
    action_repeat: int = 1
    """Environment steps for which an action is held; rewards are summed, the last frame is kept."""
    warmup_steps: int = 0
    """Environment steps taken with the null action before the first frame."""

    def __post_init__(self) -> None:
        if self.action_repeat < 1 or self.warmup_steps < 0:
            raise UserError(
                f"action_repeat is {self.action_repeat} and warmup_steps {self.warmup_steps}; "
                "wanted at least 1 and at least 0."
            )
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"size is {self.size[0]}x{self.size[1]}; both must be at least 1.")


CAR_STEERINGS = (-0.6, 0.0, 0.6)
"""Left, straight, right."""
CAR_PEDALS = ((0.3, 0.0), (0.0, 0.0), (0.0, 0.5))
"""(gas, brake) of: gas, coast, brake."""

_ROBOT: dict[str, Any] = {"drawing": "fast", "size": (64, 64), "policy": "smooth"}
# Pattern -> settings of ``SimulatorConfig`` and of the recording; later patterns win over earlier ones.
PRESETS: dict[str, dict[str, Any]] = {
    "MiniGrid-*": {
        "env_kwargs": {"highlight": False, "tile_size": 8},
        "drawing": "fast",
        "policy": "explorer:0.6,solver:0.2,random:0.2",
        "max_steps": 120,
    },
    "CarRacing-v*": {
        # The zoom-in at the start lasts 50 steps; gymnasium's own limit of 1,000 would cut the recording.
        "env_kwargs": {"continuous": True, "max_episode_steps": -1},
        "wrappers": (WrapperConfig(path="reelworld.envs.fast_render_carracing:JointActions"),),
        "drawing": "fast",
        "size": (64, 64),
        "action_repeat": 3,
        "warmup_steps": 50,
        "policy": "driver",
        "max_steps": 320,
    },
    "dm_control/*": {**_ROBOT, "action_repeat": 2},
    "dm_control/cartpole-*": {
        "env_kwargs": {"field_of_view": 56},  # the whole rail; the stock 45 degrees lose the cart at its ends
        "action_repeat": 4,
        "policy": "balancer:0.9,smooth:0.1",
    },
    "dm_control/*_poles": {"policy": "smooth"},
    "dm_control/reacher-*": {"policy": "reacher:0.8,smooth:0.2"},
    "dm_control/cheetah-*": {"action_repeat": 4},
    **{
        f"{robot}-v*": _ROBOT
        for robot in ("Ant", "Hopper", "Humanoid*", "Inverted*Pendulum", "Pusher", "Swimmer", "Walker2d")
    },
    "HalfCheetah-v*": {  # from nearby; the stock camera makes it a sixth of the picture
        **_ROBOT,
        "env_kwargs": {
            "camera_id": -1,
            "default_camera_config": {"trackbodyid": 1, "distance": 3.0, "elevation": -10.0},
        },
    },
    "InvertedPendulum-v*": {"policy": "balancer:0.9,smooth:0.1"},
    "Reacher-v*": {
        **_ROBOT,
        "env_kwargs": {  # from above, as near as the arm allows
            "default_camera_config": {
                "trackbodyid": -1,
                "lookat": [0.0, 0.0, 0.0],
                "distance": 0.6,
                "elevation": -90.0,
                "azimuth": 90.0,
            },
        },
        "policy": "reacher:0.8,smooth:0.2",
    },
}


def preset(env_id: str) -> dict[str, Any]:
    """Settings for an environment; empty when we do not know it."""
    found: dict[str, Any] = {}
    for pattern, settings in PRESETS.items():
        if fnmatchcase(env_id, pattern):
            found |= settings
    return found


def _arrows(actions: Mapping[str, Any]) -> dict[str, Any]:
    """Give 'up', 'down+left', ... as arrow keys and as WASD."""
    arrows = {"up": "ArrowUp", "down": "ArrowDown", "left": "ArrowLeft", "right": "ArrowRight"}
    letters = {"up": "KeyW", "down": "KeyS", "left": "KeyA", "right": "KeyD"}
    return {
        "+".join(names[part] for part in combination.split("+")): action
        for names in (arrows, letters)
        for combination, action in actions.items()
    }


_PUSH: dict[str, Any] = {"names": ("push",), "null": (0.0,), "keys": _arrows({"left": (-1.0,), "right": (1.0,)})}
_ARM: dict[str, Any] = {
    "names": ("shoulder", "wrist"),
    "null": (0.0, 0.0),
    "keys": _arrows(
        {
            "left": (1.0, 0.0),
            "right": (-1.0, 0.0),
            "up": (0.0, 1.0),
            "down": (0.0, -1.0),
            "up+left": (1.0, 1.0),
            "up+right": (-1.0, 1.0),
            "down+left": (1.0, -1.0),
            "down+right": (-1.0, -1.0),
        }
    ),
}

# (pattern, kind, n) -> fields of ActionSpec.
ACTIONS: dict[tuple[str, Literal["discrete", "continuous"], int], dict[str, Any]] = {
    ("MiniGrid-*", "discrete", 7): {
        "names": ("turn left", "turn right", "forward", "pick up", "drop", "toggle", "done"),
        "keys": {"ArrowLeft": 0, "ArrowRight": 1, "ArrowUp": 2, "KeyP": 3, "KeyD": 4, "Space": 5},
    },
    ("CarRacing-*", "discrete", 9): {
        "names": tuple(f"{s}+{p}" for s in ("left", "straight", "right") for p in ("gas", "coast", "brake")),
        "null": 4,
        "keys": _arrows(
            {
                "up": 3,
                "down": 5,
                "left": 1,
                "right": 7,
                "up+left": 0,
                "up+right": 6,
                "down+left": 2,
                "down+right": 8,
            }
        ),
    },
    ("CarRacing-*", "discrete", 5): {
        "names": ("coast", "right", "left", "gas", "brake"),
        "null": 0,
        "keys": _arrows({"right": 1, "left": 2, "up": 3, "down": 4}),
    },
    ("CarRacing-*", "continuous", 3): {
        "names": ("steer", "gas", "brake"),
        "null": (0.0, 0.0, 0.0),
        "keys": _arrows(
            {
                "up": (0.0, 0.3, 0.0),
                "down": (0.0, 0.0, 0.5),
                "left": (-0.6, 0.0, 0.0),
                "right": (0.6, 0.0, 0.0),
                "up+left": (-0.6, 0.3, 0.0),
                "up+right": (0.6, 0.3, 0.0),
                "down+left": (-0.6, 0.0, 0.5),
                "down+right": (0.6, 0.0, 0.5),
            }
        ),
    },
    ("dm_control/cartpole-*", "continuous", 1): _PUSH,
    ("InvertedPendulum-*", "continuous", 1): _PUSH,
    ("dm_control/reacher-*", "continuous", 2): _ARM,
    ("Reacher-*", "continuous", 2): _ARM,
}


def action_hints(env_id: str, kind: Literal["discrete", "continuous"], n: int) -> dict[str, Any]:
    """Names, null and keys of an environment's actions; empty when we do not know them."""
    for (pattern, known_kind, known_n), hints in ACTIONS.items():
        if fnmatchcase(env_id, pattern) and (kind, n) == (known_kind, known_n):
            return hints
    return {}
