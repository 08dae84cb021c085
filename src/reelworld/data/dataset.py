"""Data sets: episodes of one size, read lazily by window.

Our own folders (``dataset.json`` and uncompressed .npz) are mapped in place. Other formats are converted once, into the
cache. Users' folders are never written to.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from reelworld.data import cache
from reelworld.data.action_alignment import common_specs
from reelworld.data.array_store import FilePool, Unreadable
from reelworld.data.episodes import (
    Arrays,
    DataInfo,
    Episode,
    FrameRange,
    StoredArrays,
    stored_arrays,
    streams_of,
)
from reelworld.data.formats.episode_folder import INFO_FILE, read_info, read_listed, write_episode, write_info
from reelworld.data.formats.folder_conventions import allowed_splits, class_folders, name_splits, split_folders
from reelworld.data.formats.reader import MAX_TABLES, Contents, FileRequest, find_files, requests
from reelworld.data.open_index import OpenIndex
from reelworld.data.resize import common_size
from reelworld.data.resize_options import ReadOptions
from reelworld.data.splits import SPLITS, assign_splits, find_duplicates
from reelworld.types import Clip, UserError

__all__ = ["DataInfo", "Dataset", "Episode", "ReadOptions", "warn_once", "write_episode", "write_info"]

log = logging.getLogger(__name__)
MAX_PARTS, PART_FRAMES = 10, 16
"""Parts that a recording is cut into if there are too few recordings to split: ten, or fewer (at least three) so that
each part has this many frames."""

Transform = Callable[[Arrays, int, slice], Arrays]
"""(arrays, number of the episode, window) -> arrays. The window is slice(start, stop, stride), in frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Episodes of one size, each readable by window. Made by ``Dataset.open``, ``concat`` and ``map``."""

    path: Path
    info: DataInfo
    episodes: tuple[Episode, ...]
    problems: tuple[str, ...] = ()
    """Files that were skipped, one line each."""
    notes: tuple[str, ...] = ()
    """Assumptions and changes made while reading, one line each."""
    n_duplicates: int = 0
    """Episodes that were dropped because another split holds the same frames."""
    parts: tuple[Dataset, ...] = ()
    """Data sets that ``concat`` joined; empty for others."""
    fractions: tuple[float, ...] = ()
    """Sampling probability of each part for training windows."""
    transforms: tuple[Transform, ...] = ()
    """Transforms of the arrays, in order."""
    recorded: Dataset | None = None
    """Data set with the recorded actions, where these are pseudo-labels."""

    @classmethod
    def open(
        cls, path: Path | str, options: ReadOptions | None = None, splits: Mapping[str, str] | None = None
    ) -> Dataset:
        """Open our own folder, a folder of .npz or video files, or a single file.

        Files that are truncated or corrupt are skipped, logged and listed in ``problems``.

        Args:
            path: Folder or file.
            options: How it is read.
            splits: Source -> split, instead of the splits that are remembered for the path; these are not remembered.
                A ``dataset.json`` has its own.

        Raises:
            UserError: If there are no recordings, or they cannot be read with these options.
        """
        path, options = Path(path), options or ReadOptions()
        if not path.exists():
            raise UserError(f"{path} does not exist; give a folder of recordings, or a video, .npz or HDF5 file.")
        is_own = (path / INFO_FILE).is_file()
        dataset = _open_own(path, options) if is_own else _open_files(path, options, splits)
        if not is_own and splits is None:
            cache.remember_splits(path, dataset.info.split_seed, {e.source: e.split for e in dataset.episodes})
        for note in dataset.notes:
            warn_once(note)
        if dataset.problems:
            log.warning("%s: %d files skipped: %s", path.name, len(dataset.problems), "; ".join(dataset.problems[:3]))
        return dataset

    @classmethod
    def concat(cls, datasets: Sequence[Dataset], info: DataInfo, weights: Sequence[float]) -> Dataset:
        """Join data sets of one size.

        Args:
            datasets: At least one; without transforms.
            info: Common facts. Classes are left out.
            weights: Amount that training draws from each, relative to the others.
        """
        assert not any(d.transforms for d in datasets)
        shares = np.array(weights, np.float64)
        return cls(
            path=Path(" + ".join(d.path.name for d in datasets)),
            info=info,
            episodes=tuple(replace(e, class_id=-1) for d in datasets for e in d.episodes),
            problems=tuple(problem for d in datasets for problem in d.problems),
            notes=tuple(dict.fromkeys(note for d in datasets for note in d.notes)),
            n_duplicates=sum(d.n_duplicates for d in datasets),
            parts=tuple(datasets),
            fractions=tuple((shares / shares.sum()).tolist()),
        )

    def map(self, transform: Transform, info: DataInfo | None = None) -> Dataset:
        """Apply a transform to every episode.

        Args:
            transform: Applied to the arrays of each window, and to the steps of whole episodes.
            info: Facts about the result; by default those of this data set.
        """
        return replace(self, info=info or self.info, transforms=(*self.transforms, transform))

    @cached_property
    def _by_split(self) -> dict[str, list[int]]:
        return {s: [i for i, e in enumerate(self.episodes) if s in ("all", e.split)] for s in (*SPLITS, "all")}

    def indices(self, split: str) -> list[int]:
        """Return the numbers of the episodes of "train", "val", "test" or "all"."""
        if split not in self._by_split:
            raise UserError(f"split is {split!r}; it must be train, val, test or all.")
        return list(self._by_split[split])

    @cached_property
    def part_of(self) -> np.ndarray:
        """Number of the part that each episode comes from, int64 (episodes,)."""
        return np.repeat(np.arange(len(self.parts)), [len(d.episodes) for d in self.parts])

    def sampling_weights(self, episodes: np.ndarray, n_frames: int) -> np.ndarray | None:
        """Return sampling probabilities of training windows: each part has its fraction, its windows are equal.

        Args:
            episodes: Number of the episode of each window, int64 (n,).
            n_frames: Frames that a window spans.

        Returns:
            float64 (n,), probabilities; None when all windows are drawn alike.
        """
        if len(self.parts) < 2:
            return None
        parts = self.part_of[episodes]
        counts = np.bincount(parts, minlength=len(self.parts))
        for i in np.flatnonzero(counts == 0):
            lengths = [self.episodes[j].n_frames for j in self.indices("train") if self.part_of[j] == i]
            raise UserError(
                f"every train episode of {self.parts[i].path} is shorter than the {n_frames} frames of a window (the "
                f"longest has {max(lengths)}); leave this member out, or use shorter windows or a smaller stride."
            )
        out: np.ndarray | None = (np.array(self.fractions) / counts)[parts]
        return out

    def arrays(self, episode: int, start: int, stop: int, stride: int = 1) -> Arrays:
        """Copy a window of one episode.

        Args:
            episode: Its number.
            start: First frame.
            stop: One past the last frame.
            stride: Frames from one kept frame to the next.

        Returns:
            "frames" uint8 (T, H, W, 3), or "codes" of a code store (T, N); and those that exist of
            "actions/<stream>" int64 or float32 (T, ...) or (T, stride, ...), "rewards" float32 (T,) summed over the
            stride, "terminated" and "truncated" bool (T,), true if any step of the stride was.
        """
        arrays = self._stored(episode).read(start, stop, stride)
        return self._transformed(arrays, episode, slice(start, stop, stride))

    def steps(self, episode: int) -> Arrays:
        """Copy what ``arrays`` returns for a whole episode, without its frames."""
        n_frames = self.episodes[episode].n_frames
        return self._transformed(self._stored(episode).steps(), episode, slice(0, n_frames, 1))

    def _stored(self, episode: int) -> StoredArrays:
        return stored_arrays(self.episodes[episode])

    def _transformed(self, arrays: Arrays, episode: int, window: slice) -> Arrays:
        for transform in self.transforms:
            arrays = transform(arrays, episode, window)
        return arrays

    def read(self, episode: int, start: int = 0, stop: int | None = None, stride: int = 1) -> Clip:
        """Read a clip of one episode; by default the whole of it."""
        e = self.episodes[episode]
        arrays = self.arrays(episode, start, e.n_frames if stop is None else stop, stride)
        return to_clip(arrays, self.info.fps / stride, e.source, e.class_id if self.info.classes else None)


def to_clip(arrays: Mapping[str, np.ndarray], fps: float, source: str, class_id: int | None) -> Clip:
    """Build a clip from the arrays of a window."""
    return Clip(
        frames=arrays["frames"],
        actions=streams_of(arrays),
        rewards=arrays.get("rewards"),
        terminated=arrays.get("terminated"),
        truncated=arrays.get("truncated"),
        fps=fps,
        source=source,
        class_id=class_id,
    )


@lru_cache
def warn_once(text: str) -> None:
    """Log a warning, but not again when the same data are opened again."""
    log.warning(text)


def median_fps(rates: Sequence[float]) -> tuple[float, list[str]]:
    """Return the median of frame rates, and a note when they differ by more than 2%."""
    rates = sorted(rates)
    middle = rates[len(rates) // 2]
    if rates[-1] - rates[0] <= 0.02 * middle:
        return middle, []
    return middle, [
        f"frame rates differ ({rates[0]:g} to {rates[-1]:g} per second); {middle:g} is assumed: resample with --fps"
    ]


# ------------------------------------------------------------------ opening


def _open_own(folder: Path, options: ReadOptions) -> Dataset:
    """Open a folder with ``dataset.json``."""
    info, listed = read_info(folder)
    missing = [f"{e.file} is listed but missing" for e in listed if not (folder / e.file).is_file()]
    # an interrupted recording leaves finished episodes that are not listed yet
    files = requests(find_files(folder, (".npz",)), folder, options)
    index = OpenIndex(folder, options, info)
    contents, broken = _read_all(files, index, lambda request: read_listed(request, info))
    if not contents:
        raise _nothing_left(folder, [*missing, *broken], "episode")
    by_file = {e.file: e for e in listed}
    episodes = [c.episodes[0] for c in contents]
    if info.classes and (lost := [e.file for e in episodes if e.file not in by_file]):
        raise UserError(f"{folder / INFO_FILE} has classes but does not list {lost[0]}; add it with its class_id.")
    episodes = [
        replace(
            e,
            source=by_file[e.file].source,
            class_id=by_file[e.file].class_id if info.classes else -1,
            task=by_file[e.file].task,
        )
        if e.file in by_file
        else e
        for e in episodes
    ]
    height, width = options.shape or (info.height, info.width)
    provenance = {**info.provenance, **({"fit": options.fit} if options.shape else {})}
    info = replace(info, height=height, width=width, provenance=provenance)
    return _split(
        Dataset(path=folder, info=info, episodes=tuple(episodes), problems=(*missing, *broken)),
        [SPLITS] * len(episodes),
        {e.source: e.split for e in listed},
    )


def _open_files(path: Path, options: ReadOptions, splits: Mapping[str, str] | None) -> Dataset:
    """Open a file, or a folder of files, of other formats."""
    from reelworld.data.formats.registry import ENDINGS, find_recordings, read_file  # loads PyAV and h5py

    paths = find_recordings(path)
    if not paths:
        endings = ", ".join(sorted(ENDINGS))
        raise UserError(f"{path} holds no recording; wanted .npz, HDF5 or video files ({endings}) or a {INFO_FILE}.")
    files = requests(paths, path.parent if paths == [path] else path, options)
    contents, problems = _read_all(files, OpenIndex(path, options), read_file)
    if not contents:
        raise _nothing_left(path, problems, "recording")
    contents = _with_actions(contents, problems, options.strict)
    episodes = [e for c in contents for e in c.episodes]
    folders = split_folders(e.file for e in episodes)
    classes, class_ids = class_folders(folders)
    by_name, name_notes = name_splits(e.file for e in episodes)
    # if a folder and a file name in it differ, held-out recordings stay held out
    named = [max(folders[e.file], by_name[e.file], e.split, key=("", *SPLITS).index) for e in episodes]
    allowed = allowed_splits(named)
    fps, notes = median_fps([c.info.fps for c in contents for _ in c.episodes])
    sizes: Counter[tuple[int, int]] = Counter()
    for c in contents:
        sizes[c.info.height, c.info.width] += len(c.episodes)
    height, width = common_size(sizes)
    info = DataInfo(
        fps=fps,
        height=height,
        width=width,
        actions=common_specs({c.episodes[0].file: c.info.actions for c in contents}),
        classes=classes,
        split_seed=options.split_seed,
        provenance={"read_from": [path.name], "fit": options.fit, "read": options.given},
    )
    dataset = Dataset(
        path=path,
        info=info,
        episodes=tuple(replace(e, class_id=class_ids.get(e.file, -1)) for e in episodes),
        problems=tuple(problems),
        notes=(*notes, *name_notes, *(note for c in contents for note in c.notes)),
    )
    return _split(dataset, allowed, cache.recall_splits(path, options.split_seed) if splits is None else splits)


def _read_all(
    files: Sequence[FileRequest], index: OpenIndex, read: Callable[[FileRequest], Contents]
) -> tuple[list[Contents], list[str]]:
    """Read files; return their contents, and a line for each that is damaged or wrong.

    Raises:
        UserError: If one is wrong, and the others are damaged or wrong too or ``strict`` is set.
    """
    contents, problems = [], []
    wrong: UserError | None = None
    for request in files:
        try:
            _check_name(request.file)
            contents.append(index.read(request, read))
        except Unreadable as error:
            problems.append(str(error))
        except UserError as error:
            if request.options.strict or len(files) == 1:
                raise
            wrong = wrong or error
            problems.append(str(error))
    index.save()
    if wrong and not contents:
        raise UserError(f"none of {len(files)} recordings can be read. The first: {wrong}") from wrong
    return contents, problems


def _check_name(file: str) -> None:
    """Refuse a name that cannot be printed or stored as text."""
    try:
        file.encode()
    except UnicodeEncodeError:
        shown = file.encode("utf-8", "backslashreplace").decode()
        raise UserError(f"{shown} has a name that is no UTF-8; rename it.") from None


def _with_actions(contents: list[Contents], problems: list[str], strict: bool) -> list[Contents]:
    """Leave out recordings without actions where others have some."""
    having = [c for c in contents if c.info.actions]
    without = [c.episodes[0].file for c in contents if not c.info.actions]
    if not having or not without or strict:
        return contents  # with both, common_specs refuses them
    problems += [f"{file} has no actions, {len(having)} other recordings have" for file in without]
    return having


def _nothing_left(path: Path, problems: Sequence[str], what: str) -> UserError:
    if not problems:
        return UserError(f"{path} holds no {what}; record or copy some into it.")
    return UserError(f"{path} holds no readable {what}: {'; '.join(problems[:3])}; replace the files.")


# ------------------------------------------------------------------ splitting


def _split(found: Dataset, allowed: Sequence[tuple[str, ...]], known: Mapping[str, str]) -> Dataset:
    """Assign every episode to a split; drop and count duplicates of episodes in other splits.

    Args:
        found: Episodes as the files have them.
        allowed: Splits that each episode may be put into.
        known: Source -> split, decided earlier.
    """
    episodes, allowed, notes = _cut(found.episodes, allowed)
    # of two copies the first is kept: the held-out one, if the user chose the splits
    order = sorted(range(len(episodes)), key=lambda i: "train" in allowed[i])
    pool = FilePool(MAX_TABLES, in_order=True)
    samples = [stored_arrays(episodes[i]).sample for i in order]
    copies = find_duplicates([partial(_frames_as_stored, episodes[i], pool) for i in order], samples)
    sources, seed = [episodes[i].source for i in order], found.info.split_seed
    limited = {episodes[i].source: allowed[i] for i in order if allowed[i] != SPLITS}
    firsts = [source for n, source in enumerate(sources) if n not in copies]
    splits = assign_splits(firsts, seed, known, limited)
    splits |= assign_splits(sources, seed, {**known, **splits}, limited)
    kept = sorted(i for n, i in enumerate(order) if n not in copies or splits[sources[n]] == splits[sources[copies[n]]])
    if n_duplicates := len(episodes) - len(kept):
        notes.append(f"{n_duplicates} episodes dropped: the same frames are in another split")
    return replace(
        found,
        episodes=tuple(replace(episodes[i], split=splits[episodes[i].source]) for i in kept),
        notes=tuple(dict.fromkeys([*found.notes, *notes])),
        n_duplicates=n_duplicates,
    )


def _frames_as_stored(episode: Episode, pool: FilePool) -> FrameRange:
    return stored_arrays(episode).frames_as_stored(pool)


def _cut(
    episodes: Sequence[Episode], allowed: Sequence[tuple[str, ...]]
) -> tuple[list[Episode], list[tuple[str, ...]], list[str]]:
    """Cut recordings into equal parts if there are fewer recordings than splits.

    Returns:
        Episodes, the splits that each may be put into, and notes.
    """
    cut: list[Episode] = []
    splits: list[tuple[str, ...]] = []
    notes = []
    sharing = Counter(allowed)
    for e, allowed_here in zip(episodes, allowed, strict=True):
        least = len(allowed_here)
        n = min(MAX_PARTS, max(least, e.n_frames // PART_FRAMES))
        if sharing[allowed_here] >= least or e.n_frames < 2 * n:
            n = 1
        if n == 1:
            cut.append(e)
            splits.append(allowed_here)
            continue
        edges = [e.n_frames * i // n for i in range(n + 1)]
        for i, (first, last) in enumerate(pairwise(edges)):
            cut.append(
                replace(
                    e,
                    source=f"{e.source}#{i:02d}",
                    n_frames=last - first,
                    first=e.first + first,
                    arrays=replace(stored_arrays(e), first=e.first + first, n_rows=last - first, sample=()),
                )
            )
            splits.append(allowed_here)
        few = f"fewer than {least} recordings"
        notes.append(f"{e.file} is cut into {n} stretches that are split like episodes ({few})")
    return cut, splits, notes
