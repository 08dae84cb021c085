"""Pocket: a small playable world from your own recordings, on a laptop CPU, in minutes.

A patch tokenizer with one FSQ code per 8x8 pixels, then causal action-conditioned dynamics on the grid of codes:
a cached trunk over clean past frames and a small head that decodes the next frame in one to four passes,
starting from a copy of the current one. One recipe for tile games and for smooth pictures.

    reelworld train pocket --data RECORDINGS --out runs/mine

Expected: see docs/recipes/pocket.md, with hardware, seeds and the command of every figure. Not a published
system; the parts it borrows name their sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from reelworld.config import require
from reelworld.types import UserError

if TYPE_CHECKING:
    from torch import nn

    from reelworld.data.dataset import DataInfo, DataSet
    from reelworld.data.windows import Source, Windows
    from reelworld.generate.samplers import SamplerConfig
    from reelworld.train.run import Run
    from reelworld.train.stage import Stage
    from reelworld.types import ActionSpec
    from reelworld.worlds.world import World

__all__ = ["DEFAULT_SIZE", "SIZES", "Config", "build", "finish", "medium", "small", "stages", "tiny", "untrained"]

PATCH = 8
LARGEST_SIDE = 256
LARGEST_CODEBOOK = 1 << 16
TILE_SHARE = 0.02  # recordings with fewer distinct patches than this share count as drawn from tiles


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a pocket world."""

    seed: int = 0
    """Decides every random draw."""
    size: int | None = None
    """Pixels per side that frames are resized to; none keeps the recording's size."""
    fit: Literal["none", "crop", "stretch", "pad"] = "none"
    """How frames of another shape become square: crop the centre, stretch, or pad with black."""
    actions: Literal["given", "none"] = "given"
    """Learn from the recording's actions, or make a world that runs by itself."""
    frame_stride: int = 1
    """Keep every k-th frame; the k actions between two kept frames stay together."""
    merge: Literal["stack", "last", "sum"] = "stack"
    """What becomes of those k actions: all are given to the model, the last one, or their sum."""
    max_minutes: float | None = None
    """Wall-clock budget of the whole training; schedules anneal to it."""
    tokenizer_share: float = 0.2
    """Share of max_minutes that the tokenizer gets."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 autocast, fp32, or whichever a short timing finds faster on this machine."""

    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Levels per digit of a code; their product is the codebook size."""
    tokenizer_width: int = 128
    """Width of the tokenizer."""
    tokenizer_steps: int = 1000
    """Optimizer steps of the tokenizer."""
    tokenizer_batch: int = 16
    """Frames per step."""
    tokenizer_lr: float = 4e-3
    """Highest learning rate of the tokenizer."""
    mosaic_share: float = 0.5
    """Share of a batch that is put together from distinct patches, when the game is drawn from tiles."""

    width: int = 64
    """Width of the dynamics."""
    trunk_layers: int = 4
    """Grid blocks that read the past."""
    temporal_layers: int = 2
    """How many of them are followed by temporal attention."""
    head_layers: int = 2
    """Grid blocks that run once per decoding pass."""
    window: int = 8
    """Frames that temporal attention reaches back to."""
    clip_frames: int = 9
    """Frames of a training clip; all but the first are predicted."""
    batch: int = 8
    """Clips per step."""
    steps: int = 3000
    """Optimizer steps of the dynamics."""
    lr: float = 2e-3
    """Highest learning rate of the dynamics."""
    event_share: float = 0.3
    """Share of clips drawn because something rare happens in them."""
    full_mask_share: float = 0.5
    """Share of frames predicted from nothing but the past; the others see some of their codes."""
    context_noise: float = 0.0
    """Greatest share of a clip's past codes that training replaces."""
    context_frames: int = 4
    """Frames a session begins with."""

    def __post_init__(self) -> None:
        # Here and not where the values are used: a mistake shall not cost the minutes of the stage before.
        counts = "frame_stride tokenizer_width tokenizer_steps tokenizer_batch trunk_layers steps batch window"
        require(self, f"{counts} context_frames", lambda v: v >= 1, "at least 1")
        require(self, "seed head_layers", lambda v: v >= 0, "at least 0")
        require(self, "temporal_layers", lambda v: 0 <= v <= self.trunk_layers, "from 0 to trunk_layers")
        shares = "mosaic_share event_share full_mask_share context_noise"
        require(self, shares, lambda v: 0 <= v <= 1, "from 0 to 1")
        require(self, "tokenizer_share", lambda v: 0 < v < 1, "between 0 and 1")
        require(self, "max_minutes tokenizer_lr lr", lambda v: v is None or 0 < v < math.inf, "above 0")
        require(self, "levels", lambda v: v and min(v) >= 2, "one or more numbers of at least 2")
        small_enough = f"numbers with a product of at most {LARGEST_CODEBOOK:,} codes"
        require(self, "levels", lambda v: math.prod(v) <= LARGEST_CODEBOOK, small_enough)
        require(self, "clip_frames", lambda v: v >= 2, "at least 2, to predict one frame")
        require(self, "width", lambda v: v > 0 and v % 4 == 0, "a multiple of 4 (attention heads)")


def tiny() -> Config:
    """For tests: seconds of training, no quality."""
    quick = Config(tokenizer_width=32, tokenizer_steps=20, tokenizer_batch=4, width=32, steps=20, batch=4)
    return replace(quick, trunk_layers=2, temporal_layers=1, head_layers=1, window=3, clip_frames=4, context_frames=2)


def small() -> Config:
    """The default: a tile game or a first smooth world in about six CPU-minutes."""
    return Config()


def medium() -> Config:
    """Wider dynamics, for an hour of training and more; in four CPU-minutes small is still ahead."""
    return Config(width=128, steps=12_000, tokenizer_steps=4000)


SIZES = {"tiny": tiny, "small": small, "medium": medium}
DEFAULT_SIZE = "small"


def build(config: Config, info: DataInfo) -> dict[str, nn.Module]:
    """Make the untrained parts for recordings of this size and with these actions."""
    import torch

    from reelworld.dynamics.grid import GridDynamics, GridDynamicsConfig
    from reelworld.nn.pixels import check_divisible
    from reelworld.tokenizers.patch import PatchTokenizer, PatchTokenizerConfig

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
    dynamics = GridDynamics(
        GridDynamicsConfig(
            grid=tokenizer.spec(1, info.height, info.width).video,
            actions=action_specs(config, info),
            **{name: getattr(config, name) for name in same},
        )
    )
    return {"tokenizer": tokenizer, "dynamics": dynamics}


def action_specs(config: Config, info: DataInfo) -> dict[str, ActionSpec]:
    """Describe the actions of one step of the world."""
    from reelworld.data.windows import merged_specs

    if config.actions == "given" and not info.actions:
        raise UserError(
            "the recording has no actions, so nothing could be steered: put an action file of the same name beside "
            "each video (docs/data.md), or make a world that runs by itself with --actions none."
        )
    return merged_specs(info.actions, config.frame_stride, config.merge) if config.actions == "given" else {}


def windows(config: Config, source: Source, split: str, length: int) -> Windows:
    """Cut a data set or a token store into windows of kept frames."""
    from reelworld.data.windows import Windows

    return Windows(source, split, length, config.frame_stride, config.merge)


def stages(config: Config, parts: dict[str, nn.Module], dataset: DataSet, run: Run) -> Iterator[Stage]:
    """Train the tokenizer on frames, write the recording as codes, train the dynamics on those."""
    from reelworld.data.events import event_weights, reward_scale
    from reelworld.data.loader import Loader
    from reelworld.data.patches import PatchPool
    from reelworld.data.windows import check_lengths
    from reelworld.evaluate.checks import dynamics_check, tokenizer_check
    from reelworld.train.stage import OptimConfig, Stage
    from reelworld.train.tokenize import tokenize

    minutes = config.max_minutes
    tokenizer: Any = parts["tokenizer"]
    for split, field in (("train", "clip_frames"), ("val", "clip_frames"), ("val", "context_frames")):
        check_lengths(dataset, split, getattr(config, field), config.frame_stride, field)
    frames = Loader(windows(replace(config, frame_stride=1), dataset, "train", 1), config.tokenizer_batch, config.seed)
    pool = PatchPool.of(dataset, PATCH)
    share = config.mosaic_share if pool.distinct_share < TILE_SHARE else 0.0
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
    store = tokenize(dataset, tokenizer, run.folder / "codes")
    clips = windows(config, store, "train", config.clip_frames)
    dynamics: Any = parts["dynamics"]
    dynamics.reward_scale.fill_(reward_scale(clips))
    loader = Loader(clips, config.batch, config.seed, weights=event_weights(clips), weighted_share=config.event_share)
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
        validate=dynamics_check(dynamics, windows(config, store, "val", config.clip_frames)),
    )


def finish(config: Config, parts: dict[str, nn.Module], dataset: DataSet, run: Run) -> World:
    """Assemble the world: clips to start from, and a sampler that suits what was learned."""
    from reelworld.data.store import TokenStore
    from reelworld.evaluate.checks import dynamics_check
    from reelworld.generate.samplers import suited_sampler
    from reelworld.worlds.making import with_data

    clips = windows(config, TokenStore.open(run.folder / "codes"), "val", config.clip_frames)
    check = dynamics_check(parts["dynamics"], clips)()
    world = assemble(config, parts, dataset.info, suited_sampler(check["val_exact"]))
    return with_data(world, dataset, windows(config, dataset, "val", config.context_frames), check)


def assemble(config: Config, parts: dict[str, nn.Module], info: DataInfo, sampler: SamplerConfig | None) -> World:
    """Give trained or untrained parts the form of a world."""
    from reelworld.worlds.making import make_world

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
