"""HDF5 files with arrays of frames and actions side by side, as in an .npz: D4RL's files, and those of many scripts.

They are read as .npz files of the same arrays are: cut at marks of ends if there are any, else one episode.
"""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import numpy as np

from reelworld.data.array_store import Unreadable
from reelworld.data.cache import scratch_file
from reelworld.data.formats import hdf5, npz, npz_episodes
from reelworld.data.formats.hdf5_episodes import is_picture
from reelworld.data.formats.reader import Contents, FileRequest, decoded_episode, read_cached, stored_spans
from reelworld.data.resize_options import ReadOptions
from reelworld.types import UserError

VIDEOGPT = {"train_data", "train_idx", "test_data", "test_idx"}
"""Arrays of VideoGPT's layout, which has a reader of its own."""


def read(request: FileRequest) -> Contents | None:
    """Read a file with pictures at its outermost level; None for others."""
    try:
        with hdf5.open_file(request.path) as file:
            if not VIDEOGPT.isdisjoint(file) or not any(is_picture(member) for member in file.values()):
                return None
            marked = {k: np.asarray(file[k]) for k in npz_episodes.MARKS if isinstance(file.get(k), h5py.Dataset)}
    except hdf5.DAMAGE:
        return None  # the last reader of HDF5 files reports the damage
    if npz_episodes.has_several(marked):
        store = read_cached(request, lambda: npz_episodes.decode(_load(request), request))
        return stored_spans(request, store)
    options = request.options
    return decoded_episode(request, lambda: npz.decode_arrays(_load(request), request.name, options, "HDF5"))


def _load(request: FileRequest) -> Mapping[str, np.ndarray]:
    """Read the arrays at the outermost level; large ones are mapped from a nameless file."""
    try:
        with hdf5.open_file(request.path) as file:
            datasets = {k: v for k, v in file.items() if isinstance(k, str) and isinstance(v, h5py.Dataset) and v.ndim}
            _check_room(datasets, request.name, request.options)
            return {name: _array(dataset) for name, dataset in datasets.items() if dataset.dtype.kind in "iufb"}
    except UserError:
        raise
    except hdf5.DAMAGE as error:
        raise Unreadable(f"{request.name} is truncated or corrupt ({hdf5.reason(error)})") from None


def _check_room(datasets: Mapping[str, h5py.Dataset], name: str, options: ReadOptions) -> None:
    gigabytes = sum(dataset.nbytes for dataset in datasets.values()) / 1e9
    if gigabytes > options.max_gigabytes:
        raise UserError(
            f"{name} unpacks to {gigabytes:.1f} GB; the limit is {options.max_gigabytes:g}. Raise --max-gigabytes or "
            "cut the file into shorter episodes."
        )


def _array(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.nbytes <= npz.BIG_BYTES:
        return np.asarray(dataset[:])
    with scratch_file() as file:
        n_rows = max(1, npz.BIG_BYTES // 8 * len(dataset) // dataset.nbytes)
        for first in range(0, len(dataset), n_rows):
            file.write(np.ascontiguousarray(dataset[first : first + n_rows]).data)
        file.flush()
        return np.memmap(file, dataset.dtype, "r", shape=dataset.shape)
