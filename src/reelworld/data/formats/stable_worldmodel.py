"""HDF5 files of stable-worldmodel: ``pixels`` and ``action`` of all episodes end to end, ``ep_len``, ``ep_offset``.

Row t of the actions is taken after picture t; the last of an episode is padding (NaN in files of its recorder). Files
whose first row is NaN hold the action that led to the picture.

Shapes: N frames of all episodes
"""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import numpy as np

from reelworld.data.array_store import Unreadable
from reelworld.data.formats import hdf5
from reelworld.data.formats.hdf5_episodes import Layout, Place, is_picture, place, read_layout
from reelworld.data.formats.reader import Contents, FileRequest, Span, pick_camera

PREFERRED = ("pixels", "image")
LEFT_OUT = ("reward", "terminated", "truncated")


def read(request: FileRequest) -> Contents | None:
    """Read the episodes of a file; None for an HDF5 file of another layout."""
    if not (hdf5.holds(request.path, "ep_len") and hdf5.holds(request.path, "ep_offset")):
        return None
    return read_layout(request, Layout(name="stable-worldmodel", places=_places, rows=_rows))


def _places(file: h5py.File, request: FileRequest) -> tuple[list[Place], list[str]]:
    cameras = sorted(name for name in file if is_picture(file[name]))
    if not cameras:
        raise Unreadable(f"{request.name} holds no pictures; wanted pixels (N, H, W, 3)")
    requested = request.options.camera or request.options.frames
    camera, notes = pick_camera(cameras, requested, PREFERRED, request.name)
    firsts, lengths = file["ep_offset"][:].astype(np.int64), file["ep_len"][:].astype(np.int64)
    n_rows = len(file[camera])
    if firsts.shape != lengths.shape or (firsts < 0).any() or (lengths < 0).any() or (firsts + lengths > n_rows).any():
        raise Unreadable(f"ep_offset and ep_len of {request.name} do not fit its {n_rows} frames; mend the file.")
    spans = [
        Span(name=f"{i:06d}", first=int(first), n_frames=int(n))
        for i, (first, n) in enumerate(zip(firsts, lengths, strict=True))
    ]
    if "action" in file and spans and _leads_to_frame(file["action"][spans[0].first : spans[0].first + 1]):
        notes.append("the first action of each episode is empty: actions are shifted by one")
    if left_out := [name for name in LEFT_OUT if name in file]:
        notes.append(f"{', '.join(left_out)} of stable-worldmodel files are left out: their alignment is undocumented")
    return [place(file, camera, span) for span in spans], notes


def _leads_to_frame(first_row: np.ndarray) -> bool:
    return bool(first_row.dtype.kind == "f" and np.isnan(first_row).all())


def _rows(file: h5py.File, p: Place) -> Mapping[str, np.ndarray]:
    if "action" not in file:
        return {}
    rows = file["action"][p.span.first : p.span.first + p.span.n_frames]
    return {"actions": rows[1:] if _leads_to_frame(rows[:1]) else rows}
