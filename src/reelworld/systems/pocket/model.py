"""Pocket's model: a patch tokenizer and convolutional masked dynamics, one frame per call."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from reelworld.models.frame_model import FrameModel
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.systems.pocket.dynamics import PocketDynamics
from reelworld.systems.pocket.tokenizer import PatchTokenizer
from reelworld.types import ModelSpec

PARTS: dict[str, type[nn.Module]] = {"PatchTokenizer": PatchTokenizer, "PocketDynamics": PocketDynamics}


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    """Compose the model from its parts."""
    return FrameModel(spec, take(parts, "tokenizer", PatchTokenizer), take(parts, "dynamics", PocketDynamics))
