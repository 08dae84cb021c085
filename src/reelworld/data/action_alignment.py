"""Checks, description and alignment of rows of actions and rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelworld.nn.conditioning import clip_range
from reelworld.types import ActionSpec, UserError

MAX_DISCRETE = 4096
"""Largest number of ids of a discrete action; more are refused as a mistake."""


def check_actions(raw: np.ndarray, name: str) -> np.ndarray:
    """Turn raw actions into int64 ids (R,) or float32 vectors (R, A).

    Args:
        raw: Integers (R,) or (R, 1) are ids; floats (R,), and anything (R, A), are vectors.
        name: File, for errors.
    """
    if raw.dtype.kind not in "iufb" or raw.ndim not in (1, 2) or 0 in raw.shape:
        raise UserError(f"actions of {name} are {raw.dtype} {raw.shape}; wanted numbers, (T,) ids or (T, A) vectors.")
    if not np.isfinite(raw).all():
        row = int(np.argwhere(~np.isfinite(raw))[0][0])
        raise UserError(
            f"actions of {name} hold NaN or infinity (first in row {row}); wanted finite numbers: mend the file."
        )
    if raw.dtype.kind in "iu" and (raw.ndim == 1 or raw.shape[1] == 1):
        if raw.min() < 0 or raw.max() >= MAX_DISCRETE:
            raise UserError(
                f"actions of {name} are integers in {raw.min()}..{raw.max()}; discrete actions are ids from 0 to "
                f"{MAX_DISCRETE - 1}. Store them as floats if they are quantities."
            )
        return raw.reshape(-1).astype(np.int64)
    return raw.reshape(len(raw), -1).astype(np.float32)


def check_range(rows: np.ndarray, spec: ActionSpec, name: str, whose: str) -> None:
    """Refuse actions that are far outside a range: in other units, or of another robot.

    Args:
        rows: float32, (R, ..., A), without padding; ids are not checked.
        spec: With the range.
        name: Source of the actions, for the error.
        whose: Origin of the range, e.g. "the world learned".

    Raises:
        UserError: If an action is further from the range's middle than ``FAR`` times half its width.
    """
    if (limits := clip_range(spec)) is None or not len(rows):
        return
    least, greatest = (np.array(limit, np.float32) for limit in limits)
    slack = 1e-5 * np.maximum(1, np.abs([least, greatest]).max(0))
    wrong = np.argwhere(~((rows >= least - slack) & (rows <= greatest + slack)))
    if len(wrong):
        position, dimension = tuple(wrong[0]), int(wrong[0][-1])
        raise UserError(
            f"actions of {name} are far outside their range: {rows[position]:.4g} in dimension {dimension} (step "
            f"{position[0]}), where {whose} {spec.low[dimension]:.4g} to {spec.high[dimension]:.4g}. Bring them to "
            "these units."
        )


def align(
    frames: np.ndarray, steps: Mapping[str, np.ndarray], shift: int, name: str
) -> tuple[slice, dict[str, np.ndarray]]:
    """Find the frames that have steps, and move the rows to "row t leads from frame t to t+1".

    Args:
        frames: (T, ...); only its length is used.
        steps: Name -> rows (R, ...), R equal to T or T - 1 and the same for all.
        shift: Row t + shift belongs to the step from frame t to frame t + 1.
        name: File, for errors.

    Returns:
        The slice of frames that remain and the rows for them, one per frame; the last row is padding, the file's
        own next row if it has one, else zeros.
    """
    n = len(frames)
    lengths = {key: len(rows) for key, rows in steps.items()}
    for key, length in lengths.items():
        if length not in (n, n - 1):
            raise UserError(
                f"{key} of {name} has {length} rows for {n} frames; wanted {n} (one per frame) or {n - 1} "
                "(one per step between frames)."
            )
    first = max(0, -shift)
    last = min(n - 2, min(lengths.values(), default=n - 1) - 1 - shift)  # last frame that has a step
    if n < 2:
        raise UserError(f"{name} has a single frame; a recording needs at least two. Take the file away.")
    if last < first:
        raise UserError(
            f"{name} has {n} frames; an action shift of {shift} leaves no step. Use a smaller --action-shift."
        )
    moved = {}
    for key, rows in steps.items():
        kept = rows[first + shift : last + shift + 2]
        padding = np.zeros((last - first + 2 - len(kept), *rows.shape[1:]), rows.dtype)
        moved[key] = np.concatenate([kept, padding])
    return slice(first, last + 2), moved


def one_hot_ids(actions: np.ndarray, is_needed: np.ndarray) -> np.ndarray | None:
    """Return the ids int64 (R,) of one-hot rows; None if some needed row is not one-hot.

    Args:
        actions: (R, A).
        is_needed: bool (R,); other rows may also be zero, they are padding.
    """
    if actions.ndim != 2 or actions.shape[1] < 2:
        return None
    is_binary = ((actions == 0) | (actions == 1)).all()
    total = actions.sum(axis=1)
    if not is_binary or not (total[is_needed] == 1).all() or not (total <= 1).all():
        return None
    ids: np.ndarray = actions.argmax(axis=1).astype(np.int64)
    return ids


def describe_actions(actions: np.ndarray, names: Sequence[str] = ()) -> ActionSpec:
    """Describe a stream by its data: number of ids, or width and range; vectors of zeros and ones are buttons.

    Args:
        actions: int64 (R,) or float32 (R, A).
        names: Of the A numbers; empty when unknown.
    """
    if actions.dtype == np.int64:
        return ActionSpec(kind="discrete", n=int(actions.max()) + 1)
    if actions.any() and np.isin(actions, (0, 1)).all():
        return ActionSpec(kind="buttons", n=actions.shape[1], names=tuple(names))
    low, high = actions.min(axis=0).tolist(), actions.max(axis=0).tolist()
    return ActionSpec(kind="continuous", n=actions.shape[1], names=tuple(names), low=tuple(low), high=tuple(high))


DELTAS = ("dx", "dy", "dz", "delta", "rel", "movement", "scroll", "wheel")
"""Parts of the names of numbers that add up: movements of a mouse."""
SKIPPED = (
    "actions of frames that are left out belong to the frame before: buttons that were held in any of them are held, "
    "movements (dx, dy) add up, of others the last one counts"
)


def merge_skipped(rows: np.ndarray, spec: ActionSpec, picks: np.ndarray) -> np.ndarray:
    """Merge the actions from each kept frame up to the next kept one.

    Args:
        rows: int64 (T,) or float32 (T, A), of all frames.
        spec: Their kind and names.
        picks: Numbers of the kept frames, not falling, (K,).

    Returns:
        (K, ...): of buttons, those held in any; of numbers named like movements, the sum; else the last.
    """
    merged: np.ndarray = rows[picks]
    if not len(picks) or not (np.diff(picks) > 1).any():
        return merged
    ends = np.append(picks[1:], len(rows)).clip(min=picks + 1)
    ends[-1] = picks[-1] + 1  # the last row is padding
    merged[:] = rows[ends - 1]
    for column in range(spec.n if spec.kind != "discrete" else 0):
        name = spec.names[column].lower() if spec.names else ""
        is_sum = spec.kind == "continuous" and any(part in name for part in DELTAS)
        if spec.kind == "buttons" or is_sum:
            reduce = np.add.reduceat if is_sum else np.maximum.reduceat
            merged[:, column] = [reduce(rows[a:b, column], [0])[0] for a, b in zip(picks, ends, strict=True)]
    return merged


def common_specs(specs: Mapping[Path | str, Mapping[str, ActionSpec]]) -> dict[str, ActionSpec]:
    """Merge the action specs of files: most ids, widest range.

    Args:
        specs: File -> stream name -> spec.

    Raises:
        UserError: If some files have actions and some have none, or their kinds or widths differ.
    """
    with_actions = [f for f, s in specs.items() if s]
    without = [f for f, s in specs.items() if not s]
    if with_actions and without:
        raise UserError(
            f"{len(without)} of {len(specs)} recordings have no actions (first: {without[0]}), the others do; "
            "add the missing action files or move these recordings elsewhere."
        )
    merged: dict[str, ActionSpec] = {}
    for file, streams in specs.items():
        for name, spec in streams.items():
            merged[name] = _merge(merged[name], spec, file) if name in merged else spec
    return merged


def _merge(a: ActionSpec, b: ActionSpec, file: Path | str) -> ActionSpec:
    if {a.kind, b.kind} == {"buttons", "continuous"} and a.n == b.n:
        # zeros alone say nothing about the kind
        if all(not any((*s.low, *s.high)) for s in (a, b) if s.kind == "continuous"):
            return a if a.kind == "buttons" else b
        a, b = (replace(s, kind="continuous", null=None, keys={}) for s in (a, b))
    if a.kind != b.kind or (a.kind != "discrete" and a.n != b.n):
        raise UserError(
            f"actions of {file} are {b.kind} ({b.n}), those of other recordings {a.kind} ({a.n}); "
            "wanted one kind and width: put them into folders of their own."
        )
    if a.kind == "discrete":
        return a if a.n >= b.n else b
    if a.kind == "buttons":
        if a.names != b.names:
            mine, others = (", ".join(spec.names) or "unnamed" for spec in (b, a))
            raise UserError(
                f"buttons of {file} are {mine}, those of other recordings {others}; wanted the same in the same order: "
                "put them into folders of their own."
            )
        return a
    low = tuple(min(x, y) for x, y in zip(a.low, b.low, strict=True))
    high = tuple(max(x, y) for x, y in zip(a.high, b.high, strict=True))
    return replace(a, names=a.names if a.names == b.names else (), low=low, high=high)
