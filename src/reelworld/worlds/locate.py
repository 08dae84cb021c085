"""Resolve a world's path or name to its folder."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from reelworld.types import UserError

SHIPPED = ("doorkey", "driving")
"""Names of the worlds in the package, the default first; see worlds/README.md."""


def shipped_folder(name: str) -> Path:
    """Return the folder of a shipped world.

    Raises:
        UserError: If it is missing from this installation.
    """
    folder = Path(str(resources.files("reelworld"))) / "shipped" / name
    if not (folder / "world.json").is_file():
        raise UserError(
            f"the shipped world {name!r} is missing from this installation ({folder}): reinstall reelworld."
        )
    return folder


def world_folder(path: Path | str) -> Path:
    """Return the folder with world.json.

    Args:
        path: That folder, a run with world/ inside, or the name of a shipped world. Folders come before names.

    Raises:
        UserError: If there is no world.
    """
    folder = Path(path)
    for candidate in (folder, folder / "world"):
        if (candidate / "world.json").is_file():
            return candidate
    if not folder.exists() and str(path) in SHIPPED:
        return shipped_folder(str(path))
    names = f", or a shipped world: {', '.join(SHIPPED)}" if SHIPPED else ""
    raise UserError(f"{path} is not a world: it has no world.json; give the folder that training wrote{names}.")
