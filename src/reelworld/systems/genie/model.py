"""Genie's model: spacetime tokenizer, latent action model and MaskGIT dynamics, one frame per call."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from reelworld.models.frame_model import FrameModel
from reelworld.models.parts import ActionInference, Tokenizer, take
from reelworld.models.world_model import WorldModel
from reelworld.systems.genie.conv_latent_action import GridLatentActions
from reelworld.systems.genie.maskgit import MaskGIT
from reelworld.systems.genie.missing_tokenizer import MissingTokenizer
from reelworld.systems.genie.spacetime_latent_action import STLatentActions
from reelworld.systems.genie.tokenizer import STViViT
from reelworld.types import ModelSpec

PARTS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (STViViT, MissingTokenizer, STLatentActions, GridLatentActions, MaskGIT)
}


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    """Compose the model from its parts."""
    latent_actions = take(parts, "latent_actions", ActionInference) if "latent_actions" in parts else None
    return FrameModel(spec, take(parts, "tokenizer", Tokenizer), take(parts, "dynamics", MaskGIT), latent_actions)
