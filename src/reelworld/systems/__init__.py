"""Published and own systems, one package each. A new system needs its package and a line in the table."""

from __future__ import annotations

import importlib

from reelworld.config import unknown
from reelworld.models.system import System

SYSTEMS = {
    "pocket": "reelworld.systems.pocket",
    "videogpt": "reelworld.systems.videogpt",
    "genie": "reelworld.systems.genie",
    "ivideogpt": "reelworld.systems.ivideogpt",
}
"""Name on the command line -> package with ``SYSTEM``; examples use the first one."""


def find_system(name: str) -> System:
    """Import the record of a system.

    Raises:
        UserError: If there is none of this name; names the closest.
    """
    if name not in SYSTEMS:
        raise unknown("system", name, SYSTEMS)
    system: System = importlib.import_module(SYSTEMS[name]).SYSTEM
    return system


def all_systems() -> list[System]:
    """Import all records, in the order of the table."""
    return [find_system(name) for name in SYSTEMS]
