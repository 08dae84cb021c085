"""Reelworld turns recordings into worlds: learn a world from video, play it, measure it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Dataset", "World", "__version__"]

if TYPE_CHECKING:
    from reelworld.data.dataset import Dataset
    from reelworld.worlds.world import World


def __getattr__(name: str) -> Any:
    """Import the heavy names on first use, so that the command line starts without torch."""
    if name == "World":
        from reelworld.worlds.world import World

        return World
    if name == "Dataset":
        from reelworld.data.dataset import Dataset

        return Dataset
    raise AttributeError(f"module 'reelworld' has no attribute {name!r}")
