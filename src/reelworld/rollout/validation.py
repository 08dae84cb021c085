"""Validate and convert the inputs of a session: frames, actions, classes.

Shapes: n streams, T frames, H W pixel rows and columns, A action width
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from reelworld.config import unknown
from reelworld.nn.conditioning import clip_range
from reelworld.rollout.actions import null_action
from reelworld.types import ActionSpec, GridSpec, UserError

__all__ = [
    "Action",
    "ClassId",
    "action_tensor",
    "action_tensors",
    "check_codes",
    "check_frames",
    "check_goal",
    "class_ids",
    "describe_classes",
    "stream_generators",
]

log = logging.getLogger(__name__)

ClassId = int | Sequence[int] | np.ndarray | None
Action = int | Sequence[Any] | np.ndarray | Mapping[str, Any] | None


def check_frames(frames: np.ndarray, n: int, height: int, width: int) -> np.ndarray:
    """Check frames to begin with and give every stream its own.

    Args:
        frames: uint8, (n, T, H, W, 3) or (T, H, W, 3) for all streams.
        n: Streams.
        height: Pixel rows H.
        width: Pixel columns W.

    Returns:
        uint8, (n, T, H, W, 3); a copy.

    Raises:
        UserError: If shape or type are others.
    """
    frames = np.asarray(frames)
    wanted = f"uint8 ({n}, T, {height}, {width}, 3)"
    if frames.ndim == 4:
        frames = np.broadcast_to(frames, (n, *frames.shape))
    if frames.dtype != np.uint8 or frames.ndim != 5:
        raise UserError(f"context frames are {frames.dtype} {frames.shape}; wanted {wanted}.")
    if frames.shape[0] != n or frames.shape[2:] != (height, width, 3):
        raise UserError(f"context frames have shape {frames.shape}; wanted {wanted}: resize or cut them first.")
    return np.array(frames)


def check_goal(goal: np.ndarray | None, has_goal: bool, n: int, height: int, width: int) -> np.ndarray | None:
    """Check what streams go towards and give every stream its own.

    Args:
        goal: uint8, (n, H, W, 3) or (H, W, 3) for all streams.
        has_goal: Whether the world's streams go towards one.
        n: Streams.
        height: Pixel rows H.
        width: Pixel columns W.

    Returns:
        uint8, (n, H, W, 3), a copy; None for worlds without goals.

    Raises:
        UserError: If a goal is missing, is surplus, or has another shape or type.
    """
    if not has_goal:
        if goal is not None:
            raise UserError("a goal was given, but this world goes towards none; leave it out.")
        return None
    if goal is None:
        raise UserError("this world goes towards a goal and none was given; give a picture of it (goal, or --goal).")
    goal, wanted = np.asarray(goal), (n, height, width, 3)
    if goal.dtype != np.uint8 or goal.shape not in (wanted, wanted[1:]):
        raise UserError(f"the goal is {goal.dtype} {goal.shape}; wanted uint8 {wanted} or {wanted[1:]}: resize it.")
    return np.array(np.broadcast_to(goal, wanted))


def check_codes(codes: ArrayLike, grid: GridSpec) -> Tensor:
    """Check codes to begin with.

    Args:
        codes: Whole numbers from 0 to below the codebook's size, (n, P, N): clips, frames, codes in raster order.
        grid: Grid of a latent frame.

    Returns:
        int64, (n, P, N); a copy.

    Raises:
        UserError: If shape, type or a value are others.
    """
    array = np.asarray(codes)
    if array.dtype.kind not in "iu" or array.ndim != 3 or array.shape[2] != grid.n_tokens:
        raise UserError(
            f"codes are {array.dtype} {array.shape}; wanted whole numbers (clips, frames, {grid.n_tokens}): the "
            f"{grid.rows}x{grid.columns} codes of a frame in raster order."
        )
    if array.size and not 0 <= array.min() <= array.max() < grid.codebook_size:
        raise UserError(f"codes span {array.min()}..{array.max()}; this world has 0..{grid.codebook_size - 1}.")
    return torch.from_numpy(np.array(array, np.int64))


def stream_generators(n: int, seed: int | None) -> list[torch.Generator]:
    """Make a random generator per stream; None draws a fresh seed.

    Raises:
        UserError: If the seed is negative.
    """
    if seed is not None and seed < 0:
        raise UserError(f"seed is {seed}; it must be 0 or more.")
    base = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) % 2**62
    return [torch.Generator().manual_seed(base + i) for i in range(n)]


def class_ids(classes: Sequence[str], given: ClassId, n: int) -> Tensor | None:
    """Check the classes of n streams.

    Args:
        classes: Names of the world's classes; empty when it has none.
        given: One number for all streams, or n numbers.
        n: Streams.

    Returns:
        int64, (n,); None for worlds without classes.

    Raises:
        UserError: If the world has no classes and some are given, the other way round, or a number is not one.
    """
    if not classes:
        if given is not None:
            raise UserError(f"class_id {given!r} was given, but this world has no classes; leave it out.")
        return None
    if given is None:
        raise UserError(f"this world makes clips of a class; give class_id, {describe_classes(classes)}.")
    ids = np.array(given, object) if isinstance(given, list | tuple) else np.asarray(given)
    if not all(isinstance(i, int | np.integer) for i in ids.flatten()) or ids.shape not in ((), (n,)):
        raise UserError(f"class_id is {given!r}; wanted a whole number, or {n} of them (one per stream).")
    if wrong := [i for i in ids.flatten().tolist() if not 0 <= i < len(classes)]:
        raise UserError(f"class_id is {wrong[0]}; wanted {describe_classes(classes)}.")
    return torch.from_numpy(np.broadcast_to(ids.astype(np.int64), n).copy())


def describe_classes(classes: Sequence[str], most: int = 12) -> str:
    """Name the numbers and classes there are, in a few words: 0 to 2 (0 walk, 1 run, 2 jump)."""
    named = ", ".join(f"{i} {name}" for i, name in enumerate(classes[:most]))
    return f"0 to {len(classes) - 1} ({named}{', ...' if len(classes) > most else ''})"


def action_tensors(
    specs: Mapping[str, ActionSpec], given: Action, shape: tuple[int, int], is_step: bool = False
) -> dict[str, Tensor]:
    """Check the actions of all streams of actions; see ``action_tensor``.

    Raises:
        UserError: If a stream is unknown, several need names, or an action does not fit.
    """
    if not specs:
        if given is not None and not (isinstance(given, Mapping) and not given):
            raise UserError(f"actions {given!r} were given, but this world runs by itself; leave them out.")
        return {}
    streams = given if isinstance(given, Mapping) else {next(iter(specs)): given}
    if not isinstance(given, Mapping) and given is not None and len(specs) > 1:
        raise UserError(f"this world has the action streams {sorted(specs)}; give a mapping of them.")
    for name in streams:
        if name not in specs:
            raise unknown("action stream", str(name), specs)
    return {name: action_tensor(spec, streams.get(name), shape, is_step) for name, spec in specs.items()}


def action_tensor(spec: ActionSpec, given: object, shape: tuple[int, int], is_step: bool) -> Tensor:
    """Check one stream's actions and convert them to the model's shape.

    Args:
        spec: The stream.
        given: Ids or vectors; one for all streams, one per stream, or None for the null action.
        shape: (n, T): streams and steps.
        is_step: T is 1 and may be left out.

    Returns:
        int64 (n, T) or float32 (n, T, A); with a ``repeat`` k above 1, (n, T, k) or (n, T, k, A). What lies far
        outside the range is cut to the most that the world accepts (``clip_range``), with a warning.
    """
    is_discrete = spec.kind == "discrete"
    if given is None:
        given = null_action(spec)
    try:
        array = np.asarray(given)
    except ValueError:
        raise UserError(f"actions {given!r} are lists of different lengths; wanted one action per stream.") from None
    if array.dtype.kind not in ("iu" if is_discrete else "iufb" if spec.kind == "buttons" else "iuf"):
        raise UserError(f"action {given!r} is not {'an integer id' if is_discrete else 'a vector of numbers'}.")
    array = array.astype(spec.dtype)
    single, unit = spec.shape, spec.step_shape
    for lead in [shape, *([shape[:1]] if is_step else []), shape[1:], ()]:
        if array.shape == lead + single and unit != single:  # one action is repeated for all steps of a frame
            array = np.broadcast_to(np.expand_dims(array, len(lead)), lead + unit)
        if array.shape == lead + unit:
            per_stream = is_step and lead == shape[:1]
            array = array.reshape(*shape, *unit) if per_stream else np.broadcast_to(array, shape + unit)
            break
    else:
        raise UserError(f"actions have shape {array.shape}; wanted {shape + unit} (or one action for all).")
    if is_discrete and array.size and (array.min() < 0 or array.max() >= spec.n):
        raise UserError(f"action ids span {array.min()}..{array.max()}; this world has 0..{spec.n - 1}.")
    if not np.isfinite(array).all():
        raise UserError("actions hold NaN or infinity; give finite numbers.")
    if spec.kind == "buttons" and not np.isin(array, (0, 1)).all():
        raise UserError(f"buttons are 0 (up) or 1 (held); {array[~np.isin(array, (0, 1))][0]:g} came.")
    return torch.from_numpy(_within_reach(np.array(array), spec))


def _within_reach(array: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Clip vectors that are far outside the world's range, with one warning; the session continues."""
    if (limits := clip_range(spec)) is None:
        return array
    least, greatest = (np.array(limit, np.float32) for limit in limits)
    is_far = (array < least) | (array > greatest)
    if is_far.any():
        i = int(np.argwhere(is_far)[0][-1])
        _warn_far(i, spec.low[i], spec.high[i], limits[0][i], limits[1][i])
    out: np.ndarray = np.clip(array, least, greatest)
    return out


@lru_cache
def _warn_far(dimension: int, low: float, high: float, least: float, greatest: float) -> None:
    """Warn about actions far outside their range, once for each."""
    log.warning(
        "actions far outside the range of this world (%.4g to %.4g in dimension %d) are cut to %.4g to %.4g.",
        *(low, high, dimension, least, greatest),
    )
