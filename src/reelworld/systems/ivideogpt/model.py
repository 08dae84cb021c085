"""iVideoGPT's model: a VQGAN with a context grid and a transformer over the tokens of a window."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from reelworld.models.context_model import ContextModel
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
from reelworld.types import ModelSpec

PARTS: dict[str, type[nn.Module]] = {"ContextVQGAN": ContextVQGAN, "IVideoGPTTransformer": IVideoGPTTransformer}


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    """Compose the model from its parts."""
    return ContextModel(spec, take(parts, "tokenizer", ContextVQGAN), take(parts, "dynamics", IVideoGPTTransformer))
