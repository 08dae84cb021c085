"""One recording file of any kind -> where its arrays can be read by window, and what is known about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reelworld.config import from_json
from reelworld.data import cache, hdf5, robonet, video
from reelworld.data import npz_reader as foreign
from reelworld.data.action_alignment import check_actions, check_range, common_specs, describe_actions
from reelworld.data.action_file import action_file
from reelworld.data.folder import INFO_FILE, DataInfo, action_keys
from reelworld.data.npz import ArrayFiles, Compressed, Member
from reelworld.data.resize import check_fit
from reelworld.data.resize_options import ReadOptions
from reelworld.data.splits import SPLITS
from reelworld.types import ActionSpec, UserError

__all__ = [
    "ENDINGS",
    "Read",
    "Recording",
    "common_actions",
    "common_fps",
    "common_size",
    "find_files",
    "middle_fps",
    "read_foreign",
    "read_own",
    "source_of",
]

ENDINGS = (".npz", *hdf5.ENDINGS, *video.ENDINGS)
STEP_KINDS = {"rewards": np.dtype(np.float32), "terminated": np.dtype(bool), "truncated": np.dtype(bool)}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file that has been read, or one video of an HDF5 file: where its arrays lie and what they are."""

    source: str
    file: str
    """The user's file, relative to the folder that was opened."""
    path: Path | hdf5.Table
    """The uncompressed .npz to map, the file itself or a cache entry; or a table with the frames."""
    first: int = 0
    """First frame in there."""
    n_frames: int
    height: int
    width: int
    fps: float
    actions: Mapping[str, ActionSpec]
    notes: tuple[str, ...] = ()
    class_id: int = -1
    """Number of its class; -1 when the data have no classes."""
    splits: tuple[str, ...] = SPLITS
    """Splits it may be put into."""
    named_split: str = ""
    """Split that the file itself names; empty for none."""


Read = Callable[[Path], list[Recording]]


def find_files(path: Path) -> list[Path]:
    """Return the recordings under a folder, in a stable order, or the one file that was given."""
    if path.is_file():
        if path.suffix.lower() not in ENDINGS:
            raise UserError(f"{path.name} ends in {path.suffix!r}; wanted {', '.join(ENDINGS)} or a folder of them.")
        return [path]
    hidden = (p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    return sorted(p for p in hidden if not any(part.startswith(".") for part in p.relative_to(path).parts))


def source_of(path: Path, root: Path) -> str:
    """Name a recording by its place in the folder, for .npz without the ending."""
    relative = path.relative_to(root)
    return (relative.with_suffix("") if path.suffix == ".npz" else relative).as_posix()


def read_own(
    path: Path, folder: Path, source: str, info: DataInfo, options: ReadOptions, files: ArrayFiles
) -> Recording:
    """Map an episode of our own folder where it lies, or a resized or unpacked copy of it in the cache."""
    place = path
    try:
        is_as_wanted = options.shape in (None, _frame_shape(files.members(path), path.name))
    except Compressed:
        is_as_wanted = False
    if not is_as_wanted:
        kept = replace(options, action_shift=0)
        place = cache.entry([path], kept, lambda: foreign.convert(path, kept))
    shape = _frame_shape(files.members(place), path.name)
    check_fit(shape, options.shape or (info.height, info.width), "none", path.name)
    _check_steps(place, files, info.actions, path.name)
    known = {"source": source, "fps": info.fps, "actions": info.actions}
    return _recording(files.members(place), place, path, folder, **known)


def read_foreign(path: Path, root: Path, options: ReadOptions, files: ArrayFiles) -> list[Recording]:
    """Read any recording that is not in a folder of ours; what needs decoding is decoded once, into the cache."""
    source = source_of(path, root)
    is_hdf5 = path.suffix.lower() in hdf5.ENDINGS
    if is_hdf5 and not robonet.is_robonet(path):
        return _read_hdf5(path, root, options, files)
    if is_hdf5:
        place = cache.entry([path], options, lambda: robonet.convert(path, options))
    elif path.suffix.lower() != ".npz":
        companion = action_file(path)
        made_from = [path, companion] if companion else [path]
        place = cache.entry(made_from, options, lambda: video.convert(path, companion, options))
    elif (specs := _plain_own(path, options, files)) is not None:
        return [_recording(files.members(path), path, path, root, source=source, fps=options.fps, actions=specs)]
    else:
        place = cache.entry([path], options, lambda: foreign.convert(path, options))
    facts, specs = _facts(place, path, files)
    known = {"fps": float(facts["fps"]), "actions": specs, "notes": tuple(facts["notes"])}
    return [_recording(files.members(place), place, path, root, source=source, **known)]


def _facts(place: Path, path: Path, files: ArrayFiles) -> tuple[dict[str, Any], dict[str, ActionSpec]]:
    """Return what the cache knows about a file besides its arrays, and its action streams."""
    facts = json.loads(files.view(place, cache.FACTS).tobytes())
    where = f"cached actions of {path.name}"
    return facts, {name: from_json(ActionSpec, spec, where) for name, spec in facts["actions"].items()}


def _read_hdf5(path: Path, root: Path, options: ReadOptions, files: ArrayFiles) -> list[Recording]:
    """List the videos of an HDF5 file; its frames stay there, its actions are aligned once, into the cache."""
    sides = hdf5.read_sides(path, options)
    shift = options.action_shift or 0 if sides[0].has_actions else 0
    places = {s.name: _align_hdf5(path, s, options) for s in sides if s.has_actions}
    specs = common_specs({f"{path.name} ({s})": _facts(place, path, files)[1] for s, place in places.items()})
    source, file = source_of(path, root), path.relative_to(root).as_posix()
    recordings = []
    for side in sides:
        height, width = options.shape or (side.shape[1], side.shape[2])
        common: dict[str, Any] = {
            "file": file,
            "path": side.table(path, options, places.get(side.name)),
            "named_split": side.name,
        }
        common |= {"height": height, "width": width, "fps": options.fps, "actions": specs}
        spans = np.stack(hdf5.spans(side, shift), axis=1).tolist()
        recordings += [
            Recording(source=f"{source}/{side.name}/{i:06d}", first=first, n_frames=n_frames, **common)
            for i, (first, n_frames) in enumerate(spans)
            if n_frames > 0
        ]
    if not recordings:
        raise UserError(f"no video of {path.name} is long enough for an action shift of {shift}; use a smaller one.")
    notes = _hdf5_notes(path, sides, options)
    if n_lost := sum(len(s.starts) for s in sides) - len(recordings):
        notes.append(f"{n_lost} videos of {path.name} are left out: an action shift of {shift} leaves no step in them")
    return [replace(recordings[0], notes=tuple(notes)), *recordings[1:]]


def _hdf5_notes(path: Path, sides: Sequence[hdf5.Side], options: ReadOptions) -> list[str]:
    """Say what was assumed about a file, and what is odd in it."""
    notes = []
    if sides[0].has_actions and options.action_shift is None:
        notes.append(foreign.UNDOCUMENTED.format("HDF5"))
    for side in sides:
        where = f"{side.name}_data of {path.name}"
        if side.starts[0]:
            notes.append(f"{side.starts[0]} frames of {where} are not used: they lie before the first start")
        if side.chunk_frames > hdf5.MANY_FRAMES:
            notes.append(
                f"{where} is stored in chunks of {side.chunk_frames} frames, so reading is slow; store it without "
                f"compression, or with chunks=(1, {side.shape[1]}, {side.shape[2]}, 3)"
            )
    return notes


def _align_hdf5(path: Path, side: hdf5.Side, options: ReadOptions) -> Path:
    """Return the .npz with the actions of one side, a row for each of its frames."""

    def make() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        raw = hdf5.read_actions(path, side)
        if raw.dtype.kind == "f" and (wrong := np.argwhere(~np.isfinite(raw))).size:
            video_number, step = side.place(int(wrong[0][0]))
            raise UserError(
                f"actions of {side.name} video {video_number} in {path.name} hold NaN or infinity (first in its row "
                f"{step}); wanted finite numbers: mend the file."
            )
        raw = check_actions(raw, f"{side.name} videos in {path.name}")
        rows = hdf5.align_rows(side, raw, options.action_shift or 0)
        return {"actions": rows}, {"actions": {"action": describe_actions(raw)}}

    return cache.entry([path], replace(options, size=None, fit="none"), make, side.name)


def _plain_own(path: Path, options: ReadOptions, files: ArrayFiles) -> dict[str, ActionSpec] | None:
    """Describe a file that our recorder could have written, so that it is mapped in place; None for others."""
    try:
        members = files.members(path)
        shape = _frame_shape(members, path.name)
    except (Compressed, UserError):
        return None  # the reader of foreign files says what is wrong, if anything is
    is_asked = bool(options.frames or options.action or options.action_shift or options.layout != "auto")
    if is_asked or not foreign.is_own(list(members)) or options.shape not in (None, shape):
        return None
    streams = {name: files.view(path, key) for key, name in action_keys(list(members)).items()}
    _check_steps(path, files, {}, path.name)
    return {name: describe_actions(check_actions(rows, path.name)) for name, rows in streams.items()}


def _frame_shape(members: Mapping[str, Member], name: str) -> tuple[int, int]:
    frames = members.get("frames")
    if frames is None or frames.dtype != np.uint8 or len(frames.shape) != 4 or frames.shape[3] != 3:
        found = f"frames {frames.dtype} {frames.shape}" if frames else f"the arrays {', '.join(members) or 'none'}"
        raise UserError(f"{name} holds {found}; an episode needs frames, uint8 (T, H, W, 3).")
    return frames.shape[1], frames.shape[2]


def _check_steps(path: Path, files: ArrayFiles, specs: Mapping[str, ActionSpec], name: str) -> None:
    """Check the rows of an episode file of ours against its frames and its ActionSpec."""
    members = files.members(path)
    streams = {stream: key for key, stream in action_keys(list(members)).items()}
    n_frames = members["frames"].shape[0]
    for key in (*streams.values(), *(k for k in STEP_KINDS if k in members)):
        if members[key].shape[:1] != (n_frames,):
            raise UserError(
                f"{key} of {name} has shape {members[key].shape} for {n_frames} frames; wanted one row per frame "
                "(the last is padding)."
            )
        if key in STEP_KINDS and members[key].dtype != STEP_KINDS[key]:
            raise UserError(f"{key} of {name} is {members[key].dtype}; wanted {STEP_KINDS[key]}.")
        if key == "rewards" and not (is_finite := np.isfinite(files.view(path, key)[:-1])).all():
            step = int(np.flatnonzero(~is_finite)[0])
            raise UserError(f"rewards of {name} has NaN or infinity (first in row {step}); record it again.")
    for stream, spec in specs.items():
        if stream not in streams:
            raise UserError(f"{name} lacks the action stream {stream!r} that {INFO_FILE} names; record it again.")
        rows = check_actions(files.view(path, streams[stream]), name)
        is_like_spec = (
            rows.ndim == 1 and rows.max() < spec.n if spec.kind == "discrete" else rows.shape[1:] == (spec.n,)
        )
        if not is_like_spec:
            raise UserError(
                f"actions of {name} are {rows.dtype} {rows.shape} up to {rows.max()}; {INFO_FILE} says {spec.kind} "
                f"with n={spec.n}. Record it again or mend {INFO_FILE}."
            )
        check_range(rows[:-1], spec, name, f"{INFO_FILE} says")


def _recording(members: Mapping[str, Member], place: Path, path: Path, root: Path, **known: Any) -> Recording:
    n_frames, height, width, _ = members["frames"].shape
    file = path.relative_to(root).as_posix()
    return Recording(file=file, path=place, n_frames=n_frames, height=height, width=width, **known)


def common_size(recordings: Sequence[Recording]) -> tuple[int, int]:
    """Return the height and width all recordings share.

    Raises:
        UserError: If there are several.
    """
    sizes = Counter((r.height, r.width) for r in recordings)
    if len(sizes) > 1:
        listed = ", ".join(f"{n} of {h}x{w}" for (h, w), n in sizes.most_common(4))
        raise UserError(
            f"the recordings have {len(sizes)} sizes (height x width): {listed}; wanted one. "
            "Choose it with --size and how to get there with --fit crop, stretch or pad."
        )
    return next(iter(sizes))


def common_fps(recordings: Sequence[Recording]) -> tuple[float, list[str]]:
    """Return the median frame rate of recordings, and a note when they differ by more than 2%."""
    return middle_fps([r.fps for r in recordings])


def middle_fps(rates: Sequence[float]) -> tuple[float, list[str]]:
    """Return the median of frame rates, and a note when they differ by more than 2%."""
    rates = sorted(rates)
    middle = rates[len(rates) // 2]
    if rates[-1] - rates[0] <= 0.02 * middle:
        return middle, []
    return middle, [
        f"frame rates differ ({rates[0]:g} to {rates[-1]:g} per second); {middle:g} is assumed: resample with --fps"
    ]


def common_actions(recordings: Sequence[Recording]) -> dict[str, ActionSpec]:
    """Merge the action specs of all recordings."""
    return common_specs({r.file: r.actions for r in recordings})
