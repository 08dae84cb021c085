"""Pocket: a small playable world from your own recordings, on a laptop CPU, in minutes.

A patch tokenizer with one FSQ code per 8x8 pixels, then causal action-conditioned dynamics on the grid of codes:
a cached trunk over clean past frames and a small head that decodes the next frame in one to four passes,
starting from a copy of the current one. One recipe for tile games and for smooth pictures.

    reelworld train pocket --data RECORDINGS --out runs/mine

Expected: see docs/systems/pocket.md, with hardware, seeds and the command of every figure. Not a published
system; the parts it borrows name their sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reelworld.systems.pocket.config import Config
from reelworld.types import UserError

if TYPE_CHECKING:
    from torch import nn

    from reelworld.data.clip_index import ClipIndex
    from reelworld.data.dataset import DataInfo, Dataset
    from reelworld.models.samplers import SamplerConfig
    from reelworld.train.run import Run
    from reelworld.train.stage import Stage
    from reelworld.types import ActionSpec
    from reelworld.worlds.world import World

PATCH = 8
LARGEST_SIDE = 256
TILE_SHARE = 0.02  # recordings with fewer distinct patches than this share count as drawn from tiles


def build(config: Config, info: DataInfo) -> dict[str, nn.Module]:
    """Make the untrained parts for recordings of this size and with these actions."""
    import torch

    from reelworld.nn.pixels import check_divisible
    from reelworld.systems.pocket.dynamics import PocketDynamics, PocketDynamicsConfig
    from reelworld.systems.pocket.tokenizer import PatchTokenizer, PatchTokenizerConfig

    check_divisible(info.height, info.width, PATCH)
    if max(info.height, info.width) > LARGEST_SIDE:
        raise UserError(
            f"frames are {info.height}x{info.width}; pocket is made for at most {LARGEST_SIDE} pixels per side: "
            "give --size 64 --fit crop (or stretch, pad)."
        )
    torch.manual_seed(config.seed)
    rows, columns, width = info.height // PATCH, info.width // PATCH, config.tokenizer_width
    tokenizer = PatchTokenizer(
        PatchTokenizerConfig(rows=rows, columns=columns, patch=PATCH, width=width, levels=config.levels)
    )
    same = ("width", "trunk_layers", "temporal_layers", "head_layers", "window", "full_mask_share", "context_noise")
    dynamics = PocketDynamics(
        PocketDynamicsConfig(
            grid=tokenizer.spec(1, info.height, info.width).video,
            actions=action_specs(config, info),
            **{name: getattr(config, name) for name in same},
        )
    )
    return {"tokenizer": tokenizer, "dynamics": dynamics}


def action_specs(config: Config, info: DataInfo) -> dict[str, ActionSpec]:
    """Describe the actions of one step of the world."""
    from reelworld.data.clip_index import merged_specs

    if config.actions == "given" and not info.actions:
        raise UserError(
            "the recording has no actions, so nothing could be steered: put an action file of the same name beside "
            "each video (docs/data.md), or make a world that runs by itself with --actions none."
        )
    return merged_specs(info.actions, config.frame_stride, config.merge) if config.actions == "given" else {}


def windows(config: Config, source: Dataset, split: str, length: int) -> ClipIndex:
    """Cut a data set or a token store into windows of kept frames."""
    from reelworld.data.clip_index import ClipIndex

    return ClipIndex(source, split, length, config.frame_stride, config.merge)


def stages(config: Config, parts: dict[str, nn.Module], dataset: Dataset, run: Run) -> Iterator[Stage]:
    """Train the tokenizer on frames, write the recording as codes, train the dynamics on those."""
    from reelworld.data.clip_index import check_lengths
    from reelworld.data.loader import Loader
    from reelworld.data.rare_events import event_weights, reward_scale
    from reelworld.systems.pocket.patch_pool import PatchPool
    from reelworld.train.precompute_codes import precompute_codes
    from reelworld.train.stage import OptimConfig, Stage
    from reelworld.train.validation import dynamics_check, tokenizer_check

    minutes = config.max_minutes
    tokenizer: Any = parts["tokenizer"]
    for split, field in (("train", "clip_frames"), ("val", "clip_frames"), ("val", "context_frames")):
        check_lengths(dataset, split, getattr(config, field), config.frame_stride, field)
    frames = Loader(windows(replace(config, frame_stride=1), dataset, "train", 1), config.tokenizer_batch, config.seed)
    pool = PatchPool.of(dataset, PATCH)
    share = config.mosaic_share if pool.distinct_fraction < TILE_SHARE else 0.0
    yield Stage(
        name="tokenizer",
        part="tokenizer",
        module=tokenizer,
        batches=lambda start: pool.mixed(frames, share, start),
        steps=config.tokenizer_steps,
        optim=OptimConfig(lr=config.tokenizer_lr),
        max_minutes=minutes and minutes * config.tokenizer_share,
        precision=config.precision,
        frames_per_batch=config.tokenizer_batch,
        validate=tokenizer_check(tokenizer, dataset),
    )
    store = precompute_codes(dataset, tokenizer, run.folder / "codes")
    clips = windows(config, store.dataset, "train", config.clip_frames)
    dynamics: Any = parts["dynamics"]
    dynamics.reward_scale.fill_(reward_scale(clips))
    loader = Loader(
        clips, config.batch, config.seed, weights=event_weights(clips), weighted_fraction=config.event_share
    )
    yield Stage(
        name="dynamics",
        part="dynamics",
        module=dynamics,
        batches=loader.batches,
        steps=config.steps,
        optim=OptimConfig(lr=config.lr),
        max_minutes=minutes and minutes * (1 - config.tokenizer_share),
        precision=config.precision,
        frames_per_batch=config.batch * (config.clip_frames - 1),
        validate=dynamics_check(dynamics, windows(config, store.dataset, "val", config.clip_frames)),
    )


def finish(config: Config, parts: dict[str, nn.Module], dataset: Dataset, run: Run) -> World:
    """Assemble the world: clips to start from, and a sampler that suits what was learned."""
    from reelworld.data.code_store import CodeStore
    from reelworld.models.samplers import suited_sampler
    from reelworld.train.validation import dynamics_check
    from reelworld.worlds.assemble import with_data

    clips = windows(config, CodeStore.open(run.folder / "codes").dataset, "val", config.clip_frames)
    check = dynamics_check(parts["dynamics"], clips)()
    world = assemble(config, parts, dataset.info, suited_sampler(check["val_exact"]))
    return with_data(world, dataset, windows(config, dataset, "val", config.context_frames), check)


def assemble(config: Config, parts: dict[str, nn.Module], info: DataInfo, sampler: SamplerConfig | None) -> World:
    """Give trained or untrained parts the form of a world."""
    from reelworld.worlds.assemble import make_world

    return make_world(
        "pocket",
        config,
        parts,
        info,
        actions=action_specs(config, info),
        stride=config.frame_stride,
        context_frames=config.context_frames,
        sampler=sampler,
    )


def untrained(config: Config, info: DataInfo, seed: int = 0) -> World:
    """Make a world with random weights, for tests."""
    config = replace(config, seed=seed, actions="given" if info.actions else "none")
    return assemble(config, build(config, info), info, None)
