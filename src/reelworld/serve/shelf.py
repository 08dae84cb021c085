"""The worlds that one server offers: known by what is written on them, loaded when somebody wants to play.

A client names a world by its number on the shelf, never by a path. Equal worlds, copies of one folder, share weights.
"""

from __future__ import annotations

import hashlib
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelworld.config import read_json
from reelworld.serve.playable import Playable
from reelworld.types import UserError
from reelworld.worlds.locate import world_folder

__all__ = ["Shelf", "Shelved", "find_worlds", "shelve"]

CARD_CHARACTERS = 20_000


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A world on the shelf."""

    name: str
    load: Callable[[], Playable]
    """Reads the weights; may take seconds."""
    where: str = ""
    """Name of its run, to tell worlds of one name apart."""
    recipe: str = ""
    width: int = 0
    height: int = 0
    n_actions: int = 0
    card: str = ""
    """Its README, Markdown."""
    preview: bytes = b""
    """A moving picture, GIF; empty when it has none."""
    fingerprint: str = ""
    """Equal for equal worlds; empty for one that is like no other."""

    @property
    def folder_name(self) -> str:
        """A name for what belongs to this world, the same in every run of the server."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:60] or "world"
        return f"{slug}-{self.fingerprint[:8]}" if self.fingerprint else slug

    def describe(self, number: int) -> dict[str, Any]:
        """Return what the gallery shows."""
        return {
            "id": number,
            "name": self.name,
            "where": self.where,
            "recipe": self.recipe,
            "width": self.width,
            "height": self.height,
            "actions": self.n_actions,
            "card": self.card[:CARD_CHARACTERS],
            "preview": bool(self.preview),
        }


class Shelf:
    """Worlds by number."""

    def __init__(self, worlds: Sequence[Shelved]) -> None:
        self.worlds = list(worlds)
        self._loaded: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def load(self, number: int) -> Playable:
        """Load a world, or take the equal one that is loaded already; call it from one thread at a time."""
        shelved = self.worlds[number]
        world = self._loaded.get(shelved.fingerprint) if shelved.fingerprint else None
        if world is None:
            world = shelved.load()
            if shelved.fingerprint:
                self._loaded[shelved.fingerprint] = world
        return world

    def number(self, text: str) -> int:
        """Read the number that a client names a world by; without one, the first.

        Raises:
            KeyError: If there is no such world.
        """
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else (-1 if text else 0)
        if not 0 <= number < len(self.worlds):
            raise KeyError(text)
        return number


def shelve(folder: Path, load: Callable[[Path], Playable]) -> Shelved:
    """Put a world's folder, or a run that holds one, on the shelf without loading it.

    Raises:
        UserError: If there is no world.
    """
    folder = world_folder(folder)
    file, card, preview = folder / "world.json", folder / "README.md", folder / "preview.gif"
    info = read_json(file)
    if not isinstance(info, dict):
        raise UserError(f"{file} is no JSON object; restore the world.")
    streams = info.get("actions") if isinstance(info.get("actions"), dict) else {}
    counts = [spec.get("n") for spec in streams.values() if isinstance(spec, dict)] if streams else []
    return Shelved(
        name=str(info.get("name", folder.name)),
        load=lambda: load(folder),
        where=folder.resolve().parent.name if folder.resolve().name == "world" else folder.resolve().name,
        recipe=str(info.get("recipe", "")),
        width=info["width"] if isinstance(info.get("width"), int) else 0,
        height=info["height"] if isinstance(info.get("height"), int) else 0,
        n_actions=sum(n for n in counts if isinstance(n, int)),
        card=card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
        preview=preview.read_bytes() if preview.is_file() else b"",
        fingerprint=hashlib.sha256(file.read_bytes()).hexdigest(),  # it holds the hash of every part
    )


def find_worlds(folder: Path) -> list[Path]:
    """Find the worlds below a folder of runs, at most three folders deep, newest first."""
    found = [path.parent for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/world.json")]
    return sorted(found, key=lambda path: -(path / "world.json").stat().st_mtime)
