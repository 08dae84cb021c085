"""HDF5 files of ALOHA and ACT, an episode each: ``observations/images/<camera>``, ``observations/qpos``, ``action``.

Row t of the actions is taken after picture t. Pictures are arrays, or JPEGs filled up with zeros.
Source: the recording script of ACT (arXiv:2304.13705). Recorders disagree on red and blue in JPEGs; they are read as
every viewer shows them.
"""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import numpy as np

from reelworld.data.array_store import Unreadable
from reelworld.data.formats import hdf5
from reelworld.data.formats.hdf5_episodes import Layout, Place, is_picture, place, read_layout
from reelworld.data.formats.reader import Contents, FileRequest, Span, pick_camera

PREFERRED = ("top", "high", "front")


def read(request: FileRequest) -> Contents | None:
    """Read a file as one episode; None for an HDF5 file of another layout."""
    if not hdf5.holds(request.path, "observations/images"):
        return None
    return read_layout(request, Layout(name="ALOHA", places=_places, rows=_rows))


def _places(file: h5py.File, request: FileRequest) -> tuple[list[Place], list[str]]:
    images = file["observations/images"]
    cameras = sorted(name for name in images if is_picture(images[name]))
    if not cameras:
        raise Unreadable(f"{request.name} holds no pictures in observations/images")
    requested = request.options.camera or request.options.frames
    camera, notes = pick_camera(cameras, requested, PREFERRED, request.name)
    if images[camera].ndim != 4:
        notes.append("JPEGs of ALOHA are read with red and blue as viewers show them")
    key = f"observations/images/{camera}"
    return [place(file, key, Span(name="", first=0, n_frames=len(file[key])))], notes


def _rows(file: h5py.File, p: Place) -> Mapping[str, np.ndarray]:
    return {"actions": file["action"][:]} if "action" in file else {}
