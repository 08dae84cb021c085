"""Controls: a client's key presses as actions of a world.

``Controls`` describes the action streams to clients, gives keys to streams without a key map, and validates the
actions of a client. It is the only such check between the network and the session.

Shapes: A action width
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import replace

import numpy as np

from reelworld.config import to_json
from reelworld.rollout.actions import null_action
from reelworld.serve.protocol import ProtocolError
from reelworld.types import ActionSpec

_ID_KEYS = [f"Digit{i}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)] + [f"Key{c}" for c in "QWERTYUIOASDFGHJKLZXCVBNM"]
_AXIS_KEYS = [("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"), ("KeyA", "KeyD"), ("KeyS", "KeyW")]
_AXIS_KEYS += [("KeyQ", "KeyE"), ("KeyF", "KeyG"), ("KeyZ", "KeyX"), ("KeyC", "KeyV")]


class Controls:
    """Action streams of one world, with a key map each."""

    def __init__(self, specs: Mapping[str, ActionSpec]) -> None:
        taken = {key for spec in specs.values() for keys in spec.keys for key in keys.split("+")}
        self.specs = {}
        for name, spec in specs.items():
            self.specs[name] = _with_keys(spec, taken)
            taken |= self.specs[name].keys.keys()

    @property
    def is_turn_based(self) -> bool:
        """True when a stream has no null action: the world waits for its player."""
        return any(spec.null is None for spec in self.specs.values())

    def describe(self) -> dict[str, object]:
        """Return the streams as JSON values: kind, n, names, low, high, null, keys, repeat."""
        return {name: to_json(spec) for name, spec in self.specs.items()}

    def single_actions(self) -> list[tuple[str, int | list[float]]]:
        """List the actions of single keys as (stream, id or list of numbers); all ids of discrete streams."""
        actions: list[tuple[str, int | list[float]]] = []
        for name, spec in self.specs.items():
            values = range(spec.n) if spec.kind == "discrete" else [list(v) for v in _key_values(spec)]
            actions += [(name, value) for value in values]
        return actions

    def null(self) -> dict[str, np.ndarray]:
        """Return the null actions, one (1,) or (1, A) array per stream."""
        return self.parse({})

    def parse(self, actions: object) -> dict[str, np.ndarray]:
        """Validate a client's actions.

        Args:
            actions: Stream name -> id (discrete), or list of A numbers (continuous) or of zeros and ones (buttons), as
                parsed from JSON.

        Returns:
            Stream name -> int64 (1,) or float32 (1, A). Absent streams take their null action, or the first id or
            the middle of the range where they have none.

        Raises:
            ProtocolError: If a stream is unknown or a value has the wrong type, width or range.
        """
        if not isinstance(actions, dict):
            raise ProtocolError("actions must be an object")
        for name in actions:
            if name not in self.specs:
                raise ProtocolError(f"this world's actions are {', '.join(self.specs) or 'none'}")
        return {name: _parse(name, spec, actions.get(name, _null(spec))) for name, spec in self.specs.items()}


def _key_values(spec: ActionSpec) -> list[tuple[float, ...]]:
    single = [v for keys, v in spec.keys.items() if "+" not in keys and not isinstance(v, int)]
    return list(dict.fromkeys(tuple(v) for v in single))


def _null(spec: ActionSpec) -> int | list[float]:
    null = null_action(spec)
    return null if spec.kind == "discrete" else list(null)


def _bounds(spec: ActionSpec) -> list[tuple[float, float]]:
    """Return (low, high) per dimension; missing or infinite bounds become [-1, 1]."""
    low, high = spec.low or (-1.0,) * spec.n, spec.high or (1.0,) * spec.n
    pairs = zip(low, high, strict=True)
    return [(lo, hi) if math.isfinite(lo) and math.isfinite(hi) else (-1.0, 1.0) for lo, hi in pairs]


def _parse(name: str, spec: ActionSpec, value: object) -> np.ndarray:
    if spec.kind == "discrete":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < spec.n:
            raise ProtocolError(f"{name} must be a whole number from 0 to {spec.n - 1}")
        return np.array([value], np.int64)
    if spec.kind == "buttons":
        if not isinstance(value, list) or len(value) != spec.n or any(v not in (0, 1) for v in value):
            raise ProtocolError(f"{name} must be a list of {spec.n} zeros and ones")
        return np.array([value], np.float32)
    if not isinstance(value, list) or len(value) != spec.n:
        raise ProtocolError(f"{name} must be a list of {spec.n} numbers")
    for number, (low, high) in zip(value, _bounds(spec), strict=True):
        # The comparison also refuses NaN; a margin accepts values that JSON rounded.
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not low - 1e-4 <= number <= high + 1e-4:
            raise ProtocolError(f"{name} must stay within its range, here {low:g} to {high:g}")
    low, high = np.array(_bounds(spec)).T
    out: np.ndarray = np.clip(np.array([value]), low, high).astype(np.float32)
    return out


def _with_keys(spec: ActionSpec, taken: Set[str]) -> ActionSpec:
    """Add a key map where there is none: a key per id or button, or a pair of opposite keys per dimension.

    Args:
        spec: The stream.
        taken: Keys of other streams, which are not used again.
    """
    if spec.keys:
        return spec
    free = [key for key in _ID_KEYS if key not in taken]
    if spec.kind == "discrete":
        return replace(spec, keys=dict(zip(free, range(spec.n), strict=False)))
    if spec.kind == "buttons":
        buttons = np.eye(spec.n).tolist()
        return replace(spec, keys={key: tuple(button) for key, button in zip(free, buttons, strict=False)})
    keys: dict[str, tuple[float, ...]] = {}
    null = _null(spec)
    assert isinstance(null, list), null
    free_pairs = [pair for pair in _AXIS_KEYS if taken.isdisjoint(pair)]
    for axis, (pair, ends) in enumerate(zip(free_pairs, _bounds(spec), strict=False)):
        for key, end in zip(pair, ends, strict=True):
            if end != null[axis]:
                keys[key] = (*null[:axis], end, *null[axis + 1 :])
    return replace(spec, keys=keys)
