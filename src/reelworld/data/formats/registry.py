"""Table of the formats that can be read.

A further format is one module with a reader and one entry of ``FORMATS``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from reelworld.data.episodes import stored_arrays
from reelworld.data.formats import (
    aloha,
    csgo,
    episode_folder,
    hdf5,
    hdf5_arrays,
    lerobot,
    minari,
    npz,
    npz_episodes,
    owamcap,
    picture_folder,
    robomimic,
    robonet,
    stable_worldmodel,
    video,
)
from reelworld.data.formats.reader import (
    Contents,
    FileRequest,
    Format,
    files_in,
    find_files,
    folders_below,
    requests,
)
from reelworld.data.resize_options import ReadOptions
from reelworld.types import UserError

FORMATS = (
    Format(
        name="LeRobot v2, v3",
        recognized="a folder with `meta/info.json` and `data`",
        read=lerobot.read,
        claims=lerobot.is_dataset,
    ),
    Format(
        name="numbered pictures",
        recognized="a folder of .png or .jpg files whose names end in numbers, and no recording beside them",
        read=picture_folder.read,
        claims=picture_folder.is_folder,
    ),
    Format(
        name="episode of this package",
        recognized=".npz with `frames`, `actions`, `rewards`, `terminated`, `truncated`",
        endings=(".npz",),
        read=episode_folder.read_plain,
    ),
    Format(
        name="D4RL, OGBench, DreamerV2, DreamerV3",
        recognized=".npz with `is_first`, or with `terminals`, `timeouts`, `is_last` or `dones` before its last row",
        endings=(".npz",),
        read=npz_episodes.read,
    ),
    Format(
        name="other .npz",
        recognized=".npz with an array of frames, found by name and shape",
        endings=(".npz",),
        read=npz.read,
    ),
    Format(
        name="RoboNet",
        recognized="HDF5 with `env` and `policy`",
        endings=hdf5.ENDINGS,
        read=robonet.read,
    ),
    Format(
        name="robomimic, LIBERO",
        recognized="HDF5 with `data/demo_0`",
        endings=hdf5.ENDINGS,
        read=robomimic.read,
    ),
    Format(
        name="Minari",
        recognized="HDF5 with `episode_0/observations`, `metadata.json` beside it",
        endings=hdf5.ENDINGS,
        read=minari.read,
    ),
    Format(
        name="ALOHA",
        recognized="HDF5 with `observations/images`",
        endings=hdf5.ENDINGS,
        read=aloha.read,
    ),
    Format(
        name="stable-worldmodel",
        recognized="HDF5 with `ep_len` and `ep_offset`",
        endings=hdf5.ENDINGS,
        read=stable_worldmodel.read,
    ),
    Format(
        name="Counter-Strike (DIAMOND)",
        recognized="HDF5 with `frame_0_x` and `frame_0_y`",
        endings=hdf5.ENDINGS,
        read=csgo.read,
    ),
    Format(
        name="other HDF5 arrays",
        recognized="HDF5 with an array of frames at its outermost level; cut into episodes as .npz files are",
        endings=hdf5.ENDINGS,
        read=hdf5_arrays.read,
    ),
    Format(
        name="HDF5 of videos",
        recognized="HDF5 with `train_data` and `train_idx`",
        endings=hdf5.ENDINGS,
        read=hdf5.read,
    ),
    Format(
        name="OWAMcap",
        recognized=".mcap with screen messages, and the video that they point into",
        endings=owamcap.ENDINGS,
        read=owamcap.read,
    ),
    Format(
        name="video",
        recognized="video file, with an action file of the same stem, owl-control's `inputs.csv` or VPT's .jsonl",
        endings=video.ENDINGS,
        read=video.read,
    ),
)
"""The first format that claims a folder, or has a file's ending and accepts the file, reads it."""
ENDINGS = tuple(dict.fromkeys(ending for f in FORMATS for ending in f.endings))


def find_recordings(path: Path) -> list[Path]:
    """Return the recordings under a folder, in a stable order: files, and folders that are one recording.

    A folder that a format claims is not searched. Of a single file, return the file.
    """
    if path.is_file():
        return find_files(path, ENDINGS)
    found: list[Path] = []
    for folder in folders_below(path, _is_recording):
        is_whole = _is_recording(folder)
        found += [folder] if is_whole else [p for p in files_in(folder, ENDINGS) if not owamcap.hides(p)]
    return sorted(found)


def _is_recording(folder: Path) -> bool:
    """Return True for a folder that is one recording."""
    return any(f.claims is not None and f.claims(folder) for f in FORMATS)


def read_file(request: FileRequest) -> Contents:
    """Read any recording that is not in a folder of ours; files that need decoding are decoded once, into the cache.

    Raises:
        Unreadable: If the file is truncated or corrupt.
        UserError: If it cannot be read as asked.
    """
    if request.path.is_dir():
        return next(c for f in FORMATS if f.claims and f.claims(request.path) and (c := f.read(request)) is not None)
    ending = request.path.suffix.lower()
    results = (f.read(request) for f in FORMATS if ending in f.endings)
    return next(contents for contents in results if contents is not None)


def source_frame(path: Path, options: ReadOptions) -> np.ndarray:
    """Return the first frame of the first recording as it is stored, before any resizing: uint8 (H, W, 3).

    Raises:
        Unreadable: If that recording is truncated or corrupt.
        UserError: If there is none, or it cannot be read as asked.
    """
    paths = find_recordings(path)
    if not paths:
        raise UserError(f"{path} holds no recording.")
    unresized = replace(options, size=None, fit="none")
    if paths[0].suffix.lower() in video.ENDINGS:
        first: np.ndarray = video.frames_at(paths[0], np.zeros(1), 1.0, unresized)[0]
        return first
    (request,) = requests(paths[:1], path.parent if path.is_file() else path, unresized)
    frame: np.ndarray = stored_arrays(read_file(request).episodes[0]).read(0, 1)["frames"][0]
    return frame
