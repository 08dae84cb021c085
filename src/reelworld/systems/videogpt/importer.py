"""Flags of ``reelworld import videogpt``. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from reelworld.worlds.importer import Importer

if TYPE_CHECKING:
    from reelworld.worlds.world import World


@dataclass(frozen=True, kw_only=True)
class VideoGPT(Importer):
    """Flags of `reelworld import videogpt`."""

    about = (
        "videogpt reads the two models of VideoGPT (arXiv:2104.10157): the VQ-VAE that codes clips and the prior that "
        "draws codes. Files may be PyTorch Lightning checkpoints (.ckpt), or .safetensors with the hyper-parameters in "
        "a config.json beside them (its entry of the file's stem, or the whole of it). A prior's checkpoint usually "
        "holds its VQ-VAE too: then --vqvae may be left out."
    )
    examples = (
        "videogpt --prior bair_gpt.ckpt --out runs/bair/world",
        "videogpt --vqvae ucf101_stride4x4x4.ckpt --prior ucf101_uncond_gpt.ckpt --out runs/ucf101/world",
    )

    prior: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Checkpoint of the prior."""
    vqvae: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Checkpoint of the VQ-VAE; needed when the prior's file does not hold it. Both must be the same if it does."""

    def read(self) -> World:
        """Read the two models, or the one that holds both."""
        world: World = self.converter.import_world(self.vqvae, self.prior)
        return world

    def next(self, world: World) -> list[str]:
        """Suggest the next commands."""
        start = " --image PICTURE" if world.spec.context[1] else ""
        classes = " --class-id 0" if world.spec.classes else ""
        # the page has no initial frames: the world ships no clips
        play = [] if world.spec.context[1] else [f"  reelworld play {self.out}"]
        return [
            f"  reelworld generate {self.out}{start}{classes} --out clip.mp4",
            *play,
            f"  reelworld eval {self.out} --data RECORDINGS",
        ]
