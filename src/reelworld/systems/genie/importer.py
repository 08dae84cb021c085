"""Flags of ``reelworld import genie-1x``. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from reelworld.worlds.importer import Importer

if TYPE_CHECKING:
    from reelworld.worlds.world import World


@dataclass(frozen=True, kw_only=True)
class Genie1X(Importer):
    """Flags of `reelworld import genie-1x`."""

    about = (
        "genie-1x reads the dynamics of 1xgpt (GENIE_35M, GENIE_138M): a folder with config.json and "
        "model.safetensors, state_dict.safetensors or pytorch_model.bin. Their tokenizer, MAGVIT2, is not in it, so "
        "that the world has no pictures: it continues and scores codes, from Python."
    )
    examples = ("genie-1x downloads/GENIE_138M --out runs/genie/world",)

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder with config.json and model.safetensors, state_dict.safetensors or pytorch_model.bin."""

    def read(self) -> World:
        """Read the folder."""
        world: World = self.converter.import_world(self.checkpoint)
        return world

    def next(self, world: World) -> list[str]:
        """Suggest the Python API: the commands need pixels."""
        return [
            f"  from reelworld.worlds.world import World; world = World.load({str(self.out)!r})",
            "  world.generate_codes(codes, n_frames=8)   # codes: (clips, frames, codes of a frame in raster order)",
            "  world.score_codes(codes[0])",
        ]
