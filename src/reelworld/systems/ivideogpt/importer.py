"""Flags of ``reelworld import ivideogpt``. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from reelworld.types import UserError
from reelworld.worlds.importer import Importer

if TYPE_CHECKING:
    from reelworld.worlds.world import World


@dataclass(frozen=True, kw_only=True)
class IVideoGPT(Importer):
    """Flags of `reelworld import ivideogpt`."""

    about = (
        "ivideogpt reads the two models of iVideoGPT (arXiv:2405.15223): the tokenizer (a folder with config.json and "
        "diffusion_pytorch_model.safetensors) and the transformer (config.json and model.safetensors), with or without "
        "actions. A transformer that was trained without actions gets a new head for them with --action-dim."
    )
    examples = ("ivideogpt --tokenizer bair/tokenizer --transformer bair/transformer --out worlds/bair",)

    tokenizer: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder with the tokenizer's config.json and diffusion_pytorch_model.safetensors."""
    transformer: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder with the transformer's config.json and model.safetensors."""
    action_dim: int = 0
    """Numbers of an action; a transformer without actions gets a new head for them. 0 takes those it has."""
    frames: int = 0
    """Frames of a window, context included; 0 takes 16 (17 with a goal), or as many as there are positions for."""
    context: int = 0
    """Context frames; 0 takes those that the tokenizer was trained with."""
    goal: bool = False
    """The first context frame was a goal; the files do not say so."""

    def read(self) -> World:
        """Read the two folders."""
        if min(self.action_dim, self.frames, self.context) < 0:
            raise UserError("--action-dim, --frames and --context are counts; give 0 or more.")
        world: World = self.converter.import_world(
            self.tokenizer, self.transformer, self.action_dim, self.frames, self.context, self.goal
        )
        return world

    def next(self, world: World) -> list[str]:
        """Suggest the next commands."""
        if self.goal:
            return [f"  reelworld generate {self.out} --image PICTURE --goal PICTURE --out clip.mp4"]
        return [
            f"  reelworld generate {self.out} --image PICTURE --out clip.mp4",
            f"  reelworld play {self.out} --data RECORDINGS",
            f"  reelworld eval {self.out} --data RECORDINGS",
        ]
