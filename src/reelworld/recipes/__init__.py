"""Recipes: short files that compose the parts into a published or a home-made system."""

from __future__ import annotations

__all__ = ["RECIPES"]

RECIPES = {
    "genie": "reelworld.recipes.genie",
    "ivideogpt": "reelworld.recipes.ivideogpt",
    "pocket": "reelworld.recipes.pocket",
    "videogpt": "reelworld.recipes.videogpt",
}
"""Name on the command line -> module."""
