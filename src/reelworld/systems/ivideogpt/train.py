"""iVideoGPT: a world for robots that takes actions and gives frames and rewards, one step at a time.

A compressive tokenizer codes the first frames of a clip richly and every later one as a change of them; a transformer
learns the row of codes, told of the actions at slots between the frames, and reads rewards off it.

Source: Wu et al. 2024, "iVideoGPT: Interactive VideoGPTs are Scalable World Models" (arXiv:2405.15223), and the code of
its authors.

    reelworld train ivideogpt --data RECORDINGS --out runs/mine --size 64 --fit stretch --rewards

Expected: see docs/systems/ivideogpt.md, with what differs from the paper and from the published code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelworld.systems.ivideogpt.config import Config
from reelworld.systems.ivideogpt.pretrained import begin_from
from reelworld.systems.ivideogpt.train_dynamics import dynamics_stages
from reelworld.systems.ivideogpt.train_tokenizer import tokenizer_stage
from reelworld.types import UserError

if TYPE_CHECKING:
    from torch import nn

    from reelworld.data.clip_index import ClipIndex
    from reelworld.data.dataset import DataInfo, Dataset
    from reelworld.train.run import Run
    from reelworld.train.stage import Stage
    from reelworld.types import ActionSpec
    from reelworld.worlds.world import World


def action_specs(config: Config, info: DataInfo) -> dict[str, ActionSpec]:
    """Describe the actions of one step of the world."""
    from reelworld.data.clip_index import merged_specs

    if config.actions == "given" and not info.actions:
        raise UserError("the recordings have no actions; make a world that runs by itself: --actions none.")
    return merged_specs(info.actions, config.frame_stride, "stack") if config.actions == "given" else {}


def build(config: Config, info: DataInfo) -> dict[str, nn.Module]:
    """Make the untrained parts for recordings of this size."""
    import torch

    from reelworld.nn.llama import LlamaConfig
    from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN, ContextVQGANConfig
    from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer, IVideoGPTTransformerConfig

    torch.manual_seed(config.seed)
    same = "context_frames channels latent groups context_codes frame_codes patch largest_attention"
    same += " renewed_below codebook_decay commitment coded_alone"
    shape = ContextVQGANConfig(
        height=info.height,
        width=info.width,
        layers=config.block_layers,
        code_width=config.latent,
        dropout=config.tokenizer_dropout,
        **{name: getattr(config, name) for name in same.split()},
    )
    widths = {name: getattr(config, name) for name in ("width", "inner", "layers", "heads", "initial_std", "places")}
    dynamics = IVideoGPTTransformerConfig(
        grid=shape.grids()["video"],
        context_grid=shape.grids()["context"],
        context_frames=config.context_frames,
        frames=config.clip_frames,
        actions=action_specs(config, info),
        transformer=LlamaConfig(dropout=config.attn_dropout, **widths),
        knows_cells=config.knows_cells,
        draft_width=config.draft_width,
        code_width=config.latent,
        has_goal=config.goal,
        has_rewards=config.rewards,
        has_ends=config.rewards,
        recall_weight=config.recall_weight,
    )
    parts = {"tokenizer": ContextVQGAN(shape), "dynamics": IVideoGPTTransformer(dynamics)}
    if config.pretrained is not None:
        begin_from(Path(config.pretrained), parts)
    return parts


def windows(config: Config, dataset: Dataset, split: str) -> ClipIndex:
    """Cut recordings into clips of kept frames."""
    from reelworld.data.clip_index import ClipIndex

    return ClipIndex(dataset, split, config.clip_frames, config.frame_stride, goal_first=config.goal)


def stages(config: Config, parts: dict[str, nn.Module], dataset: Dataset, run: Run) -> Iterator[Stage]:
    """Train the tokenizer on clips, then the transformer on their codes, with actions and rewards."""
    from reelworld.data.clip_index import check_lengths

    for split in ("train", "val"):
        check_lengths(dataset, split, config.clip_frames, config.frame_stride, "clip_frames")
    clips, held_out = windows(config, dataset, "train"), windows(config, dataset, "val")
    if config.rewards and "rewards" not in clips[0]:
        raise UserError(f"{dataset.path} has no rewards to learn from; leave out --rewards.")
    tokenizer: Any = parts["tokenizer"]
    dynamics: Any = parts["dynamics"]
    yield tokenizer_stage(config, tokenizer, clips, held_out)
    yield from dynamics_stages(config, tokenizer, dynamics, clips, held_out)


def finish(config: Config, parts: dict[str, nn.Module], dataset: Dataset, run: Run) -> World:
    """Assemble the world, with clips to start from."""
    from reelworld.data.clip_index import ClipIndex
    from reelworld.train.validation import coded_check
    from reelworld.worlds.assemble import with_data
    from reelworld.worlds.continuation import context_of

    held_out = windows(config, dataset, "val")
    check = coded_check(parts["tokenizer"], parts["dynamics"], held_out)()
    starts = held_out if config.goal else ClipIndex(dataset, "val", config.given_frames, config.frame_stride)
    world = with_data(assemble(config, parts, dataset.info), dataset, starts, check)
    world.starts = [context_of(clip, world.info.context_frames) for clip in world.starts]  # not what leads to a goal
    return world


def assemble(config: Config, parts: dict[str, nn.Module], info: DataInfo) -> World:
    """Give trained or untrained parts the form of a world."""
    from reelworld.models.samplers import SamplerConfig
    from reelworld.worlds.assemble import make_world

    return make_world(
        "ivideogpt",
        config,
        parts,
        info,
        actions=action_specs(config, info),
        stride=config.frame_stride,
        context_frames=config.given_frames,
        sampler=SamplerConfig(temperature=config.temperature, top_k=config.top_k),
    )


def untrained(config: Config, info: DataInfo, seed: int = 0) -> World:
    """Make a world with random weights, for tests."""
    config = replace(config, seed=seed, actions=config.actions if info.actions else "none")
    return assemble(config, build(config, info), info)
