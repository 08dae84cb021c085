"""Published and home-made systems, one folder each."""

from __future__ import annotations

__all__ = ["SYSTEMS"]

SYSTEMS = {
    "genie": "reelworld.systems.genie.train",
    "ivideogpt": "reelworld.systems.ivideogpt.train",
    "pocket": "reelworld.systems.pocket.train",
    "videogpt": "reelworld.systems.videogpt.train",
}
"""Name on the command line -> module."""
