"""iVideoGPT's published checkpoints -> a world: names, shapes, hyper-parameters.

    reelworld import ivideogpt --tokenizer DIR --transformer DIR --out worlds/robot

A tokenizer's folder holds ``config.json`` and ``diffusion_pytorch_model.safetensors``, a transformer's ``config.json``
and ``model.safetensors``. What the configs do not say is read off the shapes, and both must agree.

Source: thuml/iVideoGPT (MIT), whose names of tensors and fields these are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reelworld.systems.ivideogpt.convert_tokenizer import load_tokenizer
from reelworld.systems.ivideogpt.convert_transformer import ACTION, load_transformer

if TYPE_CHECKING:
    from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
    from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.world import World

__all__ = ["import_world", "load_tokenizer", "load_transformer"]


def import_world(
    tokenizer: Path, transformer: Path, action_dim: int = 0, frames: int = 0, context: int = 0, has_goal: bool = False
) -> World:
    """Read a tokenizer and the transformer of its codes and make a world of them.

    Args:
        tokenizer: Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``.
        transformer: Folder with ``config.json`` and ``model.safetensors``.
        action_dim: See ``load_transformer``.
        frames: See ``load_transformer``.
        context: Context frames; 0 takes those of the tokenizer.
        has_goal: Whether the first of them was a goal.

    Returns:
        A world that draws as published: temperature 1 among the 100 likeliest codes. Its provenance names the files
        with their hashes, what is new or was changed, and what the files do not tell.

    Raises:
        UserError: If a folder holds no such model, or the two do not belong together.
    """
    from reelworld.systems.ivideogpt.context_vqgan import with_context
    from reelworld.worlds.external_checkpoint import read_folder
    from reelworld.worlds.validate import check_parts

    files = {"tokenizer": read_folder(tokenizer), "transformer": read_folder(transformer)}
    coder = load_tokenizer(files["tokenizer"])
    learned = coder.config.context_frames
    if context and context != learned:
        coder = with_context(coder, context)
    dynamics = load_transformer(files["transformer"], coder.config, frames, action_dim, has_goal)
    world = _world(coder, dynamics, files, _changes(dynamics, files["transformer"], learned))
    check_parts(world, str(transformer))
    return world


def _changes(dynamics: IVideoGPTTransformer, file: ExternalCheckpoint, learned: int) -> list[str]:
    """Say what the world has that the files do not."""
    changes, n_context = [], dynamics.config.context_frames
    if dynamics.action is not None and f"{ACTION}weight" not in file.state_dict:
        n = dynamics.action_vector.width
        changes.append(f"the head for actions of {n} numbers is new: actions do nothing until it is trained")
    if n_context != learned:
        how = "the positions of the last are kept" if n_context < learned else "the first one's positions are repeated"
        changes.append(f"the context has {n_context} frames instead of {learned}: {how}; train on for good pictures")
    return changes


def _world(
    tokenizer: ContextVQGAN, dynamics: IVideoGPTTransformer, files: dict[str, ExternalCheckpoint], changes: list[str]
) -> World:
    from reelworld.data.folder import DataInfo
    from reelworld.models.samplers import SamplerConfig
    from reelworld.worlds.assemble import make_world, with_origin

    shape, config = tokenizer.config, dynamics.config
    fields = {
        "fit": "stretch",  # the published loader resizes to a square
        "context_frames": shape.context_frames,
        "clip_frames": config.frames,
        "actions": "given" if config.actions else "none",
        "rewards": config.has_rewards,
        "goal": config.has_goal,
    }
    world = make_world(
        "ivideogpt",
        fields,
        {"tokenizer": tokenizer, "dynamics": dynamics},
        DataInfo(height=shape.height, width=shape.width),
        actions=config.actions,
        context_frames=shape.context_frames - config.has_goal,
        sampler=SamplerConfig(top_k=100),
    )
    unknown = ["frames per second", "ranges of the actions", "training data and splits", "clips to start from"]
    name = files["transformer"].path.absolute().parent
    world = with_origin(world, name.parent.name or name.name, files, unknown)
    world.info = replace(world.info, provenance={**world.info.provenance, "changes": changes})
    return world
