"""1xgpt's published dynamics (``STMaskGIT``, the models GENIE_35M and GENIE_138M) -> a world of codes.

    reelworld import genie-1x GENIE_138M --out worlds/genie

The folder holds ``config.json`` and the weights. What the config does not say is read off the shapes, and both must
agree. The tokenizer, MAGVIT2, is not in it: such a world continues and scores codes.

Source: 1x-technologies/1xgpt, genie/ (Apache-2.0). The model and the names of its tensors have files of their own
beside this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reelworld.systems.genie.convert_dynamics import load_dynamics
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.systems.genie.maskgit import MaskGIT
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.world import World

__all__ = ["import_world"]

SPACE_STRIDE = 16
"""Pixels per token of MAGVIT2, along each side."""


def import_world(folder: Path) -> World:
    """Read the published layout and make a world of codes.

    Args:
        folder: With ``config.json`` and ``model.safetensors``, ``state_dict.safetensors`` or ``pytorch_model.bin``.

    Returns:
        A world without pictures that decodes as published: two passes, the likeliest codes, in random order.

    Raises:
        UserError: If the folder holds no such model, or its parts contradict each other.
    """
    from reelworld.worlds.external_checkpoint import read_folder
    from reelworld.worlds.validate import check_parts

    checkpoint = read_folder(folder)
    if "pos_embed_TSC" not in checkpoint.state_dict:
        raise UserError(f"{checkpoint.path} holds no STMaskGIT of 1xgpt: it lacks the tensor pos_embed_TSC.")
    world = _world(load_dynamics(checkpoint), checkpoint)
    check_parts(world, str(folder))
    return world


def _world(dynamics: MaskGIT, checkpoint: ExternalCheckpoint) -> World:
    from reelworld.data.folder import DataInfo
    from reelworld.models.samplers import SamplerConfig
    from reelworld.systems.genie.missing_tokenizer import MissingTokenizer, MissingTokenizerConfig
    from reelworld.worlds.assemble import make_world, with_origin

    grid = dynamics.config.grid
    tokenizer = MissingTokenizer(
        MissingTokenizerConfig(
            rows=grid.rows,
            columns=grid.columns,
            codebook_size=grid.codebook_size,
            space_stride=SPACE_STRIDE,
            name="MAGVIT2 of 1x-technologies/1xgpt",
        )
    )
    world = make_world(
        "genie-1x",
        dynamics.config,
        {"tokenizer": tokenizer, "dynamics": dynamics},
        DataInfo(height=grid.rows * SPACE_STRIDE, width=grid.columns * SPACE_STRIDE),
        actions={},
        context_frames=dynamics.table.kept if dynamics.table else 1,
        sampler=SamplerConfig(steps=2, temperature=0.0, order="random"),
    )
    unknown = ["the tokenizer (MAGVIT2): no pictures", "frames per second", "training data and splits"]
    return with_origin(world, checkpoint.path.absolute().parent.name, {"dynamics": checkpoint}, unknown)
