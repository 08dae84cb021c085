"""VideoGPT: a 3D VQ-VAE that codes whole clips, and an autoregressive prior over their codes.

Source: Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers" (arXiv:2104.10157), and the
authors' code. The world takes no actions: it samples continuations of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from reelworld.config import derive
from reelworld.data.dataset import DataInfo
from reelworld.models.clip_model import ClipModel
from reelworld.models.parts import take
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import WorldModel
from reelworld.systems.videogpt.config import Config
from reelworld.systems.videogpt.prior import AutoregressivePrior, PriorConfig
from reelworld.systems.videogpt.vqvae import VQVAE3D, VQVAE3DConfig
from reelworld.types import ModelSpec, UserError
from reelworld.worlds.assemble import spec_of

PARTS: dict[str, type[nn.Module]] = {"VQVAE3D": VQVAE3D, "AutoregressivePrior": AutoregressivePrior}
"""Type name in world.json -> class."""


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    """Compose the model from its parts."""
    return ClipModel(spec, take(parts, "tokenizer", VQVAE3D), take(parts, "dynamics", AutoregressivePrior))


def build(config: Config, info: DataInfo) -> WorldModel:
    """Make the untrained model for recordings of this size."""
    if config.class_cond and not info.classes:
        raise UserError(
            "the recordings have no classes, so the prior cannot be told one: put each class into a folder of its own "
            "(docs/data.md), or leave out --class-cond."
        )
    torch.manual_seed(config.seed)
    size = {"height": info.height, "width": info.width}
    tokenizer = VQVAE3D(derive(VQVAE3DConfig, config.tokenizer, clip_frames=config.sequence_length, **size))
    prior = AutoregressivePrior(
        derive(
            PriorConfig,
            config.dynamics,
            grid=tokenizer.spec(config.sequence_length, info.height, info.width).video,
            latent_frames=config.sequence_length // config.tokenizer.downsample[0],
            embedding_dim=config.tokenizer.embedding_dim,
            cond_height=info.height,
            cond_width=info.width,
            n_classes=len(info.classes) if config.class_cond else 0,
        )
    )
    prior.codebook.copy_(tokenizer.codebook.vectors)
    classes = info.classes if config.class_cond else ()
    spec = spec_of(info, actions={}, stride=config.frame_stride, context_frames=config.context_frames, classes=classes)
    return ClipModel(spec, tokenizer, prior, SamplerConfig(temperature=config.temperature))
