"""How a person's keys become a world's actions.

``Controls`` describes the action streams to a client (names, ranges, keys, null action), fills in keys for
streams that came without a key map, and checks what a client sends before it reaches a session.

Shapes: A action width
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from reelworld.config import to_json
from reelworld.rollout.validation import null_action
from reelworld.serve.protocol import ProtocolError
from reelworld.types import ActionSpec

__all__ = ["Controls"]

_ID_KEYS = [f"Digit{i}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)] + [f"Key{c}" for c in "QWERTYUIOASDFGHJKLZXCVBNM"]
_AXIS_KEYS = [("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"), ("KeyA", "KeyD"), ("KeyS", "KeyW")]
_AXIS_KEYS += [("KeyQ", "KeyE"), ("KeyF", "KeyG"), ("KeyZ", "KeyX"), ("KeyC", "KeyV")]


class Controls:
    """The action streams of one world, as a player sees them."""

    def __init__(self, specs: Mapping[str, ActionSpec]) -> None:
        self.specs = {name: _with_keys(spec) for name, spec in specs.items()}

    @property
    def is_turn_based(self) -> bool:
        """True when some stream has no null action: the world waits for the player."""
        return any(spec.null is None for spec in self.specs.values())

    def describe(self) -> dict[str, Any]:
        """Return the streams as JSON values: kind, n, names, low, high, null, keys, repeat."""
        return {name: to_json(spec) for name, spec in self.specs.items()}

    def choices(self) -> list[tuple[str, Any]]:
        """List the single actions a player has: (stream, id or list of numbers), those of single keys at least."""
        found: list[tuple[str, Any]] = []
        for name, spec in self.specs.items():
            values = range(spec.n) if spec.kind == "discrete" else [list(v) for v in _key_values(spec)]
            found += [(name, value) for value in values]
        return found

    def rest(self) -> dict[str, np.ndarray]:
        """Return the actions of a player who presses nothing, one (1,) or (1, A) array per stream."""
        return self.read({})

    def read(self, actions: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Check a client's actions.

        Args:
            actions: Stream name -> id (discrete) or list of A numbers (continuous), as JSON gave them.

        Returns:
            Stream name -> int64 (1,) or float32 (1, A); streams not given take their null action, or
            the first id or the middle of the range where there is none.

        Raises:
            ProtocolError: If a stream is unknown or a value has the wrong type, width or range.
        """
        for name in actions:
            if name not in self.specs:
                raise ProtocolError(f"this world's actions are {', '.join(self.specs) or 'none'}")
        return {name: _read(name, spec, actions.get(name, _resting(spec))) for name, spec in self.specs.items()}


def _key_values(spec: ActionSpec) -> list[tuple[float, ...]]:
    single = [v for keys, v in spec.keys.items() if "+" not in keys and not isinstance(v, int)]
    return list(dict.fromkeys(tuple(v) for v in single))


def _resting(spec: ActionSpec) -> int | list[float]:
    rest = null_action(spec)
    return rest if spec.kind == "discrete" else list(rest)


def _ranges(spec: ActionSpec) -> list[tuple[float, float]]:
    """Return (low, high) per dimension; what is unknown or unbounded becomes [-1, 1]."""
    low, high = spec.low or (-1.0,) * spec.n, spec.high or (1.0,) * spec.n
    pairs = zip(low, high, strict=True)
    return [(lo, hi) if math.isfinite(lo) and math.isfinite(hi) else (-1.0, 1.0) for lo, hi in pairs]


def _read(name: str, spec: ActionSpec, value: Any) -> np.ndarray:
    if spec.kind == "discrete":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < spec.n:
            raise ProtocolError(f"{name} must be a whole number from 0 to {spec.n - 1}")
        return np.array([value], np.int64)
    if not isinstance(value, list) or len(value) != spec.n:
        raise ProtocolError(f"{name} must be a list of {spec.n} numbers")
    for number, (low, high) in zip(value, _ranges(spec), strict=True):
        # The comparison also turns away NaN; a margin lets values through that JSON rounded.
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not low - 1e-4 <= number <= high + 1e-4:
            raise ProtocolError(f"{name} must stay within its range, here {low:g} to {high:g}")
    low, high = np.array(_ranges(spec)).T
    return np.clip(np.array([value]), low, high).astype(np.float32)


def _with_keys(spec: ActionSpec) -> ActionSpec:
    """Give a stream without a key map keys: one per id, or a pair of opposite ones per dimension."""
    if spec.keys:
        return spec
    if spec.kind == "discrete":
        return replace(spec, keys=dict(zip(_ID_KEYS, range(spec.n), strict=False)))
    keys: dict[str, tuple[float, ...]] = {}
    rest = _resting(spec)
    assert isinstance(rest, list), rest
    for axis, (pair, ends) in enumerate(zip(_AXIS_KEYS, _ranges(spec), strict=False)):
        for key, end in zip(pair, ends, strict=True):
            if end != rest[axis]:
                keys[key] = (*rest[:axis], end, *rest[axis + 1 :])
    return replace(spec, keys=keys)
