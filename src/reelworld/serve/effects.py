"""Small moving pictures of what each action does from here: the game is forked, and every fork takes one action.

The game itself does not notice: its random numbers stay where they are.

Shapes: n actions, H W pixel rows and columns
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelworld.data.media import encode_png
from reelworld.data.resize import fit_frame
from reelworld.serve.controls import Controls
from reelworld.serve.playable import PlaySession

__all__ = ["MAX_EFFECTS", "Effect", "describe_effects", "draw_effects"]

MAX_EFFECTS = 16  # forks that run beside the game for a moment
PICTURE_PIXELS = 64  # of the shorter side, at most
NOISE = 16  # of 255: smaller changes of a pixel are none
N_TURNS, N_TICKS = 4, 8  # steps that are shown: four quarter turns lead back, eight ticks are most of a second


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one action does."""

    stream: str
    value: int | list[float]
    frames: np.ndarray
    """uint8, (T, H, W, 3), small: the present one and those after it."""


def draw_effects(session: PlaySession, frame: np.ndarray, controls: Controls) -> list[Effect]:
    """Take every action a few times, each in a fork of its own; blocks for as many steps.

    Args:
        session: A session of one stream; it goes on as if nothing had happened.
        frame: Its present frame, uint8 (H, W, 3).
        controls: The world's actions.
    """
    choices = controls.choices()[:MAX_EFFECTS]
    if not choices:
        return []
    before = session.snapshot()
    try:
        forks = session.fork(len(choices))
    finally:
        session.restore(before)  # forking draws seeds
    rows = [controls.read({stream: value}) for stream, value in choices]
    actions = {name: np.concatenate([row[name] for row in rows]) for name in controls.specs}
    shown = [np.repeat(frame[None], len(choices), 0)]
    shown += [forks.step(actions).frame for _ in range(N_TURNS if controls.is_turn_based else N_TICKS)]
    rows_seen, columns_seen = _window(shown)
    shown = [frames[:, rows_seen, columns_seen] for frames in shown]
    return [
        Effect(stream=stream, value=value, frames=np.stack([_small(frames[i]) for frames in shown]))
        for i, (stream, value) in enumerate(choices)
    ]


def describe_effects(effects: list[Effect], step: int) -> dict[str, Any]:
    """Return the message that brings pictures to a client: one PNG per action, its frames from left to right."""
    pictures = [
        {
            "stream": effect.stream,
            "value": effect.value,
            "frames": len(effect.frames),
            "image": base64.b64encode(encode_png(np.concatenate(list(effect.frames), 1))).decode("ascii"),
        }
        for effect in effects
    ]
    return {"type": "effects", "step": step, "effects": pictures}


def _window(shown: list[np.ndarray]) -> tuple[slice, slice]:
    """Find the part of the picture, at least a third of each side, in which the actions do something."""
    first = shown[0].astype(np.int16)  # decoders leave a little noise everywhere, which is no movement
    moves = np.any([(np.abs(frames - first) > NOISE).any((0, 3)) for frames in shown[1:]], axis=0)
    height, width = moves.shape
    if not moves.any():
        return slice(0, height), slice(0, width)
    ends = [np.flatnonzero(moves.any(axis))[[0, -1]] for axis in (1, 0)]
    wanted = max((last - first + 1) / side for (first, last), side in zip(ends, moves.shape, strict=True))
    share = min(1.0, max(1.2 * wanted, 1 / 3))
    return _around(ends[0], height, share), _around(ends[1], width, share)


def _around(ends: np.ndarray, side: int, share: float) -> slice:
    length = round(share * side)
    first = min(max(0, (int(ends.sum()) + 1 - length) // 2), side - length)
    return slice(first, first + length)


def _small(frame: np.ndarray) -> np.ndarray:
    scale = PICTURE_PIXELS / min(frame.shape[:2])
    if scale >= 1:
        return frame
    return fit_frame(frame, (round(frame.shape[0] * scale), round(frame.shape[1] * scale)), "stretch")
