"""RoboNet's HDF5 files: one recording of a robot per file, with its cameras, its actions and its state.

``env/camN_video`` holds a film (``frames``, uint8 bytes of an mp4), pictures (``frame0``, ``frame1``, ..., bytes of
JPEGs) or plain frames (``frames``, (T, H, W, 3)); ``policy/actions`` (T - 1, A) lead from each frame to the next;
``env/state`` (T, S) ends with the gripper; attributes of ``metadata`` name the robot. Robots have actions of other
widths: all are converted to five numbers, as for the published models.
Source: the loader of RoboNet (Dasari et al. 2019, arXiv:1910.11215) and iVideoGPT's preparation of it
(arXiv:2405.15223). Differs: four numbers without a grip of their own get a zero (iVideoGPT's code returns nothing);
colours of JPEGs are those of RoboNet's own loader.

Shapes: T frames, H W pixel rows and columns, A action width, S state width, R rows of actions
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from reelworld.config import unknown
from reelworld.data.action_alignment import align, check_actions, describe_actions
from reelworld.data.array_store import Unreadable
from reelworld.data.cache import Decoded, cache_folder
from reelworld.data.formats import hdf5, video
from reelworld.data.formats.npz import to_pixels
from reelworld.data.formats.reader import Contents, FileRequest, decoded_episode
from reelworld.data.resize import fit_frames
from reelworld.data.resize_options import ReadOptions
from reelworld.types import UserError

DAMAGE = (*hdf5.DAMAGE, AttributeError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""Errors for a file that is damaged, or has a group in place of data."""
WIDTH = 5
"""Numbers of an action: three of the place, one of the turn, the gripper."""


def read(request: FileRequest) -> Contents | None:
    """Read a file as one episode, decoded into the cache; None for an HDF5 file of another layout, or a damaged one."""
    try:
        with hdf5.open_file(request.path) as file:
            if not ("env" in file and "policy" in file):
                return None
    except hdf5.DAMAGE:
        return None
    return decoded_episode(request, lambda: decode(request.path, request.options))


def decode(path: Path, options: ReadOptions) -> Decoded:
    """Read one file whole and return an episode's arrays and facts.

    Args:
        path: The file.
        options: How it is read; ``frames`` names the camera, by default cam0_video.

    Raises:
        Unreadable: If the file is truncated or corrupt, or lacks what the layout has.
        UserError: If there is no such camera, or the size is not the wanted one.
    """
    try:
        with hdf5.open_file(path) as file:
            cameras = sorted(name for name in file["env"] if name.startswith("cam"))
            camera = _camera(cameras, options.frames, path.name)
            frames = _frames(file["env"][camera], path, camera, options)
            actions, note = _actions(file, path.name)
            n = min(len(frames), len(actions) + 1, *([len(file["env/state"])] if "env/state" in file else []))
    except UserError:
        raise
    except DAMAGE as error:
        raise Unreadable(f"{path.name} is corrupt, or not laid out as RoboNet's ({hdf5.reason(error)})") from None
    if n < 2:
        raise Unreadable(f"{path.name} holds {n} frames with {len(actions)} actions; wanted two frames at least")
    kept, rows = align(frames[:n], {"actions": actions[: n - 1]}, options.action_shift or 0, path.name)
    notes = [note]
    if len(cameras) > 1:
        notes.append(f"RoboNet files have {len(cameras)} cameras: {camera} is read, another with --frames NAME")
    facts = {"fps": options.fps, "actions": {"action": describe_actions(rows["actions"])}, "notes": notes}
    return {"frames": np.ascontiguousarray(frames[:n][kept]), **rows}, facts


def _camera(cameras: list[str], requested: str, name: str) -> str:
    if not cameras:
        raise Unreadable(f"{name} has no camera; wanted env/cam0_video")
    if requested and requested not in cameras:
        raise unknown(f"camera of {name}", requested, cameras)
    return requested or cameras[0]


def _frames(group: h5py.Group, path: Path, camera: str, options: ReadOptions) -> np.ndarray:
    """Decode the frames of a camera, uint8 (T, H, W, 3)."""
    if "frames" not in group:
        return _pictures(group, path, options)
    stored = group["frames"]
    is_bgr = _text(stored.attrs.get("image_format", "RGB")) == "BGR"
    if getattr(stored, "ndim", 0) == 4:
        pixels = to_pixels(np.asarray(stored), "channels-last", f"env/{camera}/frames of {path.name}")
        frames = fit_frames(pixels, options.shape, options.fit, path.name)
    else:
        frames = _film(_bytes(stored), f"{path.name[:100]} {camera}", options)
    frames = frames[: int(stored.attrs.get("T", len(frames)))]
    return frames[..., ::-1] if is_bgr else frames


def _film(content: bytes, name: str, options: ReadOptions) -> np.ndarray:
    """Decode an mp4; its frame rate is not the robot's."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        path = Path(folder) / f"{name}.mp4"
        path.write_bytes(content)
        options = ReadOptions(size=options.size, fit=options.fit, max_gigabytes=options.max_gigabytes)
        return video.decode(path, None, options)[0]["frames"]


def _pictures(group: h5py.Group, path: Path, options: ReadOptions) -> np.ndarray:
    """Decode JPEGs, one per frame."""
    stored = [group[f"frame{t}"] for t in range(len(group))]
    if not stored:
        raise Unreadable(f"{path.name} has a camera without frames")
    images = []
    for dataset in stored:
        with Image.open(io.BytesIO(_bytes(dataset)), formats=["JPEG"]) as image:
            video.check_room(len(stored), image.size[::-1], path, options)
            images.append(np.asarray(image.convert("RGB")))
    # the encoder took its input for BGR: an input of RGB is stored with red and blue exchanged
    is_exchanged = _text(stored[0].attrs.get("image_format", "BGR")) == "RGB"
    frames = fit_frames(np.stack(images), options.shape, options.fit, path.name)
    return frames[..., ::-1] if is_exchanged else frames


def _actions(file: h5py.File, name: str) -> tuple[np.ndarray, str]:
    """Read the actions, float32 (R, 5), and a note on how they became five numbers."""
    raw = np.asarray(file["policy/actions"][:])
    if raw.ndim != 2 or raw.dtype.kind not in "iuf":
        raise UserError(f"policy/actions of {name} is {raw.dtype} {raw.shape}; wanted numbers, (T - 1, A).")
    rows = check_actions(raw.astype(np.float32), name)
    about = file["metadata"].attrs if "metadata" in file else {}
    robot, width = _text(about.get("robot", "unnamed robot")), rows.shape[1]
    note = f"RoboNet's {robot}: {width} numbers per action"
    if width == WIDTH:
        return rows, note
    if width > WIDTH:
        return rows[:, :WIDTH], f"{note}, of which the first {WIDTH} are kept"
    primitives = about.get("primitives", file["misc/primitives"][()] if "misc/primitives" in file else "")
    if width == WIDTH - 1 and _text(primitives) == "autograsp":
        grip = _grip(file, about, name)[: len(rows)]
        return np.concatenate([rows[: len(grip)], grip[:, None]], 1), f"{note}, and the grip read off the next state"
    padded = np.pad(rows, ((0, 0), (0, WIDTH - width)))
    return padded, f"{note}, filled up with zeros to {WIDTH}"


def _grip(file: h5py.File, about: Mapping[str, object], name: str) -> np.ndarray:
    """Return the bound of the gripper that is nearer after each step, float32 (T - 1,)."""
    bounds = []
    for side in ("low_bound", "high_bound"):
        places = [about.get(side), *(file[key][()] for key in (f"misc/{side}", f"env/{side}") if key in file)]
        bounds += [float(np.asarray(value).reshape(-1)[-1]) for value in places if value is not None][:1]
    if len(bounds) < 2 or "env/state" not in file:
        raise Unreadable(f"{name} grips by itself (autograsp) but lacks env/state, low_bound or high_bound")
    is_high = np.asarray(file["env/state"][1:, -1]) > sum(bounds) / 2
    return np.where(is_high, bounds[1], bounds[0]).astype(np.float32)


def _bytes(dataset: h5py.Dataset) -> bytes:
    content = np.asarray(dataset[()])
    if content.dtype != np.uint8:
        raise TypeError(f"{dataset.name} is {content.dtype}; wanted the bytes of a film or picture, uint8")
    return content.tobytes()


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
