"""Cache of decoded and unpacked recordings: ``REELWORLD_CACHE``, by default ``~/.cache/reelworld``.

An entry is one of our own uncompressed .npz files. Its name is a hash of its source (path, size, time of change,
options), so that a changed file or option makes a new entry. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from reelworld.config import read_json, to_json
from reelworld.data.resize_options import ReadOptions
from reelworld.files import write_json, write_npz
from reelworld.types import UserError

CACHE_VERSION = 2
"""Version of the readers' results; increase it on a change, so that old entries are not used."""
FACTS = "facts"
"""Name of the array with JSON metadata inside an entry."""

Decoded = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
"""Arrays of an episode, and JSON facts about it."""
Decode = Callable[[], Decoded]


def cache_folder() -> Path:
    """Return the cache folder; it need not exist."""
    chosen = os.environ.get("REELWORLD_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "reelworld"


def scratch_file() -> BinaryIO:
    """Open a nameless file in the cache, which has room for pictures where /tmp may not."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))


def _key(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def entry(files: Sequence[Path], options: ReadOptions, decode: Decode, part: str = "") -> Path:
    """Return the cache entry for a recording, made now if it is not there.

    Args:
        files: The recording and what belongs to it (an action file).
        options: How it is read.
        decode: Returns the arrays of an episode and JSON facts.
        part: Part of the files, where they make several entries.
    """
    stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    reading = {k: v for k, v in to_json(options).items() if k not in ("split_seed", "max_gigabytes")}
    reading["size"] = options.shape  # 64 and (64, 64) are the same pictures
    path = cache_folder() / "episodes" / f"{_key([CACHE_VERSION, stats, reading, *([part] if part else [])])}.npz"
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


def _splits_file(path: Path, seed: int) -> Path:
    return cache_folder() / "splits" / f"{_key([str(path.resolve()), seed])}.json"


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
