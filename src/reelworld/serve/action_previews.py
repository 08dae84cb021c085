"""Action previews: short animations of each action from the current state, rendered in forks of the session.

The session itself is left as it was, its random state included.

Shapes: n actions, T frames, H W pixel rows and columns
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from reelworld.data.resize import fit_frame
from reelworld.media import encode_png
from reelworld.serve.controls import Controls
from reelworld.serve.interfaces import PlaySession

MAX_PREVIEWS = 16  # forks of one session at a time
PREVIEW_PIXELS = 64  # of the shorter side, at most
NOISE = 16  # of 255: smaller changes of a pixel are ignored
TURN_STEPS, REAL_TIME_STEPS = 4, 8  # four quarter turns return to the start; eight ticks are most of a second


@dataclass(frozen=True, kw_only=True)
class ActionPreview:
    """Animation of one action."""

    stream: str
    value: int | list[float]
    frames: np.ndarray
    """uint8, (T, H, W, 3), small: the current frame and those after it."""


def render_action_previews(session: PlaySession, frame: np.ndarray, controls: Controls) -> list[ActionPreview]:
    """Repeat every action for a few steps, each in a fork of its own.

    Args:
        session: A session of one stream; its state does not change.
        frame: Its current frame, uint8 (H, W, 3).
        controls: The world's actions.
    """
    choices = controls.single_actions()[:MAX_PREVIEWS]
    if not choices:
        return []
    before = session.snapshot()
    try:
        forks = session.fork(len(choices))
    finally:
        session.restore(before)  # forking draws seeds
    rows = [controls.parse({stream: value}) for stream, value in choices]
    actions = {name: np.concatenate([row[name] for row in rows]) for name in controls.specs}
    steps = [np.repeat(frame[None], len(choices), 0)]
    steps += [forks.step(actions).frame for _ in range(TURN_STEPS if controls.is_turn_based else REAL_TIME_STEPS)]
    frames = np.stack(steps, 1)
    return [
        ActionPreview(stream=stream, value=value, frames=np.stack([_small(frame[window]) for frame in clip]))
        for (stream, value), clip, window in zip(choices, frames, _windows(frames), strict=True)
    ]


def describe_action_previews(previews: list[ActionPreview], step: int) -> dict[str, object]:
    """Return the message of previews: one PNG per action, its frames from left to right."""
    described = [
        {
            "stream": preview.stream,
            "value": preview.value,
            "frames": len(preview.frames),
            "image": base64.b64encode(encode_png(np.concatenate(list(preview.frames), 1))).decode("ascii"),
        }
        for preview in previews
    ]
    return {"type": "action_previews", "step": step, "previews": described}


def _windows(frames: np.ndarray) -> list[tuple[slice, slice]]:
    """Find the window with the most changed pixels for each action; all windows have the same size.

    The size fits the changes of most actions and is at least a third of each side. An action that changes more,
    as in worlds that also change far away, shows the window where it changes most.

    Args:
        frames: uint8, (n, T, H, W, 3); the first is the current one.
    """
    first = frames[:, :1].astype(np.int16)
    changes = (np.abs(frames[:, 1:] - first) > NOISE).any(-1).sum(1)  # decoders leave a little noise everywhere
    height, width = changes.shape[1:]
    sides = [_extent(changed.any(axis)) / changed.shape[1 - axis] for changed in changes > 0 for axis in (1, 0)]
    needs = [max(pair) for pair in zip(sides[::2], sides[1::2], strict=True) if max(pair)]
    fraction = min(1.0, max(1.2 * float(np.median(needs)), 1 / 3)) if needs else 1.0
    shape = round(fraction * height), round(fraction * width)
    return [_densest_window(changed if changed.any() else changes.sum(0), shape) for changed in changes]


def _extent(changed: np.ndarray) -> int:
    """Return the distance from the first to the last True, both included."""
    found = np.flatnonzero(changed)
    return int(found[-1] - found[0] + 1) if len(found) else 0


def _densest_window(changes: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Find the window of a shape with the largest sum; among equal ones, the one in their middle."""
    sums = np.pad(changes.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows, columns = shape
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.argwhere(inside == inside.max()).mean(0).round().astype(int)
    return slice(int(top), int(top) + rows), slice(int(left), int(left) + columns)


def _small(frame: np.ndarray) -> np.ndarray:
    scale = PREVIEW_PIXELS / min(frame.shape[:2])
    if scale >= 1:
        return frame
    return fit_frame(frame, (round(frame.shape[0] * scale), round(frame.shape[1] * scale)), "stretch")
