"""Configuration of a simulator, and two tables for known environments: recording settings, action names and keys.

Keys are the browser's KeyboardEvent.code; keys held together are joined by '+', in any order. Of the entries whose
keys are all held, the one with the most keys counts; among equals, the one pressed last. When no key is held the null
action counts; an action stream without a null action waits for a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from reelworld.types import UserError

Kind = Literal["discrete", "continuous", "buttons"]


@dataclass(frozen=True, kw_only=True)
class WrapperConfig:
    """One gymnasium wrapper around the environment."""

    path: str
    """Import path, 'module:Class'."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class, besides the environment."""


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """Settings that decide which frame follows which action."""

    env_id: str
    """Name of a gymnasium environment; 'module:Name' imports the module first."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for gymnasium.make."""
    wrappers: tuple[WrapperConfig, ...] = ()
    """Wrappers, the innermost first."""
    frames: Literal["render", "observation"] = "render"
    """Source of frames: the environment's rgb_array rendering or its observation."""
    drawing: Literal["environment", "fast"] = "environment"
    """Renderer: the environment's, or a fast one (MiniGrid: equal pixels; CarRacing: own style; MuJoCo: without
    shadows and mirrors)."""
    size: tuple[int, int] | None = None
    """Rows and columns to resize frames to; None keeps the environment's size."""
    resize: Literal["area", "nearest"] = "area"
    """Resize by the exact mean over the covered area, or to the nearest pixel."""
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
_SIDE_VIEW = {"trackbodyid": 1, "distance": 3.0, "elevation": -10.0}
_TOP_VIEW = {"trackbodyid": -1, "lookat": [0.0, 0.0, 0.0], "distance": 0.6, "elevation": -90.0, "azimuth": 90.0}

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
    "dm_control/*": _ROBOT | {"action_repeat": 2},
    # 56 degrees show the whole rail; the stock 45 lose the cart at its ends.
    "dm_control/cartpole-*": {
        "env_kwargs": {"field_of_view": 56},
        "action_repeat": 4,
        "policy": "balancer:0.9,smooth:0.1",
    },
    "dm_control/*_poles": {"policy": "smooth"},
    "dm_control/reacher-*": {"policy": "reacher:0.8,smooth:0.2"},
    "dm_control/cheetah-*": {"action_repeat": 4},
    **dict.fromkeys(("Ant-v*", "Hopper-v*", "Humanoid*-v*", "Inverted*Pendulum-v*", "Pusher-v*"), _ROBOT),
    **dict.fromkeys(("Swimmer-v*", "Walker2d-v*"), _ROBOT),
    # From nearby: the stock camera makes the robot a sixth of the picture.
    "HalfCheetah-v*": _ROBOT | {"env_kwargs": {"camera_id": -1, "default_camera_config": _SIDE_VIEW}},
    "InvertedPendulum-v*": {"policy": "balancer:0.9,smooth:0.1"},
    # From above, as near as the arm allows.
    "Reacher-v*": _ROBOT | {"env_kwargs": {"default_camera_config": _TOP_VIEW}, "policy": "reacher:0.8,smooth:0.2"},
}
"""Pattern -> fields of ``SimulatorConfig``, policy and max_steps of a recording; later patterns win."""


def preset(env_id: str) -> dict[str, Any]:
    """Return the settings for an environment; empty for an unknown one."""
    settings: dict[str, Any] = {}
    for pattern, fields in PRESETS.items():
        if fnmatchcase(env_id, pattern):
            settings |= fields
    return settings


def _arrows(**actions: int | tuple[float, ...]) -> dict[str, int | tuple[float, ...]]:
    """Assign actions to the arrow keys and to WASD.

    Args:
        actions: 'up', 'down', 'left', 'right', or two of them joined by '_' -> action.
    """
    arrows = {"up": "ArrowUp", "down": "ArrowDown", "left": "ArrowLeft", "right": "ArrowRight"}
    letters = {"up": "KeyW", "down": "KeyS", "left": "KeyA", "right": "KeyD"}
    return {
        "+".join(names[part] for part in combination.split("_")): action
        for names in (arrows, letters)
        for combination, action in actions.items()
    }


def _chords(**vectors: tuple[float, ...]) -> dict[str, int | tuple[float, ...]]:
    """Assign vectors to the four directions, and the sum of two vectors to two directions held together."""
    chords = {
        f"{y}_{x}": tuple(a + b for a, b in zip(vectors[y], vectors[x], strict=True))
        for y in ("up", "down")
        for x in ("left", "right")
    }
    return _arrows(**vectors, **chords)


_PUSH: dict[str, Any] = {"names": ("push",), "null": (0.0,), "keys": _arrows(left=(-1.0,), right=(1.0,))}
_ARM: dict[str, Any] = {
    "names": ("shoulder", "wrist"),
    "null": (0.0, 0.0),
    "keys": _chords(left=(1.0, 0.0), right=(-1.0, 0.0), up=(0.0, 1.0), down=(0.0, -1.0)),
}

ACTIONS: dict[tuple[str, Kind, int], dict[str, Any]] = {
    ("MiniGrid-*", "discrete", 7): {
        "names": ("turn left", "turn right", "forward", "pick up", "drop", "toggle", "done"),
        "keys": {"ArrowLeft": 0, "ArrowRight": 1, "ArrowUp": 2, "KeyP": 3, "KeyD": 4, "Space": 5},
    },
    ("CarRacing-*", "discrete", 9): {
        "names": tuple(f"{s}+{p}" for s in ("left", "straight", "right") for p in ("gas", "coast", "brake")),
        "null": 4,
        "keys": _arrows(up=3, down=5, left=1, right=7, up_left=0, up_right=6, down_left=2, down_right=8),
    },
    ("CarRacing-*", "discrete", 5): {
        "names": ("coast", "right", "left", "gas", "brake"),
        "null": 0,
        "keys": _arrows(right=1, left=2, up=3, down=4),
    },
    ("CarRacing-*", "continuous", 3): {
        "names": ("steer", "gas", "brake"),
        "null": (0.0, 0.0, 0.0),
        "keys": _chords(up=(0.0, 0.3, 0.0), down=(0.0, 0.0, 0.5), left=(-0.6, 0.0, 0.0), right=(0.6, 0.0, 0.0)),
    },
    ("dm_control/cartpole-*", "continuous", 1): _PUSH,
    ("InvertedPendulum-*", "continuous", 1): _PUSH,
    ("dm_control/reacher-*", "continuous", 2): _ARM,
    ("Reacher-*", "continuous", 2): _ARM,
}
"""(Pattern, kind and number of actions) -> names, null and keys of ``ActionSpec``."""


def action_hints(env_id: str, kind: Kind, n: int) -> dict[str, Any]:
    """Return names, null action and keys of an environment's actions; empty for unknown ones."""
    for (pattern, known_kind, known_n), hints in ACTIONS.items():
        if fnmatchcase(env_id, pattern) and (kind, n) == (known_kind, known_n):
            return hints
    return {}
