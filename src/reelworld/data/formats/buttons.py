"""Keys and mouse buttons that recordings hold as on or off, several at once: one place that describes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reelworld.types import ActionSpec


def button_stream(pressed: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, ActionSpec]:
    """Return the rows of a stream of buttons, as they are stored, and its spec.

    Args:
        pressed: bool (R, A).
        names: One per button.
    """
    n = len(names)
    low, high = (0.0,) * n, (1.0,) * n
    spec = ActionSpec(kind="continuous", n=n, names=tuple(names), low=low, high=high, null=low)
    return pressed.astype(np.float32), spec
