"""Pocket: a patch tokenizer with one FSQ code per 8x8 pixels and causal dynamics on the grid of codes.

The dynamics are a cached trunk over clean past frames and a small head that decodes the next frame in one to four
passes, starting from a copy of the current one. It suits both tile games and smooth images.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from reelworld.config import derive
from reelworld.data.clip_index import merged_specs
from reelworld.data.dataset import DataInfo
from reelworld.models.frame_model import FrameModel
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.nn.pixels import check_divisible
from reelworld.systems.pocket.config import Config
from reelworld.systems.pocket.dynamics import PocketDynamics, PocketDynamicsConfig
from reelworld.systems.pocket.tokenizer import PatchTokenizer, PatchTokenizerConfig
from reelworld.types import ActionSpec, ModelSpec, UserError
from reelworld.worlds.assemble import spec_of

PATCH = 8
LARGEST_SIDE = 256

PARTS: dict[str, type[nn.Module]] = {"PatchTokenizer": PatchTokenizer, "PocketDynamics": PocketDynamics}
"""Type name in world.json -> class."""


def assemble(spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
    """Compose the model from its parts."""
    return FrameModel(spec, take(parts, "tokenizer", PatchTokenizer), take(parts, "dynamics", PocketDynamics))


def build(config: Config, info: DataInfo) -> WorldModel:
    """Make the untrained model for recordings of this size and with these actions."""
    check_divisible(info.height, info.width, PATCH)
    if max(info.height, info.width) > LARGEST_SIDE:
        raise UserError(
            f"frames are {info.height}x{info.width}; pocket is made for at most {LARGEST_SIDE} pixels per side: "
            "give --size 64 --fit crop (or stretch, pad)."
        )
    torch.manual_seed(config.seed)
    rows, columns = info.height // PATCH, info.width // PATCH
    has_table = config.tokenizer.table != "never"
    tokenizer = PatchTokenizer(
        derive(PatchTokenizerConfig, config.tokenizer, rows=rows, columns=columns, patch=PATCH, has_table=has_table)
    )
    grid, actions = tokenizer.spec(1, info.height, info.width).video, action_specs(config, info)
    dynamics = PocketDynamics(derive(PocketDynamicsConfig, config.dynamics, grid=grid, actions=actions))
    spec = spec_of(info, actions=actions, stride=config.frame_stride, context_frames=config.context_frames)
    return FrameModel(spec, tokenizer, dynamics)


def action_specs(config: Config, info: DataInfo) -> dict[str, ActionSpec]:
    """Describe the actions of one step of the world."""
    if config.actions == "none":
        return {}
    if not info.actions:
        raise UserError(
            "the recording has no actions, so nothing could be steered: put an action file of the same name beside "
            "each video (docs/data.md), or make a world that runs by itself with --actions none."
        )
    return merged_specs(info.actions, config.frame_stride, config.merge)
