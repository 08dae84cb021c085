"""Small moving pictures of what each action does from here: the game is forked, and every fork takes one action.

The game itself does not notice: its random numbers stay where they are.

Shapes: n actions, H W pixel rows and columns
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelworld.data.resize import fit_frame
from reelworld.media import encode_png
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
    frames = np.stack(shown, 1)
    return [
        Effect(stream=stream, value=value, frames=np.stack([_small(frame[window]) for frame in strip]))
        for (stream, value), strip, window in zip(choices, frames, _windows(frames), strict=True)
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


def _windows(frames: np.ndarray) -> list[tuple[slice, slice]]:
    """Find the part of the picture where each action does most: parts of one size, at least a third of each side.

    Args:
        frames: uint8, (n, T, H, W, 3); the first is the present one. Most actions fit into the size; one that changes
            more, as a world does that imagines things far away, shows where it changes most.
    """
    first = frames[:, :1].astype(np.int16)  # decoders leave a little noise everywhere, which is no movement
    changes = (np.abs(frames[:, 1:] - first) > NOISE).any(-1).sum(1)
    height, width = changes.shape[1:]
    sides = [_side(moved.any(axis)) / moved.shape[1 - axis] for moved in changes > 0 for axis in (1, 0)]
    needs = [max(pair) for pair in zip(sides[::2], sides[1::2], strict=True) if max(pair)]
    share = min(1.0, max(1.2 * float(np.median(needs)), 1 / 3)) if needs else 1.0
    shape = round(share * height), round(share * width)
    return [_fullest(moved if moved.any() else changes.sum(0), shape) for moved in changes]


def _side(moved: np.ndarray) -> int:
    """Return how far it is from the first to the last that moved."""
    found = np.flatnonzero(moved)
    return int(found[-1] - found[0] + 1) if len(found) else 0


def _fullest(changes: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Find the window of a shape that holds most; of several, the one in their middle."""
    sums = np.pad(changes.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows, columns = shape
    held = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.argwhere(held == held.max()).mean(0).round().astype(int)
    return slice(int(top), int(top) + rows), slice(int(left), int(left) + columns)


def _small(frame: np.ndarray) -> np.ndarray:
    scale = PICTURE_PIXELS / min(frame.shape[:2])
    if scale >= 1:
        return frame
    return fit_frame(frame, (round(frame.shape[0] * scale), round(frame.shape[1] * scale)), "stretch")
