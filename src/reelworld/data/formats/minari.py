"""Data sets of Minari: ``data/main_data.hdf5`` with ``episode_N``, and ``metadata.json`` with the spaces beside it.

An episode has one observation more than actions: row t of the actions, rewards and ends leads from observation t to
t + 1. Pictures are arrays or JPEGs; of a dictionary of observations one picture is read.
Source: Minari's documentation (dataset standards) and its storage of version 0.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from reelworld.data.action_alignment import MAX_DISCRETE
from reelworld.data.array_store import Unreadable
from reelworld.data.formats import hdf5
from reelworld.data.formats.hdf5_episodes import Layout, Place, is_picture, place, read_layout
from reelworld.data.formats.reader import Contents, FileRequest, Span, pick_camera
from reelworld.types import ActionSpec

PREFERRED = ("image", "pixels", "rgb")
STEPS = {"rewards": "rewards", "terminations": "terminated", "truncations": "truncated"}
"""Minari's name -> ours."""


def read(request: FileRequest) -> Contents | None:
    """Read the episodes of a data set; None for an HDF5 file of another layout."""
    if not hdf5.holds(request.path, "/", "episode_"):
        return None
    space = _action_space(request.path)
    return read_layout(request, Layout(name="Minari", places=_places, rows=partial(_rows, space), specs=_specs(space)))


def _places(file: h5py.File, request: FileRequest) -> tuple[list[Place], list[str]]:
    names = sorted((k for k in file if k.startswith("episode_")), key=lambda k: int(k.removeprefix("episode_")))
    cameras = _pictures(file[names[0]]["observations"])
    if not cameras:
        raise Unreadable(f"{request.name} holds no pictures among its observations; record it with pixels")
    requested = request.options.camera or request.options.frames
    camera, notes = pick_camera(cameras, requested, PREFERRED, request.name)
    found = []
    for name in names:
        key = f"{name}/{camera}"
        found.append(place(file, key, Span(name=name, first=0, n_frames=len(file[key]))))
    return found, notes


def _pictures(observations: h5py.Group | h5py.Dataset) -> list[str]:
    """Return the datasets of pictures, as paths within the episode, e.g. ``observations/image``."""
    if isinstance(observations, h5py.Dataset):
        return ["observations"] if is_picture(observations) else []
    found: list[str] = []
    observations.visititems(lambda name, member: found.append(f"observations/{name}") if is_picture(member) else None)
    return sorted(found)


def _rows(space: Mapping[str, Any], file: h5py.File, p: Place) -> Mapping[str, np.ndarray]:
    episode = file[p.span.name]
    streams = {_key(name): rows for name, rows in _streams(episode["actions"], space, "")}
    return {**streams, **{ours: episode[name][:] for name, ours in STEPS.items() if name in episode}}


def _key(stream: str) -> str:
    return f"actions/{stream}" if stream else "actions"


def _streams(
    actions: h5py.Group | h5py.Dataset, space: Mapping[str, Any], name: str
) -> Iterator[tuple[str, np.ndarray]]:  # fmt: skip
    """List the action streams of an episode: a member of a dictionary, or a column of a MultiDiscrete, is one each."""
    if isinstance(actions, h5py.Group):
        parts = space.get("subspaces", {})
        for key in actions:
            index = key.removeprefix("_index_")
            part = parts.get(key, {}) if isinstance(parts, dict) else parts[int(index)]
            yield from _streams(actions[key], part, f"{name}_{index}" if name else _stream_name(key))
        return
    rows = actions[:]
    kind = space.get("type")
    if kind == "MultiDiscrete" and rows.ndim == 2:
        for i, start in enumerate(space.get("start", [0] * rows.shape[1])):
            yield f"{name or 'action'}_{i}", rows[:, i] - start
    elif kind == "MultiBinary":
        yield name, rows.reshape(len(rows), -1).astype(np.float32)
    else:
        yield name, rows - int(space.get("start") or 0) if kind == "Discrete" else rows


def _stream_name(key: str) -> str:
    return f"action_{key.removeprefix('_index_')}" if key.startswith("_index_") else key


def _action_space(path: Path) -> dict[str, Any]:
    """Return the action space of ``metadata.json``, {} when there is none."""
    try:
        about = json.loads((path.parent / "metadata.json").read_text(encoding="utf-8"))
        space = about.get("action_space", "{}")
        space = json.loads(space) if isinstance(space, str) else space
    except (OSError, ValueError, AttributeError):
        return {}
    return space if isinstance(space, dict) else {}


def _specs(space: Mapping[str, Any], name: str = "") -> dict[str, ActionSpec]:
    """Return what a space says of its streams: the number of ids, the bounds, buttons."""
    kind, parts = space.get("type"), space.get("subspaces", {})
    if kind in ("Dict", "Tuple"):
        members = parts.items() if isinstance(parts, dict) else ((f"_index_{i}", part) for i, part in enumerate(parts))
        found: dict[str, ActionSpec] = {}
        for key, part in members:
            found |= _specs(part, f"{name}_{key.removeprefix('_index_')}" if name else _stream_name(key))
        return found
    if kind == "MultiDiscrete":
        ids = np.ravel(space["nvec"]).tolist()
        return {f"{name or 'action'}_{i}": ActionSpec(kind="discrete", n=int(n)) for i, n in enumerate(ids)}
    if kind == "MultiBinary":
        return {name or "action": ActionSpec(kind="buttons", n=int(np.prod(space["n"])))}
    if kind == "Discrete" and 0 < int(space["n"]) <= MAX_DISCRETE:
        return {name or "action": ActionSpec(kind="discrete", n=int(space["n"]))}
    if kind == "Box" and len(space["shape"]) == 1:
        low, high = (np.array(space[side], np.float64).reshape(-1) for side in ("low", "high"))
        if np.isfinite(low).all() and np.isfinite(high).all():
            least, greatest = tuple(low.tolist()), tuple(high.tolist())
            return {name or "action": ActionSpec(kind="continuous", n=len(low), low=least, high=greatest)}
    return {}
