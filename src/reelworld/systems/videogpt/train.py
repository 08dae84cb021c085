"""Training of VideoGPT: the VQ-VAE on clips, then the prior on their codes.

    reelworld train videogpt --data RECORDINGS --out runs/mine --size 64 --fit crop

Expected: see docs/systems/videogpt.md, with hardware, seeds and the command of every figure, and with what differs
from the paper and from the published code. `reelworld import videogpt` reads published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from reelworld.data.dataset import DataInfo
from reelworld.data.loader import Loader
from reelworld.models.samplers import SamplerConfig
from reelworld.systems.videogpt.config import Config
from reelworld.systems.videogpt.model import build
from reelworld.train.data import TrainingData
from reelworld.train.precompute_codes import encoded_batches
from reelworld.train.stage import Stage
from reelworld.train.validation import clip_check, prior_check
from reelworld.worlds.assemble import make_world, with_data
from reelworld.worlds.world import World


def stages(config: Config, parts: dict[str, nn.Module], data: TrainingData) -> Iterator[Stage]:
    """Train the VQ-VAE on clips, then the prior on their codes."""
    data.require_length("sequence_length", stride=config.frame_stride)
    tokenizer: Any = parts["tokenizer"]
    prior: Any = parts["dynamics"]
    clips, held_out = (data.clips(split, config.sequence_length, config.frame_stride) for split in ("train", "val"))
    yield data.stage(
        "tokenizer",
        tokenizer,
        Loader(clips, config.tokenizer.batch, config.seed).batches,
        config.tokenizer,
        clip_frames=config.sequence_length,
        validate=clip_check(tokenizer, held_out),
    )
    prior.codebook.copy_(tokenizer.codebook.vectors)
    batches = encoded_batches(
        Loader(clips, config.dynamics.batch, config.seed).batches,
        tokenizer,
        context_frames=config.dynamics.cond_frames,
        n_latents=config.sequence_length // config.tokenizer.downsample[0],
        context_only_prob=config.dynamics.context_only_prob,
        seed=config.seed,
    )
    yield data.stage(
        "dynamics",
        prior,
        batches,
        config.dynamics,
        clip_frames=config.sequence_length,
        validate=prior_check(tokenizer, prior, held_out),
    )


def finish(config: Config, parts: dict[str, nn.Module], data: TrainingData) -> World:
    """Assemble the world, with clips to start from."""
    held_out = data.clips("val", config.sequence_length, config.frame_stride)
    check = prior_check(parts["tokenizer"], parts["dynamics"], held_out)()
    starts = data.clips("val", config.context_frames, config.frame_stride)
    return with_data(assemble(config, parts, data.info), data.dataset, starts, check)


def assemble(config: Config, parts: dict[str, nn.Module], info: DataInfo) -> World:
    """Give trained or untrained parts the form of a world."""
    return make_world(
        "videogpt",
        config,
        parts,
        info,
        actions={},
        stride=config.frame_stride,
        context_frames=config.context_frames,
        sampler=SamplerConfig(temperature=config.temperature),
    )


def untrained(config: Config, info: DataInfo, seed: int = 0) -> World:
    """Make a world with random weights, for tests."""
    config = replace(config, seed=seed)
    return assemble(config, build(config, info), info)
