"""Keys and action names of an environment's own methods, as ``gymnasium.utils.play`` reads them.

``get_keys_to_action()`` maps keys to actions: one key or several held together, as characters or as pygame's codes.
``get_action_meanings()`` names discrete actions. Action 0 is the null action unless it has a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

_CODES = {8: "Backspace", 9: "Tab", 13: "Enter", 27: "Escape", 32: "Space"} | {
    (1 << 30) + code: name
    for code, name in {79: "ArrowRight", 80: "ArrowLeft", 81: "ArrowDown", 82: "ArrowUp", 225: "ShiftLeft"}.items()
}
"""pygame's code -> the browser's KeyboardEvent.code; letters and digits are their characters."""


def environment_hints(env: gym.Env) -> dict[str, Any]:
    """Return the fields of ``ActionSpec`` that an environment defines; empty for most.

    Keys without a browser code and actions outside the space are left out.
    """
    space = env.action_space
    hints: dict[str, Any] = {}
    if env.has_wrapper_attr("get_keys_to_action"):
        table = env.get_wrapper_attr("get_keys_to_action")()
        keys = {_held(key): action for key, action in table.items()} if isinstance(table, Mapping) else {}
        keys = {key: _plain(action, space) for key, action in keys.items() if key and space.contains(action)}
        if keys:
            hints["keys"] = keys
    if isinstance(space, gym.spaces.Discrete):
        if "keys" in hints and 0 not in hints["keys"].values():
            hints["null"] = 0
        if env.has_wrapper_attr("get_action_meanings"):
            names = tuple(str(name).lower() for name in env.get_wrapper_attr("get_action_meanings")())
            if len(names) == space.n:
                hints["names"] = names
    return hints


def _held(key: object) -> str:
    """Format one key or a chord as browser codes; empty when a key has none."""
    parts = key if isinstance(key, tuple) else tuple(key) if isinstance(key, str) else (key,)
    names = [_name(part) for part in parts]
    return "+".join(names) if names and all(names) else ""


def _name(key: object) -> str:
    code = ord(key) if isinstance(key, str) and len(key) == 1 else key
    if not isinstance(code, int):
        return ""
    character = chr(code).upper() if code < 128 else ""
    if character.isalpha():
        return f"Key{character}"
    return f"Digit{character}" if character.isdigit() else _CODES.get(code, "")


def _plain(action: Any, space: gym.Space[object]) -> int | tuple[float, ...]:
    """Turn an action into an id from 0 on, or into plain numbers."""
    return int(action) - int(space.start) if isinstance(space, gym.spaces.Discrete) else tuple(map(float, action))
