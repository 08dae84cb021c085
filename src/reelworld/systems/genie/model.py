"""Genie: a playable world model, learned from video without action labels.

A spacetime tokenizer encodes frames into codes. A latent action model infers a discrete action between consecutive
frames. Masked dynamics predict the next frame from the past and one of these actions.

Source: Bruce et al. 2024, "Genie: Generative Interactive Environments" (arXiv:2402.15391).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from reelworld.config import derive
from reelworld.data.dataset import DataInfo
from reelworld.models.action_mapping import STREAM
from reelworld.models.frame_model import FrameModel
from reelworld.models.parts import ActionInference, Tokenizer, take
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import WorldModel
from reelworld.systems.genie.config import Config
from reelworld.systems.genie.conv_latent_action import GridLatentActions, GridLatentConfig
from reelworld.systems.genie.latent_action import LatentActionModel
from reelworld.systems.genie.maskgit import MaskGIT, MaskGITConfig
from reelworld.systems.genie.missing_tokenizer import MissingTokenizer
from reelworld.systems.genie.spacetime import STConfig
from reelworld.systems.genie.spacetime_latent_action import STLatentActions, STLatentConfig
from reelworld.systems.genie.tokenizer import STViViT, STViViTConfig
from reelworld.train.pseudo_label import latent_spec
from reelworld.types import ActionSpec, ModelSpec, UserError
from reelworld.worlds.assemble import spec_of

PARTS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (STViViT, MissingTokenizer, STLatentActions, GridLatentActions, MaskGIT)
}
"""Type name in world.json -> class."""


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    """Compose the model from its parts."""
    # mypy wants a class that can be instantiated; `take` only compares with it
    latent_actions = take(parts, "latent_actions", ActionInference) if "latent_actions" in parts else None  # type: ignore[type-abstract]
    tokenizer = take(parts, "tokenizer", Tokenizer)  # type: ignore[type-abstract]
    return FrameModel(spec, tokenizer, take(parts, "dynamics", MaskGIT), latent_actions)


def build(config: Config, info: DataInfo) -> WorldModel:
    """Make the untrained model for recordings of this size."""
    torch.manual_seed(config.seed)
    tokenizer = STViViT(
        derive(STViViTConfig, config.tokenizer, height=info.height, width=info.width, window=config.clip_frames)
    )
    grid = tokenizer.spec(1, info.height, info.width).video
    stack = STConfig(
        width=config.dynamics.width,
        layers=config.dynamics.layers,
        heads=config.dynamics.heads,
        rows=grid.rows,
        columns=grid.columns,
        window=config.clip_frames,
    )
    actions = action_specs(config, info)
    dynamics = MaskGIT(derive(MaskGITConfig, config.dynamics, grid=grid, actions=actions, transformer=stack))
    latent_actions = latent_model(config, info) if config.actions == "latent" else None
    sampler = SamplerConfig(steps=config.decoding_steps, temperature=config.temperature)
    spec = spec_of(info, actions=actions, context_frames=config.context_frames)
    return FrameModel(spec, tokenizer, dynamics, latent_actions, sampler)


def action_specs(config: Config, info: DataInfo) -> dict[str, ActionSpec]:
    """Describe the actions of one step of the world."""
    if config.actions == "latent":
        return {STREAM: latent_spec(config.latent_actions.n_codes)}
    if config.actions == "given" and not info.actions:
        raise UserError(
            "the recording has no actions: leave out --actions given, and the world finds actions in the video."
        )
    return dict(info.actions) if config.actions == "given" else {}


def latent_model(config: Config, info: DataInfo) -> LatentActionModel:
    """Make the untrained latent action model."""
    options, size = config.latent_actions, {"height": info.height, "width": info.width}
    if options.network == "conv":
        return GridLatentActions(derive(GridLatentConfig, options, **size))
    return STLatentActions(derive(STLatentConfig, options, window=options.clip_frames, heads=options.heads, **size))
