"""Index of a folder of .npz files: facts about each file, so that opening the folder again reads none of them.

There is one index per folder and way of reading, in the cache. An entry counts as long as its file has the size and the
time of change that it had. A process replaces the whole index atomically; of two at once the last one's stays, and what
it lacks is read again. A damaged index is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelworld.config import to_json
from reelworld.data import cache
from reelworld.data.array_store import NpzStore
from reelworld.data.episodes import DataInfo, Episode, StoredArrays, stored_arrays
from reelworld.data.formats.reader import Contents, FileRequest
from reelworld.data.resize_options import ReadOptions
from reelworld.data.splits import sample_of
from reelworld.files import atomic_write
from reelworld.types import ActionSpec

log = logging.getLogger(__name__)
ENDING = ".npz"
"""Files of this ending are indexed: nothing beside such a file decides how it is read."""

Values = dict[str, Any]
"""JSON values of a file: "state", "facts" (a number), "entry" and "entry_size" of the cache, "episodes"."""


class OpenIndex:
    """Facts about the files of one folder, read in one way."""

    def __init__(self, root: Path, options: ReadOptions, info: DataInfo | None = None) -> None:
        """Read the index, if there is one.

        Args:
            root: Folder that is opened.
            options: How its files are read.
            info: Content of its ``dataset.json``, which decides how they are read too; None without it.
        """
        key = cache.key_of([cache.CACHE_VERSION, str(root.resolve()), cache.reading(options), to_json(info)])
        self._path, self._entries = cache.cache_folder() / "index" / f"{key}.json", cache.entries_folder()
        stored = _load(self._path, root)
        self._known: dict[str, Values] = stored.get("files", {})
        self._common: list[Values] = stored.get("facts", [])
        """Frame rate, size, actions and notes, which most files share; an entry has their number."""
        self._facts = [(_info(_tuples(c["info"])), tuple(c["notes"])) for c in self._common]
        self._numbers = {json.dumps(c, sort_keys=True): i for i, c in enumerate(self._common)}
        self._used: dict[str, Values] = {}

    def read(self, request: FileRequest, read: Callable[[FileRequest], Contents]) -> Contents:
        """Return the contents of a file, from the index if the file is unchanged; errors are those of ``read``."""
        if request.path.suffix.lower() != ENDING or not request.path.is_file():
            return read(request)
        state = list(cache.state(request.path))
        known = self._known.get(request.file)
        if known is None or known["state"] != state or (contents := self._recall(request, known)) is None:
            contents, known = _sampled(read(request)), None
        values = known or self._describe(request, contents, state)
        if values:
            self._used[request.file] = values
        return contents

    def save(self) -> None:
        """Write what was read, if it differs from what is stored; a cache that cannot be written is no error."""
        if self._used == self._known:
            return
        numbers = {old: new for new, old in enumerate(sorted({values["facts"] for values in self._used.values()}))}
        files = {file: {**values, "facts": numbers[values["facts"]]} for file, values in self._used.items()}
        body = json.dumps({"files": files, "facts": [self._common[old] for old in numbers]}).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path, sync=False) as file:
                file.write(_digest(body) + b"\n" + body)
        except OSError as error:
            log.debug("the index %s cannot be written (%s)", self._path, error.strerror)

    def _recall(self, request: FileRequest, known: Mapping[str, Any]) -> Contents | None:
        """Return the contents that are known of a file; None if their cache entry is gone."""
        path = request.path
        if known["entry"]:
            path = self._entries / known["entry"]
            if not path.is_file() or path.stat().st_size != known["entry_size"]:
                return None
        store = NpzStore(path, request.maps)
        info, notes = self._facts[known["facts"]]
        episodes = tuple(
            Episode(
                **{k: e[k] for k in ("source", "n_frames", "split", "first", "task")},
                file=request.file,
                arrays=StoredArrays(store, e["first_row"], e["n_rows"], sample=tuple(e["sample"])),
            )
            for e in known["episodes"]
        )
        return Contents(info=info, episodes=episodes, notes=notes)

    def _describe(self, request: FileRequest, contents: Contents, state: list[int]) -> Values | None:
        """Return what is stored about a file; None where it is not one .npz, mapped in place or in the cache."""
        stores = {stored_arrays(e).store for e in contents.episodes}
        store = next(iter(stores), None)
        if len(stores) != 1 or not isinstance(store, NpzStore):
            return None
        is_entry = store.path != request.path
        common = {"info": to_json(contents.info), "notes": list(contents.notes)}
        number = self._numbers.setdefault(json.dumps(common, sort_keys=True), len(self._common))
        if number == len(self._common):
            self._common.append(common)
        return {
            "state": state,
            "facts": number,
            "entry": store.path.name if is_entry else "",
            "entry_size": store.path.stat().st_size if is_entry else 0,
            "episodes": [
                {
                    **{k: getattr(e, k) for k in ("source", "n_frames", "split", "first", "task")},
                    **{"first_row": stored.first, "n_rows": stored.n_rows, "sample": list(stored.sample)},
                }
                for e in contents.episodes
                for stored in [stored_arrays(e)]
            ],
        }


def _sampled(contents: Contents) -> Contents:
    """Take the checksums of an episode's frames while its file is open."""
    return replace(contents, episodes=tuple(_sample(e) for e in contents.episodes))


def _sample(episode: Episode) -> Episode:
    stored = stored_arrays(episode)
    if not isinstance(stored.store, NpzStore):
        return episode
    frames = stored.frames_as_stored(stored.store.pool)
    return replace(episode, arrays=replace(stored, sample=sample_of(frames)))


def _tuples(value: object) -> Any:
    """Return JSON values with tuples for lists, as dataclasses hold them."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _info(values: Values) -> DataInfo:
    """Build what ``_describe`` stored; unchecked, as the checksum covers it, which takes a third of the time."""
    return DataInfo(**{**values, "actions": {name: ActionSpec(**spec) for name, spec in values["actions"].items()}})


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _load(path: Path, root: Path) -> Values:
    """Return a stored index; empty if there is none or it is damaged."""
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return {}
    except OSError:
        digest, body = b"", b""
    if digest != _digest(body):
        log.warning("the index of %s in the cache is damaged; it is made anew", root.name)
        return {}
    stored: Values = json.loads(body)
    return stored
