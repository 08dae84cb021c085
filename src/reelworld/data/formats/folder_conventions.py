"""Folder conventions: ``train/``, ``val/`` and ``test/`` are splits, other folders may be classes.

The layout of UCF-101 and its like: ``train/<class>/clip.mp4`` and ``test/<class>/clip.mp4``, or ``<class>/clip.mp4``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from reelworld.data.splits import SPLITS

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Name of a folder, in any case -> the split it means."""


def split_folders(files: Iterable[str]) -> dict[str, str]:
    """Find the split that the outermost folder of each file names.

    Folders are splits if every file is in one, or if there are at least two kinds: a single folder "train" among
    others may be a class of videos of trains.

    Args:
        files: Paths relative to the folder that was opened, with slashes.

    Returns:
        File -> "train", "val" or "test"; "" for a file that is in no such folder.
    """
    named = {f: SPLIT_FOLDERS.get(f.split("/")[0].lower(), "") if "/" in f else "" for f in files}
    is_meant = all(named.values()) or len(set(named.values()) - {""}) > 1
    return named if is_meant else dict.fromkeys(named, "")


def name_splits(files: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Find the split that the name of each file ends in or begins with: ``maze-val.npz``, ``test_03.mp4``.

    Names are splits if some say val or test and others do not: a lone ``test.mp4`` is a recording, ``train_1.mp4`` and
    ``bus_1.mp4`` are two.

    Args:
        files: Paths relative to the folder that was opened, with slashes.

    Returns:
        File -> "train", "val" or "test", "" for a file that names none; and notes.
    """
    named = {}
    for file in files:
        words = re.split(r"[-_. ]+", PurePosixPath(file).stem.lower())
        found = [SPLIT_FOLDERS[w] for w in (words[-1], words[0], *words[-2:-1]) if w in SPLIT_FOLDERS]
        named[file] = found[0] if found else ""
    if len(set(named.values())) < 2 or {"val", "test"}.isdisjoint(named.values()):
        return dict.fromkeys(named, ""), []
    counts = Counter(s for s in named.values() if s)
    listed = ", ".join(f"{n} {split}" for split, n in sorted(counts.items()))
    return named, [f"the split of {sum(counts.values())} files is read off their names ({listed})"]


def class_folders(splits: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Find the class that the folder of each file names.

    Folders are classes if every file is exactly one folder deep, below the root or below its split's folder, there are
    at least two of them, and not each has a single file (one folder per recording). A class has the same number in
    every split, also if a split lacks another class.

    Args:
        splits: What ``split_folders`` returned.

    Returns:
        The names, sorted, and file -> number; both empty when folders are no classes.
    """
    parents = {f: PurePosixPath(f).parts[1 if split else 0 : -1] for f, split in splits.items()}
    counts = Counter(parents.values())
    if any(len(parts) != 1 for parts in counts) or len(counts) < 2 or max(counts.values()) < 2:
        return (), {}
    names = tuple(sorted(parts[0] for parts in counts))
    numbers = {name: i for i, name in enumerate(names)}
    return names, {f: numbers[parts[0]] for f, parts in parents.items()}


def allowed_splits(named: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the splits each recording may be put into.

    Files named val or test belong to that split. The rest is divided among train and the splits that are not named.
    With a test folder, val is taken from train/; with val/ and test/, all of train/ is train.

    Args:
        named: Per recording the split that its folder or file names, "" for none.
    """
    present = set(named) - {"", "train"}
    rest = tuple(s for s in SPLITS if s not in present)
    return [(split,) if split in present else rest for split in named]
