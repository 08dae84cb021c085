"""The toy parts as the module ``model`` of a system outside reelworld."""

from __future__ import annotations

from collections.abc import Mapping

from tests.rollout.toy import ToyPrior, ToyTokenizer
from torch import nn

from reelworld.models.clip_model import ClipModel
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.types import ModelSpec

PARTS: dict[str, type[nn.Module]] = {"ToyTokenizer": ToyTokenizer, "ToyPrior": ToyPrior}


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    return ClipModel(spec, take(parts, "tokenizer", ToyTokenizer), take(parts, "dynamics", ToyPrior))
