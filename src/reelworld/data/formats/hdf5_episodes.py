"""HDF5 files of several episodes, in the layouts of several projects: common reading of their pictures and steps.

A layout lists its episodes as ``Place``s and reads the steps of one. Pictures that are plain uint8 arrays stay in the
file and are read by window; encoded ones, and other kinds of arrays, are decoded once, into the cache.

Shapes: N frames of a dataset, T frames of an episode, H W pixel rows and columns
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import h5py
import numpy as np
from PIL import Image

from reelworld.data.action_alignment import check_actions, common_specs, describe_actions
from reelworld.data.array_store import Unreadable
from reelworld.data.cache import Decoded
from reelworld.data.episodes import STEP_KEYS, DataInfo, StoredArrays, action_keys
from reelworld.data.formats import hdf5, npz, video
from reelworld.data.formats.end_to_end import align_spans
from reelworld.data.formats.reader import (
    Contents,
    FileRequest,
    Span,
    cached_actions,
    episode_of,
    read_cached,
    spans_of,
    stored_spans,
)
from reelworld.data.resize import check_fit, common_size, fit_frames
from reelworld.types import ActionSpec, UserError

DAMAGE = (*hdf5.DAMAGE, AttributeError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""Errors for a file that is damaged, or has a group in place of data."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Frames of one episode: a range of one dataset."""

    span: Span
    key: str
    """Name of the dataset."""
    shape: tuple[int, ...]
    """Shape of the dataset, (N, ...)."""
    is_plain: bool
    """True for a dataset uint8 (N, H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Way to read the episodes of one format."""

    name: str
    places: Callable[[h5py.File, FileRequest], tuple[list[Place], list[str]]]
    """(file, request) -> episodes and notes."""
    rows: Callable[[h5py.File, Place], Mapping[str, np.ndarray]]
    """(file, episode) -> steps as the file has them: "actions" or "actions/<stream>", and those of ``STEP_KEYS``, T or
    T - 1 rows each."""
    specs: Mapping[str, ActionSpec] = field(default_factory=dict)
    """Action stream -> spec, where the format says more than the rows do."""
    shifts: Mapping[str, int] = field(default_factory=dict)
    """Name of steps -> shift: row t + shift belongs to the step from frame t to t + 1; 0 for names not in it."""


def place(file: h5py.File, key: str, span: Span) -> Place:
    """Return the place of an episode in a dataset of the file."""
    dataset = file[key]
    is_plain = dataset.dtype == np.uint8 and dataset.ndim == 4 and dataset.shape[3] == 3 and 0 not in dataset.shape
    return Place(span=span, key=key, shape=tuple(dataset.shape), is_plain=is_plain)


def is_picture(dataset: h5py.Dataset | h5py.Group) -> bool:
    """Return True for a dataset of pixels (N, H, W, C) or (N, C, H, W), or of the bytes of JPEGs or PNGs."""
    if not isinstance(dataset, h5py.Dataset) or not dataset.shape or not dataset.shape[0]:
        return False
    if dataset.ndim == 4:
        return bool(dataset.dtype.kind in "iuf" and {dataset.shape[1], dataset.shape[3]} & set(npz.CHANNELS))
    if dataset.ndim > 2 or not (dataset.dtype == np.uint8 or dataset.dtype.hasobject):
        return False
    start = np.asarray(dataset[0], dtype=np.uint8)[:4].tobytes() if dataset.ndim == 2 or _is_ragged(dataset) else b""
    return start.startswith((b"\xff\xd8", b"\x89PNG"))


def _is_ragged(dataset: h5py.Dataset) -> bool:
    return bool(h5py.check_vlen_dtype(dataset.dtype) == np.uint8)


def read_layout(request: FileRequest, layout: Layout) -> Contents:
    """Read the episodes of a file.

    Raises:
        Unreadable: If the file is damaged or holds no episode of two frames.
        UserError: If it cannot be read as asked.
    """
    with _open(request, layout) as file:
        places, notes = layout.places(file, request)
    n_listed = len(places)
    places = [p for p in places if p.span.n_frames >= 2]
    if not places:
        raise Unreadable(f"{request.name} holds no episode of two frames or more")
    if len(places) < n_listed:
        notes.append(f"{n_listed - len(places)} episodes of {request.name} are left out: a single frame has no step")
    if all(p.is_plain for p in places):
        return _mapped(request, layout, places, notes)
    return _decoded(request, layout, places, notes)


def _mapped(request: FileRequest, layout: Layout, places: Sequence[Place], notes: list[str]) -> Contents:
    """Leave the frames in the file; align the steps once, into the cache."""
    options = request.options
    for shape in {p.shape[1:3] for p in places}:
        if options.shape is not None:
            check_fit(shape, options.shape, options.fit, request.name)
    # steps do not depend on the size of the frames
    unsized = replace(request, options=replace(options, size=None, fit="none"))
    steps = read_cached(unsized, lambda: _steps(unsized, layout, places), (), "steps")
    listed = {p.span.name: p for p in places}
    episodes = []
    sizes: Counter[tuple[int, int]] = Counter()
    row = {p.span.name: first for p, first in zip(places, _first_rows(places), strict=True)}
    for kept in spans_of(steps, request.name):
        p = listed[kept.name]
        offset = kept.first - row[kept.name]
        store = hdf5.SplitStore(
            path=request.path, key=p.key, shape=p.shape, size=options.shape, fit=options.fit, pool=request.tables,
            steps=steps, first=p.span.first + offset, first_step=kept.first,
        )  # fmt: skip
        episodes.append(episode_of(request, kept, StoredArrays(store, 0, kept.n_frames)))
        sizes[options.shape or (p.shape[1], p.shape[2])] += 1
    height, width = common_size(sizes)
    info = DataInfo(fps=options.fps, height=height, width=width, actions=cached_actions(steps, request.name))
    return Contents(info=info, episodes=tuple(episodes), notes=tuple(notes))


def _decoded(request: FileRequest, layout: Layout, places: Sequence[Place], notes: list[str]) -> Contents:
    """Decode every episode, with its steps, into a cache entry of its own."""
    parts = [
        stored_spans(request, read_cached(request, partial(_whole, request, layout, p), (), f"{p.key}/{p.span.name}"))
        for p in places
    ]
    heights = Counter((c.info.height, c.info.width) for c in parts)
    height, width = common_size(heights)
    specs = common_specs({f"{request.name} ({e.source})": c.info.actions for c in parts for e in c.episodes})
    info = DataInfo(fps=request.options.fps, height=height, width=width, actions=specs)
    found = [note for c in parts for note in c.notes]
    return Contents(info=info, episodes=tuple(e for c in parts for e in c.episodes), notes=(*notes, *found))


def _first_rows(places: Sequence[Place]) -> list[int]:
    """Return the first row of each episode in the steps of all, laid end to end."""
    rows: list[int] = np.cumsum([0, *(p.span.n_frames for p in places[:-1])]).tolist()
    return rows


def _steps(request: FileRequest, layout: Layout, places: Sequence[Place]) -> Decoded:
    """Return the aligned steps of all episodes, laid end to end, a row per frame."""
    spans = [replace(p.span, first=first) for p, first in zip(places, _first_rows(places), strict=True)]
    with _open(request, layout) as file:
        all_rows = [_rows(file, layout, p, request.name) for p in places]
    keys = set(all_rows[0])
    if wrong := next((p for p, rows in zip(places, all_rows, strict=True) if set(rows) != keys), None):
        raise Unreadable(
            f"{request.name} has other arrays in {wrong.span.name} than in {places[0].span.name}; mend it."
        )
    joined = {key: np.concatenate([rows[key] for rows in all_rows]) for key in sorted(keys)}
    return _aligned(request, layout, spans, joined)


def _whole(request: FileRequest, layout: Layout, p: Place) -> Decoded:
    """Return the frames and the aligned steps of one episode."""
    options = request.options
    with _open(request, layout) as file:
        rows = _rows(file, layout, p, request.name)
        window = slice(p.span.first, p.span.first + p.span.n_frames)
        frames, notes = decode_pictures(file[p.key], window, request)
    moved, facts = _aligned(request, layout, [replace(p.span, first=0)], dict(rows))
    pixels = np.ascontiguousarray(fit_frames(frames, options.shape, options.fit, request.name))
    return {"frames": pixels, **moved}, {**facts, "notes": notes}


def _aligned(request: FileRequest, layout: Layout, spans: Sequence[Span], rows: dict[str, np.ndarray]) -> Decoded:
    options = request.options
    shifts = {k: layout.shifts.get(k, 0) if options.action_shift is None else options.action_shift for k in rows}
    kept, moved = align_spans(spans, rows, shifts)
    if not kept:
        raise UserError(f"{request.name} has no step left with an action shift of {options.action_shift}; use 0.")
    specs = {
        stream: layout.specs.get(stream) or describe_actions(moved[key])
        for key, stream in action_keys(list(moved)).items()
    }
    return moved, {"fps": options.fps, "actions": specs, "notes": [], "spans": kept}


def _rows(file: h5py.File, layout: Layout, p: Place, name: str) -> dict[str, np.ndarray]:
    """Read the steps of one episode, checked, a row per frame; a missing last row is padding."""
    n, about = p.span.n_frames, f"{name} ({p.span.name})"
    checked = {}
    for key, raw in layout.rows(file, p).items():
        if len(raw) not in (n, n - 1):
            raise Unreadable(f"{key} of {about} has {len(raw)} rows for {n} frames; wanted {n} or {n - 1}.")
        values = np.array(raw)
        if values.dtype.kind == "f" and len(values) == n and not np.isfinite(values[-1]).all():
            values[-1] = 0  # padding: no frame follows
        is_action = key.startswith("actions")
        rows = check_actions(values, about) if is_action else npz.column(values, STEP_KEYS[key], about)
        padding = np.zeros((n - len(rows), *rows.shape[1:]), rows.dtype)
        checked[key] = np.concatenate([rows, padding])
    return checked


@contextmanager
def _open(request: FileRequest, layout: Layout) -> Iterator[h5py.File]:
    """Open a file; errors of damage become one line."""
    try:
        with hdf5.open_file(request.path) as file:
            yield file
    except UserError:
        raise
    except DAMAGE as error:
        said = hdf5.reason(error)
        raise Unreadable(f"{request.name} is corrupt, or not laid out as {layout.name}'s ({said})") from None


def decode_pictures(dataset: h5py.Dataset, window: slice, request: FileRequest) -> tuple[np.ndarray, list[str]]:
    """Read pictures of any usual kind: pixels, or the bytes of a JPEG or PNG in each row.

    Returns:
        uint8 (T, H, W, 3), and notes.
    """
    options, name = request.options, f"{dataset.name} of {request.name}"
    raw = dataset[window]
    is_bytes = raw.ndim == 1 or (raw.ndim == 2 and raw.dtype == np.uint8)
    if not is_bytes:
        shown, notes = npz.to_bytes(np.asarray(raw), options.layout)
        return npz.to_pixels(shown, options.layout, name), notes
    images = []
    for row in raw:
        with Image.open(io.BytesIO(np.asarray(row, np.uint8).tobytes())) as image:
            video.check_room(len(raw), options.shape or image.size[::-1], request.path, options)
            pixels = np.asarray(image.convert("RGB"))
        images.append(fit_frames(pixels[None], options.shape, options.fit, name)[0])
    return np.stack(images), []
