"""Replays and offline data sets as .npz: D4RL, OGBench, DreamerV2 and DreamerV3, and their like.

D4RL and OGBench lay all episodes end to end; ``terminals`` or ``timeouts`` mark the last row of each. Row t holds a
picture and the action taken after it. The action of an episode's last row leads to a picture that is not stored.

DreamerV3 stores with a picture the action chosen after it, and the reward and the end (``is_terminal``) that came
with the picture; the action of the last row is zero. DreamerV2 stores the action that led to the picture; the action
of the first row is zero. Which of the two it is follows from these zeros.
Source: D4RL (arXiv:2004.07219), OGBench (arXiv:2410.20092), the drivers of DreamerV2 and DreamerV3.

Shapes: R rows of the file, A action width
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from reelworld.data.action_alignment import check_actions, one_hot_ids
from reelworld.data.array_store import DAMAGE, Unreadable
from reelworld.data.cache import Decoded
from reelworld.data.formats import npz
from reelworld.data.formats.action_table import described
from reelworld.data.formats.end_to_end import align_spans, spans_between
from reelworld.data.formats.reader import Contents, FileRequest, Span, read_cached, stored_spans
from reelworld.data.resize import fit_frames
from reelworld.types import ActionSpec

LAST_KEYS = (
    *("is_last", "terminals", "timeouts", "terminal", "dones", "done"),
    *("terminated", "truncated", "terminations", "truncations"),
)
"""Arrays that are true in the last row of an episode."""
FIRST_KEY = "is_first"
MARKS = (FIRST_KEY, *LAST_KEYS)
REPLAY_NOTES = {
    0: "replays are read as DreamerV3's: an action follows its picture, a reward comes with it",
    1: "replays are read as DreamerV2's (the first action is zero): actions and rewards are shifted by one",
}
LAST_STEP_NOTE = (
    "episodes laid end to end are cut at their marks; the action of each one's last row is left out, as the picture "
    "it led to is not stored"
)


def read(request: FileRequest) -> Contents | None:
    """Read a file whose arrays mark the ends of episodes; None for others."""
    try:
        with zipfile.ZipFile(request.path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
        marks = [k for k in MARKS if k in names]
        if not marks:
            return None
        with np.load(request.path, allow_pickle=False) as file:
            marked = {k: np.asarray(file[k]) for k in marks}
    except DAMAGE:
        return None  # the reader of other .npz files reports the damage
    if not has_several(marked):
        return None
    return stored_spans(request, read_cached(request, lambda: decode(npz.load(request.path, request.options), request)))


def has_several(marked: Mapping[str, np.ndarray]) -> bool:
    """Return True if marks cut a file into episodes.

    A mark in the last row says how a single one ended; so does one in the row before, if the last one is padding.
    """
    return FIRST_KEY in marked or any(v.ndim and v.reshape(len(v), -1)[:-2].any() for v in marked.values())


def decode(raw: Mapping[str, np.ndarray], request: FileRequest) -> Decoded:
    """Cut the arrays of a file into episodes and align their steps.

    Raises:
        Unreadable: If marks, actions and frames differ in length, or no episode has two frames.
        UserError: If the arrays cannot be read as asked.
    """
    options, name = request.options, request.name
    frame_key = npz.frame_key(raw, options, name)
    shown, notes = npz.to_bytes(raw[frame_key], options.layout)
    frames = npz.to_pixels(shown, options.layout, f"{frame_key} of {name}")
    is_replay = FIRST_KEY in raw
    is_first = [_column(raw, k, np.bool_, len(frames), name) for k in (FIRST_KEY,) if k in raw]
    is_last = [_column(raw, k, np.bool_, len(frames), name) for k in LAST_KEYS if k in raw]
    spans = spans_between(len(frames), is_first, is_last)
    rows: dict[str, np.ndarray] = {}
    specs: dict[str, ActionSpec] = {}
    shift = options.action_shift or 0
    if key := npz.action_key(raw, options, name):
        _check_length(raw[key], len(frames), key, name)
        if is_replay and options.action_shift is None:
            shift = _replay_shift(raw[key], spans)
            notes.append(REPLAY_NOTES[shift])
        rows["actions"], specs["action"] = _actions(raw[key], spans, is_replay, notes, name)
    shifts = {"actions": shift, "rewards": 1 if is_replay else shift, "terminated": 1}
    if key := next((k for k in npz.REWARD_KEYS if k in raw), ""):
        rows["rewards"] = _column(raw, key, np.float32, len(frames), name)
    if is_replay and "is_terminal" in raw:
        rows["terminated"] = _column(raw, "is_terminal", np.bool_, len(frames), name)
    kept, moved = align_spans(spans, rows, {k: shifts[k] for k in rows})
    if not kept:
        raise Unreadable(f"{name} holds no episode of two frames or more; a recording needs at least two.")
    if len(kept) < len(spans):
        notes.append(f"{len(spans) - len(kept)} of {len(spans)} episodes of {name} are left out: too short for a step")
    if not is_replay:
        notes.append(LAST_STEP_NOTE)
    pixels = np.ascontiguousarray(fit_frames(frames, options.shape, options.fit, name))
    return {"frames": pixels, **moved}, {"fps": options.fps, "actions": specs, "notes": notes, "spans": kept}


def _replay_shift(actions: np.ndarray, spans: Sequence[Span]) -> int:
    """Return 1 for rows that led to their picture (DreamerV2: the first is zero), else 0 (DreamerV3: the last is).

    DreamerV2 stores vectors only; an id of zero is an action like any other.
    """
    if actions.ndim < 2:
        return 0
    first = actions[[s.first for s in spans]]
    last = actions[[s.first + s.n_frames - 1 for s in spans]]
    return int(not first.any() and bool(last.any()))


def _actions(
    values: np.ndarray, spans: Sequence[Span], is_replay: bool, notes: list[str], name: str
) -> tuple[np.ndarray, ActionSpec]:
    """Return rows (R,) or (R, A) and their spec; replays store ids as one-hot vectors."""
    if is_replay:
        is_inner = np.ones(len(values), bool)
        for s in spans:  # padding may stand in the first or the last row
            is_inner[[s.first, s.first + s.n_frames - 1]] = False
        if (ids := one_hot_ids(values, is_inner)) is not None:
            notes.append(f"one-hot actions are read as the ids 0 to {values.shape[1] - 1}")
            return ids, ActionSpec(kind="discrete", n=values.shape[1])
    table = described(check_actions(values, name))
    notes += table.notes
    return table.rows, table.spec


def _column(
    raw: Mapping[str, np.ndarray], key: str, kind: type[np.generic], n_rows: int, name: str
) -> np.ndarray:  # fmt: skip
    rows = npz.column(raw[key], kind, f"{key} of {name}")
    _check_length(rows, n_rows, key, name)
    return rows


def _check_length(rows: np.ndarray, n_rows: int, key: str, name: str) -> None:
    if len(rows) != n_rows:
        raise Unreadable(f"{key} of {name} has {len(rows)} rows for {n_rows} frames; wanted one per frame.")
