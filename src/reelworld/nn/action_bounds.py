"""The range of a world's continuous actions: how it is brought to [-1, 1], and how far beyond it actions may go.

Learned from recordings or given by a simulator, it lies in the world with the rest of ``ActionSpec``. Actions far
outside of it are in other units, or of another game: a world was never shown anything like them.

Shapes: A action width
"""

from __future__ import annotations

from reelworld.types import ActionSpec

__all__ = ["FAR", "accepted", "middle_and_half"]

FAR = 2.0
"""How far from the middle of the range actions may lie, in halves of its width."""
CONSTANT = 1e-6
"""A dimension whose half width is less never moved; it is not stretched, or rounding would become a large action."""


def middle_and_half(spec: ActionSpec) -> tuple[list[float], list[float]]:
    """Return the middle and half the width of each dimension's range, A numbers each; 0 and 1 where it is not known."""
    low, high = spec.low or (-1.0,) * spec.n, spec.high or (1.0,) * spec.n
    halves = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
    return [(a + b) / 2 for a, b in zip(low, high, strict=True)], [h if h > CONSTANT else 1.0 for h in halves]


def accepted(spec: ActionSpec) -> tuple[list[float], list[float]] | None:
    """Return the least and the greatest value of each dimension that a world takes as it is; None where any is fine."""
    if spec.kind == "discrete" or not spec.low or not spec.high:
        return None
    pairs = list(zip(*middle_and_half(spec), strict=True))
    return [middle - FAR * half for middle, half in pairs], [middle + FAR * half for middle, half in pairs]
