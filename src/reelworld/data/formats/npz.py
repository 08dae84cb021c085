"""Any .npz with frames and actions, converted to our layout and alignment.

Recognized by their keys: robot pushing samples (``image``, ``action``), dm_env style replays such as Meta-World
demonstrations (``observation`` stacks channel-first, ``action``, ``reward``, ``discount``; each row led to its
frame), video alone (``image``). Anything else is mapped with ``ReadOptions``.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reelworld.config import unknown
from reelworld.data.action_alignment import align, check_actions, describe_actions
from reelworld.data.array_store import DAMAGE, Unreadable, pickled
from reelworld.data.cache import Decoded, scratch_file
from reelworld.data.formats.action_table import BUTTONS, ONE_HOT, described
from reelworld.data.formats.reader import Contents, FileRequest, decoded_episode
from reelworld.data.resize import fit_frames
from reelworld.data.resize_options import ReadOptions
from reelworld.types import ActionSpec, UserError

FRAME_KEYS = ("frames", "image", "images", "observation", "observations", "obs", "video", "pixels", "rgb")
ACTION_KEYS = ("action", "actions")
REWARD_KEYS = ("reward", "rewards")
END_KEYS = ("terminated", "terminal", "terminals", "done", "dones")
CHANNELS = (1, 3, 6, 9, 12, 15)
"""Channels that are one picture or a stack of colour pictures; a stack keeps its newest, the last three."""
BIG_BYTES = 256_000_000
"""Arrays of more bytes are unpacked to the disk, not into memory."""
UNDOCUMENTED = (
    "the {} files do not say how actions and frames are aligned: row t is taken as the action after frame t; "
    "if row t led to frame t, use --action-shift 1"
)
LED_TO_FRAME = "rows lead to their frame (the first is empty): actions and rewards are shifted by one"


def read(request: FileRequest) -> Contents:
    """Read a file as one episode, decoded into the cache."""
    return decoded_episode(request, lambda: decode(request.path, request.options))


def decode(path: Path, options: ReadOptions) -> Decoded:
    """Read a file whole and return an episode's arrays and facts.

    Raises:
        Unreadable: If the file is truncated or corrupt.
        UserError: If it cannot be read as asked.
    """
    return decode_arrays(load(path, options), path.name, options)


def decode_arrays(raw: Mapping[str, np.ndarray], name: str, options: ReadOptions, ending: str = ".npz") -> Decoded:
    """Find frames and steps among the arrays of a file; errors are those of ``decode``.

    Args:
        raw: Array name -> array.
        name: File, for errors.
        options: How they are read.
        ending: Kind of the file, for notes.
    """
    key = frame_key(raw, options, name)
    pixels, said = to_bytes(raw[key], options.layout)
    frames = to_pixels(pixels, options.layout, f"{key} of {name}")
    steps, action_names, one_hot = _steps(raw, options, name)
    shift, notes = _shift(raw, steps, options, len(frames), ending)
    kept, rows = align(frames, steps, shift, name) if steps else (slice(None), {})
    frames = fit_frames(frames[kept], options.shape, options.fit, name)
    specs = {stream: one_hot.get(stream) or describe_actions(rows[key]) for key, stream in action_names.items()}
    if any(spec.kind == "buttons" for spec in specs.values()):
        notes.append(BUTTONS)
    notes += [*([ONE_HOT] if one_hot else []), *said]
    return {"frames": np.ascontiguousarray(frames), **rows}, {"fps": options.fps, "actions": specs, "notes": notes}


def has_own_names(keys: Sequence[str]) -> bool:
    """Return True for arrays named as our recorder names them; then the alignment is ours too."""
    has_actions = any(k == "actions" or k.startswith("actions/") for k in keys)
    return "frames" in keys and (not has_actions or {"rewards", "terminated", "truncated"} <= set(keys))


def load(path: Path, options: ReadOptions) -> dict[str, np.ndarray]:
    """Read all arrays of a file, if they do not take too much space."""
    try:
        with zipfile.ZipFile(path) as archive:
            gigabytes = sum(i.file_size for i in archive.infolist()) / 1e9
        if gigabytes > options.max_gigabytes:
            raise UserError(
                f"{path.name} unpacks to {gigabytes:.1f} GB; the limit is {options.max_gigabytes:g}. Raise "
                "--max-gigabytes or cut the file into shorter episodes."
            )
        with zipfile.ZipFile(path) as archive:
            big = [i.filename for i in archive.infolist() if i.file_size > BIG_BYTES]
            with np.load(path, allow_pickle=False) as arrays:
                plain = {key: arrays[key] for key in arrays.files if f"{key}.npy" not in big}
            return plain | {name.removesuffix(".npy"): _unpack(archive, name) for name in big}
    except UserError:
        raise
    except DAMAGE as error:
        if "allow_pickle" in str(error):
            raise pickled(path.name, "a pickled object array") from None
        raise Unreadable(f"{path.name} is truncated or corrupt ({type(error).__name__})") from None


def _unpack(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Unpack a large array into a nameless file and map it, so that it takes no memory."""
    with archive.open(name) as member, scratch_file() as file:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(member)
        if dtype.hasobject:
            raise ValueError("allow_pickle")
        shutil.copyfileobj(member, file, 1 << 22)
        file.flush()
        return np.memmap(file, dtype, "r", shape=shape, order="F" if is_fortran else "C")


def frame_key(raw: Mapping[str, np.ndarray], options: ReadOptions, name: str) -> str:
    """Return the name of the array of frames: the requested one, else the first of the usual ones."""
    if options.frames:
        if options.frames not in raw:
            raise unknown(f"array in {name}", options.frames, raw)
        return options.frames
    found = [k for k in FRAME_KEYS if k in raw and raw[k].ndim in (3, 4)]
    found = found or [k for k, v in raw.items() if v.ndim == 4]
    if not found:
        shapes = ", ".join(f"{k} {v.shape}" for k, v in raw.items()) or "nothing"
        raise UserError(f"{name} holds {shapes}; wanted frames (T, H, W, 3): name them with --frames.")
    return found[0]


def to_bytes(raw: np.ndarray, layout: str) -> tuple[np.ndarray, list[str]]:
    """Scale floats from [0, 1] or [-1, 1] to 0..255 and drop an alpha channel; return notes on it. Others stay."""
    notes = []
    if raw.ndim == 4 and raw.shape[3] == 4 and layout != "channels-first" and raw.shape[1] not in CHANNELS:
        raw = raw[..., :3]
        notes.append("the alpha channel of frames is left out")
    if raw.dtype.kind == "f" and raw.size and np.isfinite(raw).all():
        low, high = float(raw.min()), float(raw.max())
        if low >= -1 and high <= 1:
            start = -1.0 if low < 0 else 0.0
            raw = np.rint((raw - start) * (255 / (1 - start))).astype(np.uint8)
            notes.append(f"frames are floats and scaled from {start:g}..1 to 0..255")
    return raw, notes


def to_pixels(raw: np.ndarray, layout: str, name: str) -> np.ndarray:
    """Turn images of any usual layout into uint8 (T, H, W, 3).

    Args:
        raw: Integers 0..255, (T, H, W), (T, H, W, C) or (T, C, H, W) with C 1 (grey), 3, or a stack of 3s.
        layout: "auto", "channels-last" or "channels-first".
        name: Array and file, for errors.
    """
    if raw.dtype.kind not in "iu":
        hint = "multiply by 255 and store as uint8" if raw.dtype.kind == "f" else "store as uint8"
        raise UserError(f"{name} is {raw.dtype}; wanted integers in 0..255: {hint}.")
    if raw.ndim not in (3, 4) or 0 in raw.shape:
        raise UserError(f"{name} has shape {raw.shape}; wanted (T, H, W, 3) with at least one frame.")
    low, high = (0, 255) if raw.dtype == np.uint8 else (int(raw.min()), int(raw.max()))
    if low < 0 or high > 255:
        raise UserError(f"{name} has values in {low}..{high}; wanted 0..255.")
    images = raw[..., None] if raw.ndim == 3 else raw
    first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
    if layout == "auto" and first == last:
        raise UserError(
            f"{name} has shape {raw.shape}; channels (1, 3, or a stack of 3s) were looked for in dimension 1 or 3. "
            "Say where they are with --layout."
        )
    if layout == "channels-first" or (layout == "auto" and first):
        images = images.transpose(0, 2, 3, 1)
    if images.shape[3] not in CHANNELS:
        raise UserError(f"{name} has {images.shape[3]} channels; wanted 1, 3 or a stack of 3s. Cut or map them first.")
    images = images[..., -3:].astype(np.uint8, copy=False)
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def action_key(raw: Mapping[str, np.ndarray], options: ReadOptions, name: str) -> str:
    """Return the name of the array of actions: the requested one, else the first of the usual ones; "" for none."""
    if options.action and options.action not in raw:
        raise unknown(f"array in {name}", options.action, raw)
    return options.action or next((k for k in ACTION_KEYS if k in raw), "")


def _steps(
    raw: Mapping[str, np.ndarray], options: ReadOptions, name: str
) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, ActionSpec]]:
    """Collect the rows under our names; also return array name -> action stream, and stream -> spec of one-hot rows."""
    action = action_key(raw, options, name)
    own_streams = {k: k.removeprefix("actions/") for k in raw if k.startswith("actions/")}
    steps, streams = {}, {}
    if action:
        steps["actions"], streams["actions"] = check_actions(raw[action], name), "action"
    elif own_streams:
        steps |= {k: check_actions(raw[k], name) for k in own_streams}
        streams |= own_streams
    one_hot = {}
    for key, stream in streams.items():
        table = described(steps[key])
        if table.rows.ndim != steps[key].ndim:
            steps[key], one_hot[stream] = table.rows, table.spec
    if reward := next((k for k in REWARD_KEYS if k in raw), ""):
        steps["rewards"] = column(raw[reward], np.float32, f"{reward} of {name}")
    if end := next((k for k in END_KEYS if k in raw), ""):
        steps["terminated"] = column(raw[end], np.bool_, f"{end} of {name}")
    elif "discount" in raw:
        steps["terminated"] = column(raw["discount"], np.float32, f"discount of {name}") == 0
    if "truncated" in raw:
        steps["truncated"] = column(raw["truncated"], np.bool_, f"truncated of {name}")
    return steps, streams, one_hot


def column(rows: np.ndarray, kind: type[np.generic], name: str) -> np.ndarray:
    """Check one number per row and return them, (R,), as ``kind``."""
    if rows.ndim == 0 or rows.size != len(rows) or rows.dtype.kind not in "iufb":
        raise UserError(f"{name} is {rows.dtype} {rows.shape}; wanted one number per row, (T,).")
    if not (is_finite := np.isfinite(rows.reshape(-1))).all():
        row = int(np.flatnonzero(~is_finite)[0])
        raise UserError(f"{name} has NaN or infinity (first in row {row}); wanted finite numbers: mend the file.")
    return rows.reshape(-1).astype(kind)


def _shift(
    raw: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray], options: ReadOptions, n_frames: int, ending: str
) -> tuple[int, list[str]]:
    actions = steps.get("actions")
    if options.action_shift is not None:
        return options.action_shift, []
    if has_own_names(list(raw)) or not steps or all(len(rows) == n_frames - 1 for rows in steps.values()):
        return 0, []
    is_replay = "discount" in raw and "rewards" in steps and not steps["rewards"][0]
    if is_replay and actions is not None and not actions[0].any():
        return 1, [LED_TO_FRAME]
    return 0, [UNDOCUMENTED.format(ending)]
