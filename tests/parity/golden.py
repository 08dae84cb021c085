"""Location of reference numbers: one folder per family below ``REELWORLD_GOLDEN``.

What a set lacks makes no test, and what no test knows is named when the tests have run; an absent folder skips its
tests, an empty one fails them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest
from safetensors import safe_open

__all__ = ["UNKNOWN", "entries", "family", "known", "needed"]

ROOT = Path(__file__).parents[2]
UNKNOWN: list[str] = []
"""Entries of the sets that no test knows, as FAMILY: ENTRY."""


def family(name: str) -> Path:
    """Return the folder of a family; it may be absent."""
    return Path(os.environ.get("REELWORLD_GOLDEN", ROOT.parent / "shared" / "golden")) / name


def entries(io: Path) -> list[str]:
    """Return the names in a file of inputs and expected outputs, sorted; none if there is no such file."""
    if not io.is_file():
        return []
    with safe_open(io, "pt") as file:
        return sorted(file.keys())


def needed(names: Collection[str], found: Collection[str]) -> pytest.MarkDecorator:
    """Make no test where a set lacks an entry; see conftest.py. Where there is nothing at all, the test stays."""
    return pytest.mark.lacks(*sorted(set(names) - set(found)) if found else ())


def known(folder: Path, found: Collection[str], names: Collection[str]) -> None:
    """Note which entries of a set no test knows."""
    UNKNOWN.extend(f"{folder.name}: {name}" for name in sorted(set(found) - set(names)))
