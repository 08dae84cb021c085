"""Keys and mouse buttons that recordings hold as on or off, several at once, and their keys on the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reelworld.types import ActionSpec

CODES = {
    **{"space": "Space", "shift": "ShiftLeft", "ctrl": "ControlLeft", "alt": "AltLeft", "tab": "Tab", "enter": "Enter"},
    **{"left-shift": "ShiftLeft", "left-ctrl": "ControlLeft", "left-alt": "AltLeft", "escape": "Escape"},
    **{"left": "ArrowLeft", "up": "ArrowUp", "right": "ArrowRight", "down": "ArrowDown"},
    **{str(n): f"Digit{n}" for n in range(10)},
    **{letter: f"Key{letter.upper()}" for letter in "abcdefghijklmnopqrstuvwxyz"},
}
"""Name of a key -> KeyboardEvent.code of the browser."""


def button_stream(
    pressed: np.ndarray, names: Sequence[str], codes: Sequence[str] = ()
) -> tuple[np.ndarray, ActionSpec]:  # fmt: skip
    """Return the rows of a stream of buttons, float32 (R, A), and its spec.

    Args:
        pressed: bool (R, A).
        names: One per button.
        codes: KeyboardEvent.code of each button, "" for none; by default those of the keys of these names.
    """
    codes = codes or [CODES.get(name, "") for name in names]
    keys = {
        code: tuple(float(i == j) for j in range(len(names))) for i, code in enumerate(codes) if code
    }  # fmt: skip
    return pressed.astype(np.float32), ActionSpec(kind="buttons", n=len(names), names=tuple(names), keys=keys)
