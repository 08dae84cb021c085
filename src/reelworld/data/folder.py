"""Our own recordings on disk: ``dataset.json`` and one uncompressed .npz per episode.

A recorder calls ``write_episode`` for each finished episode and ``write_info`` at the start, now and then, and at
the end. Both replace files atomically, so a recording that is interrupted keeps every finished episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reelworld.config import from_json, read_json, to_json
from reelworld.files import write_json, write_npz
from reelworld.types import ActionSpec, Clip, UserError

__all__ = [
    "ALIGNMENT",
    "FORMAT_VERSION",
    "INFO_FILE",
    "DataInfo",
    "Episode",
    "action_keys",
    "read_info",
    "write_episode",
    "write_info",
]

FORMAT_VERSION = 1
INFO_FILE = "dataset.json"
ALIGNMENT = "row t of actions and rewards leads from frame t to frame t+1; the last row is padding"


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recording, or a stretch of one."""

    source: str
    """Stable id; decides the split. Recorders use the file name without its ending."""
    n_frames: int
    """Frames, one more than the steps taken."""
    split: str
    """"train", "val" or "test"."""
    file: str
    """File the episode was read from, relative to the folder."""
    first: int = 0
    """First frame of the episode inside the file."""
    class_id: int = -1
    """Number of its class in ``DataInfo.classes``; -1 when the data have no classes."""


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What all episodes of a data set have in common."""

    format_version: int = FORMAT_VERSION
    fps: float = 0.0
    """Frames per second; 0 when unknown."""
    height: int
    width: int
    actions: Mapping[str, ActionSpec] = field(default_factory=dict)
    """Stream name -> how its actions are given; empty for video alone."""
    alignment: str = ALIGNMENT
    """What a row of actions means, after reading."""
    classes: tuple[str, ...] = ()
    """Names of the classes that episodes belong to, sorted when we made the list; empty when there are none."""
    split_seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the data come from: environment, arguments, wrappers, policy, or how files were read."""


def write_info(folder: Path, info: DataInfo, episodes: Sequence[Episode]) -> None:
    """Write ``dataset.json`` atomically; call it as often as you like."""
    listed = [{k: v for k, v in to_json(e).items() if k != "class_id" or v >= 0} for e in episodes]
    # what has no classes can still be read by versions that know none
    common = {k: v for k, v in to_json(info).items() if k != "classes" or v}
    write_json(folder / INFO_FILE, {**common, "episodes": listed})


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


def action_keys(names: Sequence[str]) -> dict[str, str]:
    """Map array names of an episode file to stream names: "actions" is the stream "action"."""
    streams = {n: n.removeprefix("actions/") for n in names if n.startswith("actions/")}
    return streams or {n: "action" for n in names if n == "actions"}


def write_episode(path: Path, clip: Clip) -> None:
    """Write one episode as an uncompressed .npz, atomically; the same clip gives the same bytes."""
    if clip.frames.dtype != np.uint8 or clip.frames.ndim != 4 or clip.frames.shape[-1] != 3:
        raise UserError(
            f"frames of {path.name} are {clip.frames.dtype} {clip.frames.shape}; an episode needs uint8 (T, H, W, 3)."
        )
    arrays: dict[str, np.ndarray] = {"frames": clip.frames}
    for name, values in clip.actions.items():
        is_discrete = np.issubdtype(values.dtype, np.integer)
        arrays["actions" if list(clip.actions) == ["action"] else f"actions/{name}"] = values.astype(
            np.int64 if is_discrete else np.float32
        )
    for name, kind in (("rewards", np.float32), ("terminated", np.bool_), ("truncated", np.bool_)):
        if (rows := getattr(clip, name)) is not None:
            arrays[name] = rows.astype(kind)
    for name, rows in arrays.items():
        if len(rows) != len(clip.frames):
            raise UserError(
                f"{name} of {path.name} has {len(rows)} rows; {len(clip.frames)} (one per frame) are needed."
            )
    write_npz(path, arrays)
