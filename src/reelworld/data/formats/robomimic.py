"""HDF5 files of robomimic and LIBERO: ``data/demo_N`` with ``obs/<camera>``, ``actions``, ``rewards`` and ``dones``.

Row t of the actions is taken after picture t. Reward and end of the last action belong to a picture that the file
does not hold (``next_obs``, where there is one, is not read).
Source: the documentation of robomimic (datasets, overview) and of LIBERO.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import h5py
import numpy as np

from reelworld.data.array_store import Unreadable
from reelworld.data.formats import hdf5
from reelworld.data.formats.hdf5_episodes import Layout, Place, is_picture, place, read_layout
from reelworld.data.formats.reader import Contents, FileRequest, Span, pick_camera

PREFERRED = ("agentview", "front", "image", "rgb")
SPLITS = {"train": "train", "valid": "val", "test": "test"}
"""Filter keys of ``mask/`` -> our splits."""


def read(request: FileRequest) -> Contents | None:
    """Read the demonstrations of a file; None for an HDF5 file of another layout."""
    if not hdf5.holds(request.path, "data", "demo_"):
        return None
    return read_layout(request, Layout(name="robomimic", places=_places, rows=_rows))


def _places(file: h5py.File, request: FileRequest) -> tuple[list[Place], list[str]]:
    demos = sorted((k for k in file["data"] if k.startswith("demo")), key=_number)
    observations = file[f"data/{demos[0]}"].get("obs", {})
    cameras = sorted(k for k in observations if is_picture(observations[k]) and observations[k].dtype == np.uint8)
    if not cameras:
        raise Unreadable(
            f"{request.name} holds no pictures (states only); make them with robomimic's dataset_states_to_obs.py"
        )
    camera, notes = pick_camera(cameras, request.options.camera or request.options.frames, PREFERRED, request.name)
    splits = {
        _text(demo): split for key, split in SPLITS.items() if f"mask/{key}" in file for demo in file[f"mask/{key}"][:]
    }
    task = _task(file)
    found = []
    for demo in demos:
        key = f"data/{demo}/obs/{camera}"
        span = Span(name=demo, first=0, n_frames=len(file[key]), split=splits.get(demo, ""), task=task)
        found.append(place(file, key, span))
    if "bddl_file_name" in file["data"].attrs or "problem_info" in file["data"].attrs:
        notes.append("pictures of LIBERO are stored upside down and read as they are")
    return found, notes


def _rows(file: h5py.File, p: Place) -> Mapping[str, np.ndarray]:
    demo = file[f"data/{p.span.name}"]
    rows = {"actions": demo["actions"][:]}
    if "rewards" in demo:
        rows["rewards"] = demo["rewards"][:]
    return rows


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, name)


def _task(file: h5py.File) -> str:
    """Return LIBERO's instruction; "" for robomimic, which has none."""
    try:
        about = json.loads(_text(file["data"].attrs.get("problem_info", "{}")))
    except ValueError:
        return ""
    said = about.get("language_instruction", "") if isinstance(about, dict) else ""
    return " ".join(str(s) for s in said) if isinstance(said, list) else str(said).strip('"')


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
