"""VideoGPT: a 3D VQ-VAE turns whole clips into codes, an autoregressive transformer learns how likely they are.

Source: Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers" (arXiv:2104.10157), and the
authors' code. The world takes no actions: it continues a clip by itself, each time in another way.

    reelworld train videogpt --data RECORDINGS --out runs/mine --size 64 --fit crop

Expected: see docs/systems/videogpt.md, with hardware, seeds and the command of every figure, and with what differs
from the paper and from the published code. `reelworld import videogpt` reads published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reelworld.systems.videogpt.config import Config
from reelworld.types import UserError

if TYPE_CHECKING:
    from torch import nn

    from reelworld.data.clip_index import ClipIndex
    from reelworld.data.dataset import DataInfo, Dataset
    from reelworld.train.run import Run
    from reelworld.train.stage import OptimConfig, Stage
    from reelworld.worlds.world import World


def build(config: Config, info: DataInfo) -> dict[str, nn.Module]:
    """Make the untrained parts for recordings of this size."""
    import torch

    from reelworld.systems.videogpt.prior import AutoregressivePrior, PriorConfig
    from reelworld.systems.videogpt.vqvae import VQVAE3D, VQVAE3DConfig

    if config.class_cond and not info.classes:
        raise UserError(
            "the recordings have no classes, so the prior cannot be told one: put each class into a folder of its own "
            "(docs/data.md), or leave out --class-cond."
        )
    torch.manual_seed(config.seed)
    same: tuple[str, ...] = ("downsample", "n_codes", "embedding_dim", "n_hiddens", "n_res_layers")
    tokenizer = VQVAE3D(
        VQVAE3DConfig(
            clip_frames=config.sequence_length,
            height=info.height,
            width=info.width,
            **{name: getattr(config, name) for name in same},
        )
    )
    same = ("embedding_dim", "hidden_dim", "heads", "layers", "dropout", "attn_dropout", "attention", "cond_frames")
    prior = AutoregressivePrior(
        PriorConfig(
            grid=tokenizer.spec(config.sequence_length, info.height, info.width).video,
            latent_frames=config.sequence_length // config.downsample[0],
            cond_height=info.height,
            cond_width=info.width,
            resnet_width=config.resnet_width,
            resnet_dim=config.resnet_dim,
            n_classes=len(info.classes) if config.class_cond else 0,
            **{name: getattr(config, name) for name in same},
        )
    )
    prior.codebook.copy_(tokenizer.codebook.vectors)
    return {"tokenizer": tokenizer, "dynamics": prior}


def windows(config: Config, dataset: Dataset, split: str) -> ClipIndex:
    """Cut recordings into clips of kept frames."""
    from reelworld.data.clip_index import ClipIndex

    return ClipIndex(dataset, split, config.sequence_length, config.frame_stride)


def optim(config: Config, **wanted: Any) -> OptimConfig:
    """Adam as published: no weight decay."""
    from reelworld.train.stage import OptimConfig

    return OptimConfig(beta2=config.beta2, weight_decay=0.0, warmup_steps=config.warmup_steps, **wanted)


def stages(config: Config, parts: dict[str, nn.Module], dataset: Dataset, run: Run) -> Iterator[Stage]:
    """Train the VQ-VAE on clips, then the prior on their codes."""
    from reelworld.data.clip_index import check_lengths
    from reelworld.data.loader import Loader
    from reelworld.train.precompute_codes import encoded_batches
    from reelworld.train.stage import Stage
    from reelworld.train.validation import clip_check, prior_check

    minutes = config.max_minutes
    for split in ("train", "val"):
        check_lengths(dataset, split, config.sequence_length, config.frame_stride, "sequence_length")
    clips, held_out = windows(config, dataset, "train"), windows(config, dataset, "val")
    tokenizer: Any = parts["tokenizer"]
    yield Stage(
        name="tokenizer",
        part="tokenizer",
        module=tokenizer,
        batches=Loader(clips, config.tokenizer_batch, config.seed).batches,
        steps=config.tokenizer_steps,
        optim=optim(config, lr=config.tokenizer_lr, schedule=config.tokenizer_schedule, clip=0.0),
        max_minutes=minutes and minutes * config.tokenizer_share,
        precision=config.precision,
        frames_per_batch=config.tokenizer_batch * config.sequence_length,
        validate=clip_check(tokenizer, held_out),
    )
    prior: Any = parts["dynamics"]
    prior.codebook.copy_(tokenizer.codebook.vectors)
    loader = Loader(clips, config.batch, config.seed)
    yield Stage(
        name="dynamics",
        part="dynamics",
        module=prior,
        batches=encoded_batches(
            loader.batches,
            tokenizer,
            context_frames=config.cond_frames,
            n_latents=config.sequence_length // config.downsample[0],
            alone_prob=config.alone_share,
            seed=config.seed,
        ),
        steps=config.steps,
        optim=optim(config, lr=config.lr, clip=config.clip, accumulate=config.accumulate),
        max_minutes=minutes and minutes * (1 - config.tokenizer_share),
        precision=config.precision,
        frames_per_batch=config.batch * config.sequence_length,
        validate=prior_check(tokenizer, prior, held_out),
    )


def finish(config: Config, parts: dict[str, nn.Module], dataset: Dataset, run: Run) -> World:
    """Assemble the world, with clips to start from."""
    from reelworld.data.clip_index import ClipIndex
    from reelworld.train.validation import prior_check
    from reelworld.worlds.assemble import with_data

    check = prior_check(parts["tokenizer"], parts["dynamics"], windows(config, dataset, "val"))()
    starts = ClipIndex(dataset, "val", config.context_frames, config.frame_stride)
    return with_data(assemble(config, parts, dataset.info), dataset, starts, check)


def assemble(config: Config, parts: dict[str, nn.Module], info: DataInfo) -> World:
    """Give trained or untrained parts the form of a world."""
    from reelworld.models.samplers import SamplerConfig
    from reelworld.worlds.assemble import make_world

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
