"""Data sets of LeRobot, versions 2.0 to 3.0: ``meta/info.json``, steps in parquet files, pictures in videos or beside.

Version 2 has one parquet file and one video per camera for each episode; version 3 puts many episodes into each, and
``meta/episodes`` says where each one begins. Row t holds a picture and the action taken after it. One camera is read.
Parquet needs pyarrow, the extra ``lerobot``.
Source: LeRobot's documentation of LeRobotDataset v3.0 and its converter from v2.1.

Shapes: T frames, H W pixel rows and columns
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from reelworld.config import read_json, unknown
from reelworld.data.action_alignment import check_actions, common_specs, describe_actions
from reelworld.data.array_store import Unreadable
from reelworld.data.cache import Decoded
from reelworld.data.episodes import DataInfo, action_keys
from reelworld.data.formats import video
from reelworld.data.formats.end_to_end import align_spans
from reelworld.data.formats.npz import column
from reelworld.data.formats.reader import Contents, FileRequest, Span, pick_camera, read_cached, stored_spans
from reelworld.data.resize import common_size, fit_frames
from reelworld.types import ActionSpec, UserError

INFO = Path("meta", "info.json")
VERSIONS = ("v2.0", "v2.1", "v3.0")
PREFERRED = ("top", "front", "high", "image")
REWARD = "next.reward"
PATHS = {
    "v2": {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    },
    "v3": {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    },
}
"""Places of files, where ``info.json`` does not say them."""
EPISODE_COLUMNS = ("episode_index", "length", "tasks", "data/", "videos/")
"""Beginnings of the columns of ``meta/episodes`` that are read; the others are statistics."""
Columns = Mapping[str, Sequence[Any]]
"""Columns of a parquet file by name."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One episode, as the metadata list it."""

    index: int
    n_frames: int
    task: str
    data: Path
    """Parquet file with its rows, and maybe those of others."""
    film: Path | None
    """Video with its pictures, and maybe those of others; None for pictures in the parquet file."""
    start: float = 0.0
    """Seconds at which the episode begins in the video."""


@dataclass(frozen=True)
class Description:
    """Facts of ``meta/info.json``."""

    folder: Path
    values: Mapping[str, Any]

    @property
    def fps(self) -> float:
        """Frames per second."""
        return float(self.values.get("fps", 0))

    @property
    def features(self) -> Mapping[str, Any]:
        """Name -> type and shape of a column."""
        found: Mapping[str, Any] = self.values.get("features", {})
        return found

    @property
    def is_version_3(self) -> bool:
        """True for files of many episodes."""
        return str(self.values.get("codebase_version")).startswith("v3")

    @cached_property
    def cameras(self) -> list[str]:
        """Columns of pictures, without depth."""
        found = []
        for name, feature in self.features.items():
            about = feature.get("info") or feature.get("video_info") or {}
            if feature.get("dtype") in ("video", "image") and not about.get("video.is_depth_map"):
                found.append(name)
        return sorted(found)

    def split_of(self, index: int) -> str:
        """Return the split that the data set gives to an episode; "" where it has only one."""
        splits = self.values.get("splits") or {}
        if len(splits) < 2:
            return ""
        for name, text in splits.items():
            first, _, last = str(text).partition(":")
            if first.isdigit() and last.isdigit() and int(first) <= index < int(last):
                return {"train": "train", "val": "val", "validation": "val", "test": "test"}.get(name, "")
        return ""


def is_dataset(folder: Path) -> bool:
    """Return True for the folder of a LeRobot data set."""
    return (folder / INFO).is_file() and (folder / "data").is_dir()


def read(request: FileRequest) -> Contents:
    """Read one camera of a data set; each episode is decoded into the cache.

    Raises:
        Unreadable: If the metadata are damaged or no episode is left.
        UserError: If pyarrow is missing, the version is another, or the data set cannot be read as asked.
    """
    options, name = request.options, request.path.name
    about = _description(request.path)
    if options.fps and abs(options.fps - about.fps) > 1e-3 * about.fps:
        raise UserError(
            f"{name} has {about.fps:g} frames per second; LeRobot data sets are not resampled to {options.fps:g}: "
            "leave --fps out and take every k-th frame with --frame-stride."
        )
    if about.fps <= 0:
        raise Unreadable(f"meta/info.json of {name} has no frame rate (fps)")
    if not about.cameras:
        raise Unreadable(f"{name} lists no camera (a feature of dtype video or image)")
    camera, notes = pick_camera(about.cameras, options.camera or options.frames, PREFERRED, name)
    streams = _streams(about, options.action, name)
    if not streams:
        notes.append(f"{name} has no feature 'action'; it is read as video without actions")
    try:
        listed = [e for e in _episodes(about, camera) if e.n_frames >= 2]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise Unreadable(f"the metadata of {name} are incomplete ({type(error).__name__}: {error})") from None
    if not listed:
        raise Unreadable(f"{name} lists no episode of two frames or more")
    steps = _Steps()
    parts = []
    for e in listed:
        also = [e.data, *([e.film] if e.film else [])]
        if missing := [p for p in also if not p.is_file()]:
            raise Unreadable(f"{missing[0].relative_to(request.path)} of {name} is missing; download it again")
        part = f"{camera}/{e.index}"
        of_files = replace(request, path=also[-1], root=also[-1].parent)
        store = read_cached(of_files, partial(_decode, request, about, e, camera, streams, steps), also[:-1], part)
        found = stored_spans(request, store)
        parts.append(replace(found, episodes=tuple(replace(x, split=about.split_of(e.index)) for x in found.episodes)))
    height, width = common_size(Counter((c.info.height, c.info.width) for c in parts))
    specs = common_specs({e.source: c.info.actions for c in parts for e in c.episodes})
    named = {stream: _named(spec, about.features[streams[stream]]) for stream, spec in specs.items()}
    return Contents(
        info=DataInfo(fps=about.fps, height=height, width=width, actions=named),
        episodes=tuple(e for c in parts for e in c.episodes),
        notes=(*notes, *dict.fromkeys(note for c in parts for note in c.notes)),
    )


def _streams(about: Description, requested: str, name: str) -> dict[str, str]:
    """Return action stream -> feature: "action", or each of "action.<stream>"."""
    if requested and requested not in about.features:
        raise unknown(f"feature of {name}", requested, about.features)
    if requested or "action" in about.features:
        return {"action": requested or "action"}
    return {k.removeprefix("action."): k for k in about.features if k.startswith("action.")}


def _description(folder: Path) -> Description:
    try:
        values = read_json(folder / INFO)
    except UserError as error:
        raise Unreadable(str(error)) from None
    version = str(values.get("codebase_version")) if isinstance(values, dict) else "none"
    if version not in VERSIONS:
        raise UserError(
            f"{folder.name} is LeRobot data of version {version}; {', '.join(VERSIONS)} are read: convert it with "
            "LeRobot's own converter."
        )
    version = "v2" if version.startswith("v2") else "v3"
    values = {**PATHS[version], **values}
    if not values.get("features"):
        values["features"] = _found_features(folder)
    return Description(folder, values)


def _found_features(folder: Path) -> dict[str, Any]:
    """Return the features that the files of a data set show, where ``info.json`` lists none."""
    films = (folder / "videos").glob("**/*.mp4")
    parts = [part for film in films for part in film.relative_to(folder / "videos").parts[:-1]]
    cameras = sorted({part for part in parts if not part.startswith("chunk-")})
    files = sorted((folder / "data").rglob("*.parquet"))
    columns = read_parquet(files[0], lambda name: True) if files else {}
    return {**{name: {} for name in columns}, **{name: {"dtype": "video"} for name in cameras}}


def _episodes(about: Description, camera: str) -> list[Listed]:
    """List the episodes from the metadata."""
    is_film = about.features[camera]["dtype"] == "video"
    rows = _rows_of_version_3(about) if about.is_version_3 else _rows_of_version_2(about)
    listed = []
    ends: dict[Path, float] = {}
    for row in rows:
        index = int(row["episode_index"])
        place = {"episode_index": index, "episode_chunk": index // int(about.values.get("chunks_size", 1000))}
        film_place = {**place, "video_key": camera}
        start = 0.0
        if about.is_version_3:
            place |= {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
            if is_film:
                kinds = ("chunk_index", "file_index")
                film_place |= {kind: row[f"videos/{camera}/{kind}"] for kind in kinds}
        film = about.folder / str(about.values["video_path"]).format(**film_place) if is_film else None
        if film and about.is_version_3:
            start = float(row.get(f"videos/{camera}/from_timestamp", ends.get(film, 0.0)))
            ends[film] = start + int(row["length"]) / about.fps
        listed.append(
            Listed(
                index=index,
                n_frames=int(row["length"]),
                task="; ".join(str(task) for task in row.get("tasks") or ()),
                data=about.folder / str(about.values["data_path"]).format(**place),
                film=film,
                start=start,
            )
        )
    return sorted(listed, key=lambda e: e.index)


def _rows_of_version_2(about: Description) -> list[dict[str, Any]]:
    path = about.folder / "meta" / "episodes.jsonl"
    if not path.exists():
        files = sorted((about.folder / "data").rglob("episode_*.parquet"))
        numbers = [int(f.stem.removeprefix("episode_")) for f in files]
        return [{"episode_index": i, "length": count_rows(f)} for i, f in zip(numbers, files, strict=True)]
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise Unreadable(f"meta/episodes.jsonl of {about.folder.name} cannot be read ({error})") from None


def _rows_of_version_3(about: Description) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted((about.folder / "meta" / "episodes").rglob("*.parquet")):
        columns = read_parquet(path, lambda name: name.startswith(EPISODE_COLUMNS))
        rows += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows


class _Steps:
    """Rows of parquet files; the file read last is kept, as the next episode is often in it."""

    def __init__(self) -> None:
        self._last: tuple[Path, frozenset[str], Columns] | None = None

    def of(self, e: Listed, names: frozenset[str]) -> dict[str, Sequence[Any]]:
        """Return the rows of one episode, in the order of its frames."""
        if self._last is None or self._last[:2] != (e.data, names):
            self._last = (e.data, names, read_parquet(e.data, names.__contains__))
        columns = self._last[2]
        n_rows = len(next(iter(columns.values()), ()))
        order = np.array(columns.get("frame_index", np.arange(n_rows)))
        own = np.flatnonzero(np.array(columns.get("episode_index", np.full(n_rows, e.index))) == e.index)
        own = own[np.argsort(order[own], kind="stable")]
        if len(own) != e.n_frames or not np.array_equal(order[own] - order[own[:1]], np.arange(e.n_frames)):
            raise Unreadable(f"{e.data.name} has {len(own)} rows for the {e.n_frames} frames of episode {e.index}")
        return {name: [values[i] for i in own.tolist()] for name, values in columns.items()}


def _decode(
    request: FileRequest, about: Description, e: Listed, camera: str, streams: Mapping[str, str], steps: _Steps
) -> Decoded:  # fmt: skip
    """Return the frames and steps of one episode."""
    options, name = request.options, f"episode {e.index} of {request.path.name}"
    in_rows = () if e.film else (camera,)
    wanted = {"episode_index", "frame_index", "timestamp", *streams.values(), REWARD, *in_rows} & {
        *about.features,
        *in_rows,
    }
    columns = steps.of(e, frozenset(wanted | {"episode_index", "frame_index"}))
    rows: dict[str, np.ndarray] = {}
    for stream, feature in streams.items():
        key = "actions" if list(streams) == ["action"] else f"actions/{stream}"
        rows[key] = check_actions(np.array(columns[feature]), name)
    if REWARD in columns:
        rows["rewards"] = column(np.array(columns[REWARD]), np.float32, f"{REWARD} of {name}")
    if e.film:
        times = columns.get("timestamp") or np.arange(e.n_frames) / about.fps
        seconds = e.start + np.array(times, np.float64).reshape(-1)
        frames = video.frames_at(e.film, seconds, 0.5 / about.fps, options)
    else:
        frames = _pictures(columns[camera], about.folder, request, name)
    spans, moved = align_spans(
        [Span(name=f"episode_{e.index:06d}", first=0, n_frames=e.n_frames, task=e.task)],
        rows,
        dict.fromkeys(rows, options.action_shift or 0),
    )
    if not spans:
        raise UserError(f"{name} has {e.n_frames} frames; an action shift of {options.action_shift} leaves no step.")
    specs = {
        stream: _spec(moved[key], about.features[streams[stream]]) for key, stream in action_keys(list(moved)).items()
    }
    return {"frames": frames, **moved}, {"fps": about.fps, "actions": specs, "notes": [], "spans": spans}


def _pictures(values: Sequence[Any], folder: Path, request: FileRequest, name: str) -> np.ndarray:
    """Decode pictures that a parquet file holds, or names; uint8 (T, H, W, 3)."""
    options, images = request.options, []
    for value in values:
        content = value.get("bytes") if isinstance(value, dict) else None
        try:
            held = io.BytesIO(content) if content else (folder / str(value["path"])).open("rb")
            with held, Image.open(held) as image:
                video.check_room(len(values), options.shape or image.size[::-1], request.path, options)
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, KeyError, TypeError, SyntaxError) as error:
            raise Unreadable(f"a picture of {name} cannot be read ({error})") from None
        images.append(fit_frames(pixels[None], options.shape, options.fit, name)[0])
    return np.stack(images)


def _spec(rows: np.ndarray, feature: Mapping[str, Any]) -> ActionSpec:
    """Describe a stream; features of type bool are buttons."""
    if feature.get("dtype") == "bool" and rows.ndim == 2:
        return ActionSpec(kind="buttons", n=rows.shape[1])
    return describe_actions(rows)


def _named(spec: ActionSpec, feature: Mapping[str, Any]) -> ActionSpec:
    """Give the dimensions of an action the names that the data set has for them."""
    names = feature.get("names")
    while isinstance(names, dict):
        names = next(iter(names.values()), None)
    is_each = spec.kind != "discrete" and isinstance(names, list) and len(names) == spec.n
    return replace(spec, names=tuple(str(n) for n in names)) if is_each and names else spec


def read_parquet(path: Path, is_wanted: Callable[[str], bool]) -> Columns:
    """Read columns of a parquet file.

    Raises:
        Unreadable: If it is damaged.
        UserError: If pyarrow is missing.
    """
    pyarrow, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow if is_wanted(field.name)]
            table = file.read(columns=names)
            return {name: table.column(name).to_pylist() for name in names}
    except (pyarrow.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:120]
        raise Unreadable(f"{path.name} is truncated, corrupt or no parquet file ({said})") from None


def count_rows(path: Path) -> int:
    """Return the number of rows of a parquet file; errors are those of ``read_parquet``."""
    pyarrow, parquet = _pyarrow(path)
    try:
        return int(parquet.read_metadata(path).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:120]
        raise Unreadable(f"{path.name} is truncated, corrupt or no parquet file ({said})") from None


def _pyarrow(path: Path) -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"{path.name} is a parquet file; reading it needs pyarrow: pip install 'reelworld[lerobot]'."
        ) from None
    return pyarrow, parquet
