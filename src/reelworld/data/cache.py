"""Cache of decoded and unpacked recordings: ``REELWORLD_CACHE``, by default ``~/.cache/reelworld``.

An entry is one of our own uncompressed .npz files. Its name is a hash of its source (name, size, time of change, first
and last bytes, options): a changed file or option makes a new entry, and a folder that is moved keeps its entries. The
folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from reelworld.config import read_json, to_json
from reelworld.data.resize_options import ReadOptions
from reelworld.files import write_json, write_npz
from reelworld.types import UserError

CACHE_VERSION = 3
"""Version of the readers' results; increase it on a change, so that old entries and indexes are not used."""
END_BYTES, MAX_ENDS = 1 << 16, 8
"""Bytes at either end of a file that tell it from another of its name, and files of a recording that are told apart so:
an .npz ends with checksums of its arrays, a video begins or ends with the sizes of its pictures."""
FACTS = "facts"
"""Name of the array with JSON metadata inside an entry."""

Decoded = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
"""Arrays of an episode, and JSON facts about it."""
Decode = Callable[[], Decoded]


def cache_folder() -> Path:
    """Return the cache folder; it need not exist."""
    chosen = os.environ.get("REELWORLD_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "reelworld"


def entries_folder() -> Path:
    """Return the folder of the cache's entries; it need not exist."""
    return cache_folder() / "episodes"


def state(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file, which are others when it is written again."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def reading(options: ReadOptions) -> dict[str, object]:
    """Return the options that decide what is read from a file, as JSON values."""
    values = {k: v for k, v in to_json(options).items() if k not in ("split_seed", "max_gigabytes")}
    return {**values, "size": options.shape}  # 64 and (64, 64) are the same pictures


def scratch_file() -> BinaryIO:
    """Open a nameless file in the cache, which has room for pictures where /tmp may not."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))


def key_of(values: object) -> str:
    """Return a file name for JSON values, a hash of them."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def entry(files: Sequence[Path], options: ReadOptions, decode: Decode, part: str = "") -> Path:
    """Return the cache entry for a recording, made now if it is not there.

    Args:
        files: The recording and what belongs to it (an action file).
        options: How it is read.
        decode: Returns the arrays of an episode and JSON facts.
        part: Part of the files, where they make several entries.
    """
    stats = [(f.name, *state(f)) for f in files]
    ends = [_ends(f, *stat[1:]) for f, stat in zip(files[:MAX_ENDS], stats, strict=False)]
    key = key_of([CACHE_VERSION, stats, ends, reading(options), *([part] if part else [])])
    path = entries_folder() / f"{key}.npz"
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays, facts = decode()
            text = np.frombuffer(json.dumps(to_json(facts)).encode(), np.uint8)
            write_npz(path, {**arrays, FACTS: text}, sync=False)
        except OSError as error:
            raise UserError(
                f"the cache {cache_folder()} cannot be written ({error.strerror}); free some space or set "
                "REELWORLD_CACHE to another folder."
            ) from None
    return path


@lru_cache(4096)
def _ends(path: Path, size: int, changed: int) -> str:
    """Hash the first and the last bytes of a file; "" for a folder."""
    if path.is_dir():
        return ""
    with path.open("rb") as file:
        first = file.read(END_BYTES)
        file.seek(max(len(first), size - END_BYTES))
        return hashlib.sha256(first + file.read(END_BYTES)).hexdigest()


def _splits_file(path: Path, seed: int) -> Path:
    return cache_folder() / "splits" / f"{key_of([str(path.resolve()), seed])}.json"


def recall_splits(path: Path, seed: int) -> dict[str, str]:
    """Return the stored splits of a folder; empty for a new one."""
    file = _splits_file(path, seed)
    return dict(read_json(file)) if file.is_file() else {}


def remember_splits(path: Path, seed: int, splits: Mapping[str, str]) -> None:
    """Store the splits of a user's folder, which is never written to."""
    file = _splits_file(path, seed)
    known = recall_splits(path, seed)
    if any(known.get(k) != v for k, v in splits.items()):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {**known, **splits})
