"""Open a folder or a file of recordings as episodes that can be read by window.

Our own folders (``dataset.json`` and uncompressed .npz) are mapped where they lie. Anything else is turned into
such files once, in the cache; nothing is ever written into a user's folder.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from reelworld.data import cache, readers
from reelworld.data.episode_slices import Stretch, read_rows, read_steps
from reelworld.data.folder import INFO_FILE, DataInfo, Episode, read_info, write_episode, write_info
from reelworld.data.folder_conventions import allowed_splits, class_folders, split_folders
from reelworld.data.hdf5 import Arrays, Table
from reelworld.data.npz import ArrayFiles, Unreadable
from reelworld.data.readers import Recording
from reelworld.data.resize_options import ReadOptions
from reelworld.data.splits import SPLITS, assign_splits, find_duplicates
from reelworld.types import Clip, UserError

__all__ = ["DataInfo", "Dataset", "Episode", "ReadOptions", "warn_once", "write_episode", "write_info"]

log = logging.getLogger(__name__)
MAX_STRETCHES, STRETCH_FRAMES = 10, 16
"""Stretches that a recording is cut into when there are too few to split: ten, or from three on as many as keep
this many frames each."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a folder holds, before it is cut and split."""

    recordings: list[Recording]
    problems: list[str]
    notes: list[str]
    files: ArrayFiles
    known: Mapping[str, str] = field(default_factory=dict)
    """Splits decided earlier."""


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """An episode before it is known whether it is kept."""

    episode: Episode
    path: Path | Table
    """Where its arrays lie."""
    splits: tuple[str, ...]
    """Those it may be put into."""
    place: int
    """Its number among all pieces."""


class Dataset:
    """Episodes of one size, each readable by window. Make one with ``Dataset.open``."""

    path: Path
    info: DataInfo
    episodes: tuple[Episode, ...]
    problems: tuple[str, ...]
    """Files that were skipped, one line each."""
    notes: tuple[str, ...]
    """What was assumed or changed while reading, one line each."""
    n_duplicates: int
    """Episodes that were dropped because another split holds the same frames."""

    def __init__(self, path: Path, info: DataInfo, found: _Found) -> None:
        self.path, self.info = path, info
        self._files = Arrays(found.files)
        pieces, segment_notes = _cut(found.recordings)
        kept, self.n_duplicates = self._split(pieces, found.known)
        self._paths = [p.path for p in kept]
        self.episodes = tuple(p.episode for p in kept)
        self.problems = tuple(found.problems)
        copies = [f"{self.n_duplicates} episodes dropped: the same frames are in another split"]
        self.notes = tuple(dict.fromkeys([*found.notes, *segment_notes, *(copies if self.n_duplicates else [])]))
        self._indices = {s: [i for i, e in enumerate(self.episodes) if e.split == s] for s in SPLITS}

    @classmethod
    def open(cls, path: Path | str, options: ReadOptions | None = None) -> Dataset:
        """Open our own folder, a folder of .npz or video files, or a single file.

        Files that are truncated or corrupt are skipped, logged and listed in ``problems``.

        Raises:
            UserError: If there is nothing to read, or what there is cannot be read as asked.
        """
        path, options = Path(path), options or ReadOptions()
        if not path.exists():
            raise UserError(f"{path} does not exist; give a folder of recordings, or a video, .npz or HDF5 file.")
        is_own = (path / INFO_FILE).is_file()
        info, found = _find_own(path, options) if is_own else _find_foreign(path, options)
        dataset = cls(path, info, found)
        if not is_own:
            cache.remember_splits(path, info.split_seed, {e.source: e.split for e in dataset.episodes})
        for note in dataset.notes:
            warn_once(note)
        if dataset.problems:
            log.warning("%s: %d files skipped: %s", path.name, len(dataset.problems), "; ".join(dataset.problems[:3]))
        return dataset

    def _split(self, pieces: list[_Piece], known: Mapping[str, str]) -> tuple[list[_Piece], int]:
        """Put every piece into a split; drop and count copies of what is in another one."""
        # of two copies the first stays: that is the one in a held-out split, where the user decided so
        pieces = sorted(pieces, key=lambda p: "train" in p.splits)
        looking = Arrays(self._files.files, in_order=True)
        copies = find_duplicates([partial(_stretch, looking, p) for p in pieces])
        sources, seed = [p.episode.source for p in pieces], self.info.split_seed
        allowed = {p.episode.source: p.splits for p in pieces if p.splits != SPLITS}
        firsts = [source for i, source in enumerate(sources) if i not in copies]
        splits = assign_splits(firsts, seed, known, allowed)
        splits |= assign_splits(sources, seed, {**known, **splits}, allowed)
        kept = [
            replace(p, episode=replace(p.episode, split=splits[sources[i]]))
            for i, p in enumerate(pieces)
            if i not in copies or splits[sources[i]] == splits[sources[copies[i]]]
        ]
        return sorted(kept, key=lambda p: p.place), len(pieces) - len(kept)

    def indices(self, split: str) -> list[int]:
        """Return the numbers of the episodes of "train", "val", "test" or "all"."""
        if split == "all":
            return list(range(len(self.episodes)))
        if split not in SPLITS:
            raise UserError(f"split is {split!r}; it must be train, val, test or all.")
        return list(self._indices[split])

    def sampling_weights(self, episodes: np.ndarray, n_frames: int) -> np.ndarray | None:
        """Say how often windows are to be drawn for training; of one data set all alike.

        Args:
            episodes: Number of the episode of each window, int64 (n,).
            n_frames: Frames that a window spans.

        Returns:
            float64 (n,), probabilities; None for all alike.
        """
        return None

    def arrays(self, episode: int, start: int, stop: int, stride: int = 1) -> dict[str, np.ndarray]:
        """Copy a window of one episode.

        Args:
            episode: Its number.
            start: First frame.
            stop: One past the last frame.
            stride: Frames from one kept frame to the next.

        Returns:
            "frames" uint8 (T, H, W, 3), and those that exist of "actions/<stream>" int64 or float32 (T, ...) or
            (T, stride, ...), "rewards" float32 (T,), "terminated" and "truncated" bool (T,).
        """
        e = self.episodes[episode]
        return read_rows(self._files, self._paths[episode], "frames", (e.first, e.n_frames), (start, stop, stride))

    def steps(self, episode: int) -> dict[str, np.ndarray]:
        """Copy what ``arrays`` returns for a whole episode, without its frames."""
        e = self.episodes[episode]
        return read_steps(self._files, self._paths[episode], slice(e.first, e.first + e.n_frames), e.n_frames)

    def read(self, episode: int, start: int = 0, stop: int | None = None, stride: int = 1) -> Clip:
        """Read a clip of one episode; by default the whole of it."""
        e = self.episodes[episode]
        arrays = self.arrays(episode, start, e.n_frames if stop is None else stop, stride)
        actions = {k.removeprefix("actions/"): v for k, v in arrays.items() if k.startswith("actions/")}
        return Clip(
            frames=arrays["frames"],
            actions=actions,
            rewards=arrays.get("rewards"),
            terminated=arrays.get("terminated"),
            truncated=arrays.get("truncated"),
            fps=self.info.fps / stride,
            source=e.source,
            class_id=e.class_id if self.info.classes else None,
        )


@lru_cache
def warn_once(text: str) -> None:
    """Log a warning, but not again when the same data are opened again."""
    log.warning(text)


def _stretch(arrays: Arrays, piece: _Piece) -> Stretch:
    """The frames of an episode as its file has them."""
    e, place = piece.episode, piece.path
    place = replace(place, size=None) if isinstance(place, Table) else place
    shape = (e.n_frames, *arrays.members(place)["frames"].shape[1:])
    return Stretch(arrays.view(place, "frames"), e.first, shape)


def _cut(recordings: Sequence[Recording]) -> tuple[list[_Piece], list[str]]:
    """Turn recordings into episodes; where there are fewer than splits to fill, they are cut into equal stretches."""
    pieces: list[_Piece] = []
    notes = []
    sharing = Counter(r.splits for r in recordings)
    for r in recordings:
        least = len(r.splits)
        n = min(MAX_STRETCHES, max(least, r.n_frames // STRETCH_FRAMES))
        if sharing[r.splits] >= least or r.n_frames < 2 * n:
            n = 1
        edges = [r.n_frames * i // n for i in range(n + 1)]
        for i, (first, last) in enumerate(pairwise(edges)):
            episode = Episode(
                source=r.source if n == 1 else f"{r.source}#{i:02d}",
                n_frames=last - first,
                split="",
                file=r.file,
                first=r.first + first,
                class_id=r.class_id,
            )
            pieces.append(_Piece(episode=episode, path=r.path, splits=r.splits, place=len(pieces)))
        if n > 1:
            few = f"fewer than {least} recordings"
            notes.append(f"{r.file} is cut into {n} stretches that are split like episodes ({few})")
    return pieces, notes


def _find_own(folder: Path, options: ReadOptions) -> tuple[DataInfo, _Found]:
    info, listed = read_info(folder)
    files = ArrayFiles()
    known = {e.source: e.split for e in listed}
    problems = [f"{e.file} is listed but missing" for e in listed if not (folder / e.file).is_file()]
    names = {e.file: e.source for e in listed}
    # an interrupted recording leaves finished episodes that nobody listed yet
    paths = [p for p in readers.find_files(folder) if p.suffix == ".npz"]
    sources = {p: names.get(p.relative_to(folder).as_posix(), readers.source_of(p, folder)) for p in paths}
    recordings, broken = _read_all(paths, lambda p: [readers.read_own(p, folder, sources[p], info, options, files)])
    if not recordings:
        raise _nothing_left(folder, [*problems, *broken], "episode")
    height, width = options.shape or (info.height, info.width)
    provenance = {**info.provenance, **({"fit": options.fit} if options.shape else {})}
    info = replace(info, height=height, width=width, provenance=provenance)
    if info.classes:
        classes = {e.file: e.class_id for e in listed}
        if lost := [r.file for r in recordings if r.file not in classes]:
            raise UserError(f"{folder / INFO_FILE} has classes but does not list {lost[0]}; add it with its class_id.")
        recordings = [replace(r, class_id=classes[r.file]) for r in recordings]
    return info, _Found(recordings=recordings, problems=[*problems, *broken], notes=[], files=files, known=known)


def _find_foreign(path: Path, options: ReadOptions) -> tuple[DataInfo, _Found]:
    paths, files = readers.find_files(path), ArrayFiles()
    root = path if path.is_dir() else path.parent
    if not paths:
        endings = ", ".join(sorted(readers.ENDINGS))
        raise UserError(f"{path} holds no recording; wanted .npz, HDF5 or video files ({endings}) or a {INFO_FILE}.")
    recordings, problems = _read_all(paths, lambda p: readers.read_foreign(p, root, options, files))
    if not recordings:
        raise _nothing_left(path, problems, "recording")
    classes, recordings = _by_folder(recordings)
    height, width = readers.common_size(recordings)
    fps, notes = readers.common_fps(recordings)
    info = DataInfo(
        fps=fps,
        height=height,
        width=width,
        actions=readers.common_actions(recordings),
        classes=classes,
        split_seed=options.split_seed,
        provenance={"read_from": [path.name], "fit": options.fit, "read": options.given},
    )
    notes += [note for r in recordings for note in r.notes]
    known = cache.recall_splits(path, options.split_seed)
    return info, _Found(recordings=recordings, problems=problems, notes=notes, files=files, known=known)


def _by_folder(recordings: Sequence[Recording]) -> tuple[tuple[str, ...], list[Recording]]:
    """Add what the folders say: the classes' names, and for each recording its class and the splits it may be in."""
    folders = split_folders(r.file for r in recordings)
    classes, numbers = class_folders(folders)
    # where a folder and the file in it differ, what is held out stays held out
    allowed = allowed_splits([max(folders[r.file], r.named_split, key=("", *SPLITS).index) for r in recordings])
    return classes, [
        replace(r, class_id=numbers.get(r.file, -1), splits=splits)
        for r, splits in zip(recordings, allowed, strict=True)
    ]


def _read_all(paths: Iterable[Path], read: readers.Read) -> tuple[list[Recording], list[str]]:
    recordings, problems = [], []
    for path in paths:
        try:
            recordings += read(path)
        except Unreadable as error:
            problems.append(str(error))
    return recordings, problems


def _nothing_left(path: Path, problems: Sequence[str], what: str) -> UserError:
    if not problems:
        return UserError(f"{path} holds no {what}; record or copy some into it.")
    return UserError(f"{path} holds no readable {what}: {'; '.join(problems[:3])}; replace the files.")
