"""World library: the worlds that one server offers, described by their files and loaded on demand.

Clients name a world by its index, never by a path. Copies of one world share weights.
"""

from __future__ import annotations

import hashlib
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelworld.config import read_json
from reelworld.serve.interfaces import Playable
from reelworld.types import UserError
from reelworld.worlds.locate import world_folder

CARD_CHARACTERS = 20_000


class UnknownWorld(UserError):
    """A client named a world that does not exist."""


@dataclass(frozen=True, kw_only=True)
class WorldEntry:
    """One world of a library."""

    name: str
    load: Callable[[], Playable]
    """Reads the weights; may take seconds."""
    run: str = ""
    """Name of its run, to distinguish worlds of equal names."""
    system: str = ""
    width: int = 0
    height: int = 0
    n_actions: int = 0
    card: str = ""
    """Its README, Markdown."""
    preview: bytes = b""
    """Animation, GIF; empty when it has none."""
    fingerprint: str = ""
    """Hash of its description and weights; empty when unknown."""

    @property
    def folder_name(self) -> str:
        """Folder name for recordings of this world, the same in every run of the server."""
        slug = slugify(self.name)
        return f"{slug}-{self.fingerprint[:8]}" if self.fingerprint else slug

    def describe(self, index: int) -> dict[str, object]:
        """Return the fields of the gallery."""
        return {
            "id": index,
            "name": self.name,
            "run": self.run,
            "system": self.system,
            "width": self.width,
            "height": self.height,
            "actions": self.n_actions,
            "card": self.card[:CARD_CHARACTERS],
            "preview": bool(self.preview),
        }


class WorldLibrary:
    """Worlds by index."""

    def __init__(self, entries: Sequence[WorldEntry]) -> None:
        self.entries = list(entries)
        self._loaded: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def load(self, index: int) -> Playable:
        """Load a world, or return a loaded copy of it; call it from one thread at a time."""
        entry = self.entries[index]
        world: Playable | None = self._loaded.get(entry.fingerprint) if entry.fingerprint else None
        if world is None:
            world = entry.load()
            if entry.fingerprint:
                self._loaded[entry.fingerprint] = world
        return world

    def index(self, text: str) -> int:
        """Parse a client's index; empty means the first world.

        Raises:
            UnknownWorld: If there is no such world.
        """
        index = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else (-1 if text else 0)
        if not 0 <= index < len(self.entries):
            raise UnknownWorld("there is no such world")
        return index


def read_entry(folder: Path, load: Callable[[Path], Playable]) -> WorldEntry:
    """Describe the world of a folder, or of a run, without loading its weights.

    Raises:
        UserError: If there is no world.
    """
    folder = world_folder(folder)
    file, card, preview = folder / "world.json", folder / "README.md", folder / "preview.gif"
    info = read_json(file)
    if not isinstance(info, dict):
        raise UserError(f"{file} is no JSON object; restore the world.")
    spec, action_map = _object(info, "spec"), _object(info, "action_map")
    streams = [action_map] if action_map else [{"spec": stream} for stream in _object(spec, "actions").values()]
    return WorldEntry(
        name=str(info.get("name", folder.name)),
        load=lambda: load(folder),
        run=folder.resolve().parent.name if folder.resolve().name == "world" else folder.resolve().name,
        system=str(info.get("system", "")),
        width=_integer(spec, "width"),
        height=_integer(spec, "height"),
        n_actions=sum(_integer(_object(stream, "spec"), "n") for stream in streams),
        card=card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
        preview=preview.read_bytes() if preview.is_file() else b"",
        fingerprint=hashlib.sha256(file.read_bytes()).hexdigest(),  # the file has the hash of every part
    )


def _object(value: Mapping[str, object], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _integer(value: Mapping[str, object], name: str) -> int:
    found = value.get(name)
    return found if isinstance(found, int) else 0


def find_worlds(folder: Path) -> list[Path]:
    """Find the worlds in a folder of runs, at most three folders deep, newest first."""
    found = [path.parent for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/world.json")]
    return sorted(found, key=lambda path: -(path / "world.json").stat().st_mtime)


def slugify(name: str) -> str:
    """Turn a world's name into a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "world"
