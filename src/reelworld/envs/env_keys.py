"""Keys and action names of an environment's own methods, as ``gymnasium.utils.play`` reads them.

``get_keys_to_action()`` maps keys to actions: one key or several held together, as characters or as pygame's codes.
``get_action_meanings()`` names discrete actions. Action 0 is the null action unless it has a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from reelworld.envs.action_spaces import leaves, split

_CODES = {8: "Backspace", 9: "Tab", 13: "Enter", 27: "Escape", 32: "Space"} | {
    (1 << 30) + code: name
    for code, name in {79: "ArrowRight", 80: "ArrowLeft", 81: "ArrowDown", 82: "ArrowUp", 225: "ShiftLeft"}.items()
}
"""pygame's code -> the browser's KeyboardEvent.code; letters and digits are their characters."""


def environment_hints(env: gym.Env) -> dict[str, dict[str, Any]]:
    """Return the fields of each stream's ``ActionSpec`` that an environment defines: keys, null and names.

    Keys without a browser code and actions outside the space are left out. Where an action is one of several streams,
    a key belongs to the streams in which it differs from the null action: id 0, or zeros.
    """
    space = env.action_space
    kinds = dict(leaves(space))
    hints: dict[str, dict[str, Any]] = {name: {} for name in kinds}
    if env.has_wrapper_attr("get_keys_to_action"):
        table = env.get_wrapper_attr("get_keys_to_action")()
        for key, action in table.items() if isinstance(table, Mapping) else ():
            codes = _held(key)
            for name, value in split(space, action).items() if codes and _is_member(space, action) else ():
                if len(kinds) == 1 or any(np.ravel(value)):
                    hints[name].setdefault("keys", {})[codes] = value
    for name, part in kinds.items():
        keys = hints[name].get("keys")
        if isinstance(part, gym.spaces.Discrete) and keys and 0 not in keys.values():
            hints[name]["null"] = 0
    if len(kinds) == 1 and env.has_wrapper_attr("get_action_meanings"):
        ((name, part),) = kinds.items()
        names = tuple(str(meaning).lower() for meaning in env.get_wrapper_attr("get_action_meanings")())
        n = int(np.prod(part.n)) if isinstance(part, gym.spaces.Discrete | gym.spaces.MultiBinary) else 0
        if len(names) == n:
            hints[name]["names"] = names
    return hints


def _is_member(space: gym.Space[Any], action: object) -> bool:
    """Return whether an action is in the space; lists and tuples count as arrays."""
    if space.contains(action):
        return True
    is_list = isinstance(action, list | tuple) and isinstance(space, gym.spaces.MultiBinary | gym.spaces.MultiDiscrete)
    return is_list and space.contains(np.asarray(action, space.dtype))


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
