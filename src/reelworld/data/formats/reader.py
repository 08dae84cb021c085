"""Interface of a format's reader: one file in, its episodes and their common facts out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from reelworld.config import from_json, unknown
from reelworld.data import cache
from reelworld.data.array_store import FilePool, NpzStore
from reelworld.data.episodes import DataInfo, Episode, StoredArrays
from reelworld.data.resize_options import ReadOptions
from reelworld.types import ActionSpec, UserError

MAX_MAPPED, MAX_TABLES = 128, 64
"""Files that stay open: mapped .npz files, and arrays of HDF5 files."""


@dataclass(frozen=True, kw_only=True)
class FileRequest:
    """File to read, and the way to read it."""

    path: Path
    root: Path
    """Folder that was opened, or the folder of the one file that was."""
    options: ReadOptions
    maps: FilePool
    tables: FilePool
    memo: dict[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    """Facts about all recordings below ``root``, found once and shared by the requests of one opening."""

    @property
    def name(self) -> str:
        """Name of the file, for errors."""
        return self.path.name

    @cached_property
    def file(self) -> str:
        """Path relative to the folder that was opened, with slashes."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def source(self) -> str:
        """Id of the recording: its path in the folder, for .npz without the ending."""
        return self.file.removesuffix(".npz")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Episodes of one file, before they are merged with those of other files and split."""

    info: DataInfo
    episodes: tuple[Episode, ...]
    notes: tuple[str, ...] = ()


Reader = Callable[[FileRequest], Contents | None]
"""Reads a file; None for a file of another format. Raises Unreadable for a file that is skipped, else UserError."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One entry of the table of formats."""

    name: str
    recognized: str
    """Marks that a recording of this format has, in words."""
    read: Reader
    endings: Sequence[str] = ()
    """File name endings, lower case, with the dot; empty for a format of whole folders."""
    claims: Callable[[Path], bool] | None = None
    """Test for a folder that is read as a whole, by its file names only; None for a format of files."""


def find_files(path: Path, endings: Sequence[str]) -> list[Path]:
    """Return the files under a folder that have one of the endings, in a stable order, or the one file that was given.

    Hidden files, and those in hidden folders, are left out; links are followed, see ``folders_below``.
    """
    if path.is_file():
        if path.suffix.lower() not in endings:
            raise UserError(f"{path.name} ends in {path.suffix!r}; wanted {', '.join(endings)} or a folder of them.")
        return [path]
    return sorted(p for folder in folders_below(path) for p in files_in(folder, endings))


def files_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Return the files of one folder that have one of the endings; hidden ones are left out."""
    named = [p for p in folder.iterdir() if p.suffix.lower() in endings and not p.name.startswith(".")]
    return [p for p in named if p.is_file()]


def folders_below(path: Path, is_whole: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """List a folder and those below it that are not hidden, each once: links are followed, also if they form loops.

    Args:
        path: The folder.
        is_whole: Test for folders that are listed but not searched.
    """
    seen: set[tuple[int, int]] = set()
    todo = [path]
    while todo:
        folder = todo.pop()
        place = folder.stat()
        if (place.st_dev, place.st_ino) in seen:
            continue
        seen.add((place.st_dev, place.st_ino))
        try:
            below = sorted((p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir()), reverse=True)
        except PermissionError:
            continue
        yield folder
        if not is_whole(folder):  # what a link points to keeps its own name if it is found by that too
            todo = [p for p in below if p.is_symlink()] + todo + [p for p in below if not p.is_symlink()]


def pick_camera(cameras: Sequence[str], requested: str, preferred: Sequence[str], name: str) -> tuple[str, list[str]]:
    """Choose one of the cameras of a recording; return it and a note when there are several.

    Args:
        cameras: Names, as the file has them.
        requested: A name, or its last part ("wrist" for "observation.images.wrist"); "" for the default.
        preferred: Parts of names; the first camera with the first of these is the default, else the first of all.
        name: Recording, for the error.
    """
    if requested:
        found = [c for c in cameras if c == requested] or [
            c for c in cameras if c.replace("/", ".").endswith((f".{requested}", f"_{requested}"))
        ]
        if len(found) != 1:
            raise unknown(f"camera of {name}", requested, cameras)
        return found[0], []
    chosen = next((c for part in preferred for c in cameras if part in c), cameras[0])
    others = [c for c in cameras if c != chosen]
    note = f"of {len(cameras)} cameras {chosen} is read; --camera NAME reads another ({', '.join(others[:4])})"
    return chosen, [note] if others else []


def requests(paths: Sequence[Path], root: Path, options: ReadOptions) -> list[FileRequest]:
    """Build the requests for files of one folder, with common pools of open files."""
    maps, tables, memo = FilePool(MAX_MAPPED), FilePool(MAX_TABLES), dict[str, tuple[str, ...]]()
    return [FileRequest(path=p, root=root, options=options, maps=maps, tables=tables, memo=memo) for p in paths]


def read_cached(request: FileRequest, decode: cache.Decode, also: Sequence[Path] = (), part: str = "") -> NpzStore:
    """Open the cache entry of a file, decoded now if it is not there.

    Args:
        request: The file.
        decode: Returns the arrays of an episode and its facts: "fps", "actions" (stream -> spec), "notes".
        also: Files that belong to it (an action file).
        part: Part of the file, where it makes several entries.
    """
    return NpzStore(cache.entry([request.path, *also], request.options, decode, part), request.maps)


def cached_actions(store: NpzStore, name: str) -> dict[str, ActionSpec]:
    """Return the action streams that a cache entry lists."""
    facts = json.loads(store.view(cache.FACTS).tobytes())
    return {n: from_json(ActionSpec, spec, f"cached actions of {name}") for n, spec in facts["actions"].items()}


def decoded_episode(
    request: FileRequest, decode: cache.Decode, also: Sequence[Path] = (), part: str = ""
) -> Contents:  # fmt: skip
    """Return a file as one episode, decoded into the cache; see ``read_cached``."""
    store = read_cached(request, decode, also, part)
    facts = json.loads(store.view(cache.FACTS).tobytes())
    contents = stored_episode(request, store, float(facts["fps"]), cached_actions(store, request.name))
    return replace(contents, notes=tuple(facts["notes"]))


def stored_episode(request: FileRequest, store: NpzStore, fps: float, actions: dict[str, ActionSpec]) -> Contents:
    """Return an .npz in the layout of an episode as one episode."""
    n_frames, height, width, _ = store.shapes["frames"]
    arrays = StoredArrays(store, 0, n_frames)
    episode = Episode(source=request.source, n_frames=n_frames, split="", file=request.file, arrays=arrays)
    return Contents(info=DataInfo(fps=fps, height=height, width=width, actions=actions), episodes=(episode,))


@dataclass(frozen=True, kw_only=True)
class Span:
    """Place of one episode in the arrays of a file."""

    name: str
    """Id of the episode within its file, part of its source; "" for the only one."""
    first: int
    n_frames: int
    split: str = ""
    """"train", "val" or "test" where the file says so."""
    task: str = ""
    """Words that the file gives to the episode."""


def episode_of(request: FileRequest, span: Span, arrays: StoredArrays) -> Episode:
    """Return one of several episodes of a file."""
    return Episode(
        source=f"{request.source}/{span.name}" if span.name else request.source,
        n_frames=span.n_frames,
        split=span.split,
        file=request.file,
        first=arrays.first,
        task=span.task,
        arrays=arrays,
    )


def spans_of(store: NpzStore, name: str) -> list[Span]:
    """Return the episodes that a cache entry lists."""
    facts = json.loads(store.view(cache.FACTS).tobytes())
    return [from_json(Span, span, f"cached episodes of {name}") for span in facts["spans"]]


def stored_spans(request: FileRequest, store: NpzStore) -> Contents:
    """Return a cache entry with "spans" among its facts as the episodes that it holds, one after the other."""
    facts = json.loads(store.view(cache.FACTS).tobytes())
    _, height, width, _ = store.shapes["frames"]
    spans = spans_of(store, request.name)
    return Contents(
        info=DataInfo(fps=float(facts["fps"]), height=height, width=width, actions=cached_actions(store, request.name)),
        episodes=tuple(episode_of(request, s, StoredArrays(store, s.first, s.n_frames)) for s in spans),
        notes=tuple(facts["notes"]),
    )
