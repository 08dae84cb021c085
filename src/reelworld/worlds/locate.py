"""Where a world lies: a folder of its own, inside a run, or in the package under a name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from reelworld.types import UserError

__all__ = ["SHIPPED", "shipped_folder", "world_folder"]

SHIPPED = ("doorkey", "driving")
"""Names of the worlds that come with the package, the one to begin with first; see worlds/README.md."""


def shipped_folder(name: str) -> Path:
    """Return the folder of a world that comes with the package.

    Raises:
        UserError: If this installation lacks it.
    """
    folder = Path(str(resources.files("reelworld"))) / "shipped" / name
    if not (folder / "world.json").is_file():
        raise UserError(
            f"the shipped world {name!r} is missing from this installation ({folder}): reinstall reelworld."
        )
    return folder


def world_folder(path: Path | str) -> Path:
    """Find the folder that holds world.json.

    Args:
        path: That folder, a run with world/ inside, or the name of a shipped world. What exists on disk comes first.

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
