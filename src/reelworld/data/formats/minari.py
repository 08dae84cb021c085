"""Data sets of Minari: ``data/main_data.hdf5`` with ``episode_N``, and ``metadata.json`` with the spaces beside it.

An episode has one observation more than actions: row t of the actions, rewards and ends leads from observation t to
t + 1. Pictures are arrays or JPEGs; of a dictionary of observations one picture is read.
Source: Minari's documentation (dataset standards) and its storage of version 0.5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    return read_layout(request, Layout(name="Minari", places=_places, rows=_rows, specs=_specs(request.path)))


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


def _rows(file: h5py.File, p: Place) -> Mapping[str, np.ndarray]:
    episode = file[p.span.name]
    actions = episode["actions"]
    streams: dict[str, np.ndarray] = {}
    if isinstance(actions, h5py.Dataset):
        streams["actions"] = actions[:]
    else:
        for name in actions:
            streams[f"actions/{name.removeprefix('_index_')}"] = actions[name][:]
    return {**streams, **{ours: episode[name][:] for name, ours in STEPS.items() if name in episode}}


def _specs(path: Path) -> dict[str, ActionSpec]:
    """Return what the action space of ``metadata.json`` says: the number of ids, the bounds."""
    try:
        about = json.loads((path.parent / "metadata.json").read_text(encoding="utf-8"))
        space = about.get("action_space", "{}")
        spec = _spec(json.loads(space) if isinstance(space, str) else space)
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
    return {"action": spec} if spec else {}


def _spec(space: Mapping[str, Any]) -> ActionSpec | None:
    if space.get("type") == "Discrete" and not space.get("start") and 0 < int(space["n"]) <= MAX_DISCRETE:
        return ActionSpec(kind="discrete", n=int(space["n"]))
    if space.get("type") == "Box" and len(space["shape"]) == 1:
        low, high = (np.array(space[side], np.float64).reshape(-1) for side in ("low", "high"))
        if np.isfinite(low).all() and np.isfinite(high).all():
            return ActionSpec(kind="continuous", n=len(low), low=tuple(low.tolist()), high=tuple(high.tolist()))
    return None
