"""VideoGPT's model: a 3D VQ-VAE and an autoregressive prior over the codes of whole clips."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from reelworld.models.clip_model import ClipModel
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.systems.videogpt.prior import AutoregressivePrior
from reelworld.systems.videogpt.vqvae import VQVAE3D
from reelworld.types import ModelSpec

PARTS: dict[str, type[nn.Module]] = {"VQVAE3D": VQVAE3D, "AutoregressivePrior": AutoregressivePrior}


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    """Compose the model from its parts."""
    return ClipModel(spec, take(parts, "tokenizer", VQVAE3D), take(parts, "dynamics", AutoregressivePrior))
