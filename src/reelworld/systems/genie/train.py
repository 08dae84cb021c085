"""Genie: a world that is played, learned from video without a single action label.

A spacetime tokenizer turns frames into codes, a latent action model finds out what was done between them, and masked
dynamics learn to predict the next frame from the past and one of these actions.

Source: Bruce et al. 2024, "Genie: Generative Interactive Environments" (arXiv:2402.15391).

    reelworld train genie --data RECORDINGS --out runs/mine --size 64 --fit crop

Expected: see docs/systems/genie.md, with what differs from the paper. `reelworld import genie-1x` reads the dynamics
that 1X published in this form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reelworld.systems.genie.config import Config
from reelworld.systems.genie.latent_stage import action_specs, labelled, latent_model, latent_stage, optim

if TYPE_CHECKING:
    from torch import nn

    from reelworld.data.dataset import DataInfo, Dataset
    from reelworld.train.run import Run
    from reelworld.train.stage import Stage
    from reelworld.worlds.world import World


def build(config: Config, info: DataInfo) -> dict[str, nn.Module]:
    """Make the untrained parts for recordings of this size."""
    import torch

    from reelworld.nn.spacetime import STConfig
    from reelworld.systems.genie.maskgit import MaskGIT, MaskGITConfig
    from reelworld.systems.genie.tokenizer import STViViT, STViViTConfig

    torch.manual_seed(config.seed)
    sides = ("encoder_width", "encoder_layers", "encoder_heads", "decoder_width", "decoder_layers", "decoder_heads")
    same = ("patch", "n_codes", "code_width", "rarity", *sides)
    tokenizer = STViViT(
        STViViTConfig(
            height=info.height,
            width=info.width,
            window=config.clip_frames,
            **{name: getattr(config, name) for name in same},
        )
    )
    grid = tokenizer.spec(1, info.height, info.width).video
    stack = STConfig(
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        rows=grid.rows,
        columns=grid.columns,
        window=config.clip_frames,
    )
    dynamics = MaskGIT(
        MaskGITConfig(
            grid=grid,
            actions=action_specs(config, info),
            transformer=stack,
            conditioning=config.conditioning,
            past=config.past,
            carries=config.carries,
        )
    )
    parts: dict[str, nn.Module] = {"tokenizer": tokenizer, "dynamics": dynamics}
    return {**parts, "latent_actions": latent_model(config, info)} if config.actions == "latent" else parts


def stages(config: Config, parts: dict[str, nn.Module], dataset: Dataset, run: Run) -> Iterator[Stage]:
    """Train the tokenizer, find latent actions, then train the dynamics on codes and actions."""
    from reelworld.data.clip_index import ClipIndex, check_lengths
    from reelworld.data.loader import Loader
    from reelworld.train.precompute_codes import encoded_batches
    from reelworld.train.stage import Stage
    from reelworld.train.validation import clip_check

    minutes = config.max_minutes
    tokenizer: Any = parts["tokenizer"]
    for split in ("train", "val"):
        check_lengths(dataset, split, config.clip_frames, 1, "clip_frames")
    yield Stage(
        name="tokenizer",
        part="tokenizer",
        module=tokenizer,
        batches=Loader(ClipIndex(dataset, "train", config.clip_frames), config.tokenizer_batch, config.seed).batches,
        steps=config.tokenizer_steps,
        optim=optim(config, lr=config.tokenizer_lr, schedule="wsd"),
        max_minutes=minutes and minutes * config.tokenizer_share,
        precision=config.precision,
        frames_per_batch=config.tokenizer_batch * config.clip_frames,
        validate=clip_check(tokenizer, ClipIndex(dataset, "val", config.clip_frames)),
    )
    if config.actions == "latent":
        yield from latent_stage(config, parts["latent_actions"], dataset)
    dataset, share = labelled(config, parts, dataset), config.tokenizer_share
    share += config.actions_share if config.actions == "latent" else 0
    loader = Loader(ClipIndex(dataset, "train", config.clip_frames), config.batch, config.seed)
    dynamics: Any = parts["dynamics"]
    yield Stage(
        name="dynamics",
        part="dynamics",
        module=dynamics,
        batches=encoded_batches(loader.batches, tokenizer),
        steps=config.steps,
        optim=optim(config, lr=config.lr, min_lr_share=config.min_lr_share),
        max_minutes=minutes and minutes * (1 - share),
        precision=config.precision,
        frames_per_batch=config.batch * config.clip_frames,
        validate=step_check(config, parts, dataset),
    )


def step_check(config: Config, parts: dict[str, nn.Module], dataset: Dataset) -> Any:
    """Prepare a check of the dynamics on validation clips."""
    from reelworld.data.clip_index import ClipIndex
    from reelworld.train.validation import coded_check

    return coded_check(parts["tokenizer"], parts["dynamics"], ClipIndex(dataset, "val", config.clip_frames))


def finish(config: Config, parts: dict[str, nn.Module], dataset: Dataset, run: Run) -> World:
    """Assemble the world, with clips to start from."""
    from reelworld.data.clip_index import ClipIndex
    from reelworld.worlds.assemble import with_data

    dataset = labelled(config, parts, dataset)
    check = step_check(config, parts, dataset)()
    starts = ClipIndex(dataset, "val", config.context_frames)
    return with_data(assemble(config, parts, dataset.info), dataset, starts, check)


def assemble(config: Config, parts: dict[str, nn.Module], info: DataInfo) -> World:
    """Give trained or untrained parts the form of a world."""
    from reelworld.models.samplers import SamplerConfig
    from reelworld.worlds.assemble import make_world

    return make_world(
        "genie",
        config,
        parts,
        info,
        actions=action_specs(config, info),
        context_frames=config.context_frames,
        sampler=SamplerConfig(steps=config.decoding_steps, temperature=config.temperature),
    )


def untrained(config: Config, info: DataInfo, seed: int = 0) -> World:
    """Make a world with random weights, for tests."""
    config = replace(config, seed=seed)
    if config.actions == "given" and not info.actions:
        config = replace(config, actions="none")
    return assemble(config, build(config, info), info)
