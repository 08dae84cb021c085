"""HDF5 files of Counter-Strike deathmatches: ``frame_N_x``, a picture, and ``frame_N_y``, 51 numbers of keys and mouse.

The numbers are 11 keys, 2 mouse buttons, and the movement of the mouse as one of 23 by one of 15 steps. Row N is taken
after picture N. Pictures are stored as BGR, 16 per second.
Source: Pearce and Zhu 2022 (arXiv:2104.04258), the data set CounterStrike_Deathmatch, and DIAMOND's reader of it.

Shapes: T frames, H W pixel rows and columns
"""

from __future__ import annotations

import numpy as np

from reelworld.data.action_alignment import align, check_actions, describe_actions
from reelworld.data.array_store import Unreadable
from reelworld.data.cache import Decoded
from reelworld.data.formats import hdf5, npz, video
from reelworld.data.formats.buttons import button_stream
from reelworld.data.formats.reader import Contents, FileRequest, decoded_episode
from reelworld.data.resize import fit_frames
from reelworld.types import ActionSpec, UserError

FPS = 16.0
KEYS = ("w", "s", "a", "d", "space", "ctrl", "shift", "1", "2", "3", "r", "mouse-left", "mouse-right")
MOUSE_X = np.array(
    [-1000, -500, -300, -200, -100, -60, -30, -20, -10, -4, -2, 0, 2, 4, 10, 20, 30, 60, 100, 200, 300, 500, 1000],
    np.float32,
)
MOUSE_Y = np.array([-200, -100, -50, -20, -10, -4, -2, 0, 2, 4, 10, 20, 50, 100, 200], np.float32)
WIDTH = len(KEYS) + len(MOUSE_X) + len(MOUSE_Y)


def read(request: FileRequest) -> Contents | None:
    """Read a file as one episode, decoded into the cache; None for an HDF5 file of another layout."""
    if not (hdf5.holds(request.path, "frame_0_x") and hdf5.holds(request.path, "frame_0_y")):
        return None
    return decoded_episode(request, lambda: _decode(request))


def _decode(request: FileRequest) -> Decoded:
    options, name = request.options, request.name
    try:
        with hdf5.open_file(request.path) as file:
            n = sum(key.endswith("_x") and key.startswith("frame_") for key in file)
            lacking = [t for t in range(n) if f"frame_{t}_x" not in file or f"frame_{t}_y" not in file]
            if lacking:
                raise Unreadable(f"{name} lacks frame_{lacking[0]}_x or _y of its {n} frames; replace the file.")
            video.check_room(n, options.shape or file["frame_0_x"].shape[:2], request.path, options)
            pictures = []
            for t in range(n):
                bgr = npz.to_pixels(np.asarray(file[f"frame_{t}_x"])[None], "channels-last", f"frame_{t}_x of {name}")
                pictures.append(fit_frames(bgr[..., ::-1], options.shape, options.fit, name)[0])
            codes = np.stack([np.asarray(file[f"frame_{t}_y"], np.float32) for t in range(n)])
    except UserError:
        raise
    except hdf5.DAMAGE as error:
        raise Unreadable(f"{name} is corrupt, or not laid out as Counter-Strike's ({hdf5.reason(error)})") from None
    rows, specs, notes = _actions(codes, name)
    frames = np.stack(pictures)
    kept, rows = align(frames, rows, options.action_shift or 0, name)
    notes.append("pictures of Counter-Strike files are stored as BGR: red and blue are exchanged")
    return {"frames": frames[kept], **rows}, {"fps": options.fps or FPS, "actions": specs, "notes": notes}


def _actions(codes: np.ndarray, name: str) -> tuple[dict[str, np.ndarray], dict[str, ActionSpec], list[str]]:
    """Turn the numbers into keys and the movement of the mouse."""
    if codes.ndim != 2 or codes.shape[1] != WIDTH:
        rows = check_actions(codes, name)
        said = f"actions of {name} have {rows.shape[-1]} numbers, not the {WIDTH} of Counter-Strike; kept as a vector"
        return {"actions": rows}, {"action": describe_actions(rows)}, [said]
    keys, spec = button_stream(codes[:, : len(KEYS)] > 0.5, KEYS)
    notes: list[str] = []
    axes = []
    first = len(KEYS)
    for steps in (MOUSE_X, MOUSE_Y):
        chosen = codes[:, first : first + len(steps)]
        axes.append(np.where(chosen.any(axis=1), steps[chosen.argmax(axis=1)], np.float32(0)))
        if not chosen.any(axis=1).all():
            notes.append("rows of Counter-Strike files without a step of the mouse are read as no movement")
        first += len(steps)
    mouse = np.stack(axes, axis=1)
    about = describe_actions(mouse)
    moves = ActionSpec(kind="continuous", n=2, names=("dx", "dy"), low=about.low, high=about.high, null=(0.0, 0.0))
    return {"actions/keys": keys, "actions/mouse": mouse}, {"keys": spec, "mouse": moves}, list(dict.fromkeys(notes))
