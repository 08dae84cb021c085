"""Where reference numbers lie: one folder per family below ``REELWORLD_GOLDEN``. What a set lacks makes no test."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest
from safetensors import safe_open

__all__ = ["entries", "family", "needed"]

ROOT = Path(__file__).parents[2]


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
    """Skip where a set lacks an entry."""
    missing = sorted(set(names) - set(found))
    return pytest.mark.skipif(bool(missing), reason=f"the set lacks {', '.join(missing)}")
