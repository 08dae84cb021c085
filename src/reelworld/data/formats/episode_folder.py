"""Recordings of this package on disk: ``dataset.json`` and one uncompressed .npz per episode.

A recorder calls ``write_episode`` for each finished episode and ``write_info`` at the start, now and then, and at
the end. Both replace files atomically, so an interrupted recording keeps every finished episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelworld.config import from_json, read_json, to_json
from reelworld.data.action_alignment import check_actions, check_range, describe_actions
from reelworld.data.array_store import ArrayIndex, Compressed, NpzStore
from reelworld.data.episodes import FORMAT_VERSION, STEP_KEYS, DataInfo, Episode, action_keys
from reelworld.data.formats import npz
from reelworld.data.formats.reader import Contents, FileRequest, read_cached, stored_episode
from reelworld.data.resize import check_fit
from reelworld.files import write_json, write_npz
from reelworld.types import ActionSpec, Clip, UserError

INFO_FILE = "dataset.json"


def episode_to_json(episode: Episode) -> dict[str, object]:
    """Return the facts of an episode as JSON values; without a class, older versions can read them."""
    values = to_json(replace(episode, arrays=None))
    return {k: v for k, v in values.items() if k != "arrays" and (k != "class_id" or v >= 0) and (k != "task" or v)}


def write_info(folder: Path, info: DataInfo, episodes: Sequence[Episode]) -> None:
    """Write ``dataset.json`` atomically; may be called repeatedly."""
    common = {k: v for k, v in to_json(info).items() if k != "classes" or v}
    write_json(folder / INFO_FILE, {**common, "episodes": [episode_to_json(e) for e in episodes]})


def read_info(folder: Path) -> tuple[DataInfo, list[Episode]]:
    """Read ``dataset.json``.

    Raises:
        UserError: If it is broken, lacks a field or was written by a newer version.
    """
    path = folder / INFO_FILE
    values = read_json(path)
    version = values.get("format_version") if isinstance(values, dict) else None
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}; this reelworld reads 1 to {FORMAT_VERSION}. Update reelworld."
        )
    listed = values.pop("episodes", [])
    if not isinstance(listed, list):
        raise UserError(f"{path} has episodes that are no list; restore it from the recording.")
    episodes = [from_json(Episode, e, f"{INFO_FILE} episodes[{i}]") for i, e in enumerate(listed)]
    info = from_json(DataInfo, values, INFO_FILE)
    lowest, n = (0, len(info.classes)) if info.classes else (-1, 0)
    if wrong := [e for e in episodes if not lowest <= e.class_id < n]:
        raise UserError(
            f"{path} gives {wrong[0].file} the class {wrong[0].class_id}; its list has {n} classes, wanted a number "
            "of that list for every episode. Mend the file."
        )
    return info, episodes


def write_episode(path: Path, clip: Clip) -> None:
    """Write one episode as an uncompressed .npz, atomically; the same clip gives the same bytes."""
    if clip.frames.dtype != np.uint8 or clip.frames.ndim != 4 or clip.frames.shape[-1] != 3:
        raise UserError(
            f"frames of {path.name} are {clip.frames.dtype} {clip.frames.shape}; an episode needs uint8 (T, H, W, 3)."
        )
    arrays: dict[str, np.ndarray] = {"frames": clip.frames}
    for name, values in clip.actions.items():
        key = "actions" if list(clip.actions) == ["action"] else f"actions/{name}"
        arrays[key] = values.astype(np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32)
    steps = {"rewards": clip.rewards, "terminated": clip.terminated, "truncated": clip.truncated}
    arrays |= {name: rows.astype(STEP_KEYS[name]) for name, rows in steps.items() if rows is not None}
    for name, rows in arrays.items():
        if len(rows) != len(clip.frames):
            raise UserError(
                f"{name} of {path.name} has {len(rows)} rows; {len(clip.frames)} (one per frame) are needed."
            )
    write_npz(path, arrays)


def read_listed(request: FileRequest, info: DataInfo) -> Contents:
    """Map an episode of a folder with ``dataset.json``, or a resized or unpacked copy of it in the cache."""
    path, options = request.path, request.options
    store: NpzStore | None
    try:
        store = NpzStore(path, request.maps)
        if options.shape not in (None, _frame_shape(store.index, path.name)):
            store = None
    except Compressed:
        store = None
    if store is None:
        unshifted = replace(request, options=replace(options, action_shift=0))
        store = read_cached(unshifted, lambda: npz.decode(path, unshifted.options))
    shape = _frame_shape(store.index, path.name)
    check_fit(shape, options.shape or (info.height, info.width), "none", path.name)
    _check_steps(store, info.actions, path.name)
    return stored_episode(request, store, info.fps, dict(info.actions))


def read_plain(request: FileRequest) -> Contents | None:
    """Map a file in the layout of our recorder in place; None for others."""
    options, name = request.options, request.name
    try:
        store = NpzStore(request.path, request.maps)
        shape = _frame_shape(store.index, name)
    except (Compressed, UserError):
        return None  # the reader of other .npz files reports the error, if there is one
    is_asked = bool(options.frames or options.action or options.action_shift or options.layout != "auto")
    if is_asked or not npz.has_own_names(list(store.index)) or options.shape not in (None, shape):
        return None
    streams = {stream: store.view(key) for key, stream in action_keys(list(store.index)).items()}
    _check_steps(store, {}, name)
    specs = {stream: describe_actions(check_actions(rows, name)) for stream, rows in streams.items()}
    return stored_episode(request, store, options.fps, specs)


def _frame_shape(index: Mapping[str, ArrayIndex], name: str) -> tuple[int, int]:
    frames = index.get("frames")
    if frames is None or frames.dtype != np.uint8 or len(frames.shape) != 4 or frames.shape[3] != 3:
        held = f"frames {frames.dtype} {frames.shape}" if frames else f"the arrays {', '.join(index) or 'none'}"
        raise UserError(f"{name} holds {held}; an episode needs frames, uint8 (T, H, W, 3).")
    return frames.shape[1], frames.shape[2]


def _check_steps(store: NpzStore, specs: Mapping[str, ActionSpec], name: str) -> None:
    """Check the rows of an episode file of ours against its frames and its ActionSpec."""
    index = store.index
    streams = {stream: key for key, stream in action_keys(list(index)).items()}
    n_frames = index["frames"].shape[0]
    for key in (*streams.values(), *(k for k in STEP_KEYS if k in index)):
        if index[key].shape[:1] != (n_frames,):
            raise UserError(
                f"{key} of {name} has shape {index[key].shape} for {n_frames} frames; wanted one row per frame "
                "(the last is padding)."
            )
        if key in STEP_KEYS and index[key].dtype != STEP_KEYS[key]:
            raise UserError(f"{key} of {name} is {index[key].dtype}; wanted {np.dtype(STEP_KEYS[key])}.")
        if key == "rewards" and not (is_finite := np.isfinite(store.view(key)[:-1])).all():
            step = int(np.flatnonzero(~is_finite)[0])
            raise UserError(f"rewards of {name} has NaN or infinity (first in row {step}); record it again.")
    for stream, spec in specs.items():
        if stream not in streams:
            raise UserError(f"{name} lacks the action stream {stream!r} that {INFO_FILE} names; record it again.")
        rows = check_actions(store.view(streams[stream]), name)
        is_discrete = spec.kind == "discrete"
        if not (rows.ndim == 1 and rows.max() < spec.n if is_discrete else rows.shape[1:] == (spec.n,)):
            raise UserError(
                f"actions of {name} are {rows.dtype} {rows.shape} up to {rows.max()}; {INFO_FILE} says {spec.kind} "
                f"with n={spec.n}. Record it again or mend {INFO_FILE}."
            )
        if spec.kind == "buttons" and not np.isin(rows, (0, 1)).all():
            raise UserError(f"buttons of {name} are neither 0 (up) nor 1 (held) everywhere; record it again.")
        check_range(rows[:-1], spec, name, f"{INFO_FILE} says")
