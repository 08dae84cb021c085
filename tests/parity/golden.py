"""Where reference numbers lie: one folder per family below ``REELWORLD_GOLDEN``. What a set lacks makes no test."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["family"]

ROOT = Path(__file__).parents[2]


def family(name: str) -> Path:
    """Return the folder of a family; it may be absent."""
    return Path(os.environ.get("REELWORLD_GOLDEN", ROOT.parent / "shared" / "golden")) / name
