"""iVideoGPT: an action-conditioned world model for robots that predicts frames and rewards, one step at a time.

A compressive tokenizer encodes the first frames of a clip with many codes, and every later frame with few,
conditioned on the first ones. A causal transformer predicts the sequence of codes, with actions at slots between the
frames, and rewards.

Source: Wu et al. 2024, "iVideoGPT: Interactive VideoGPTs are Scalable World Models" (arXiv:2405.15223), and the code of
its authors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from reelworld.config import derive
from reelworld.data.clip_index import merged_specs
from reelworld.data.dataset import DataInfo
from reelworld.models.context_model import ContextModel
from reelworld.models.parts import take
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import WorldModel
from reelworld.nn.decoder import LlamaConfig
from reelworld.systems.ivideogpt.config import Config
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN, ContextVQGANConfig
from reelworld.systems.ivideogpt.pretrained import begin_from
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer, IVideoGPTTransformerConfig
from reelworld.types import ActionSpec, ModelSpec, UserError
from reelworld.worlds.assemble import spec_of

PARTS: dict[str, type[nn.Module]] = {"ContextVQGAN": ContextVQGAN, "IVideoGPTTransformer": IVideoGPTTransformer}
"""Type name in world.json -> class."""


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    """Compose the model from its parts."""
    return ContextModel(spec, take(parts, "tokenizer", ContextVQGAN), take(parts, "dynamics", IVideoGPTTransformer))


def build(config: Config, info: DataInfo) -> WorldModel:
    """Make the untrained model for recordings of this size."""
    torch.manual_seed(config.seed)
    shape = derive(
        ContextVQGANConfig,
        config.tokenizer,
        height=info.height,
        width=info.width,
        context_frames=config.context_frames,
        code_width=config.tokenizer.latent,
    )
    stack, actions = config.dynamics, action_specs(config, info)
    dynamics = derive(
        IVideoGPTTransformerConfig,
        stack,
        grid=shape.grids()["video"],
        context_grid=shape.grids()["context"],
        context_frames=config.context_frames,
        frames=config.clip_frames,
        actions=actions,
        transformer=LlamaConfig(
            width=stack.width,
            inner=stack.inner,
            layers=stack.layers,
            heads=stack.heads,
            places=stack.max_positions,
            dropout=stack.attn_dropout,
            initial_std=stack.initial_std,
        ),
        frame_prior_width=config.frame_prior.width,
        code_width=config.tokenizer.latent,
        has_goal=config.goal,
        has_rewards=config.rewards,
        has_ends=config.rewards,
    )
    tokenizer, transformer = ContextVQGAN(shape), IVideoGPTTransformer(dynamics)
    if config.pretrained is not None:
        begin_from(Path(config.pretrained), tokenizer, transformer)
    spec = spec_of(info, actions=actions, stride=config.frame_stride, context_frames=config.given_frames)
    sampler = SamplerConfig(temperature=config.temperature, top_k=config.top_k)
    return ContextModel(spec, tokenizer, transformer, sampler)


def action_specs(config: Config, info: DataInfo) -> dict[str, ActionSpec]:
    """Describe the actions of one step of the world."""
    if config.actions == "given" and not info.actions:
        raise UserError("the recordings have no actions; make a world that runs by itself: --actions none.")
    return merged_specs(info.actions, config.frame_stride, "stack") if config.actions == "given" else {}
