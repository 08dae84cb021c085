"""Worlds of any system: untrained ones, parts taken from another world, and the last step of a training."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from reelworld.data.dataset import DataInfo
from reelworld.models.parts import Tokenizer
from reelworld.models.system import System, SystemConfig
from reelworld.models.world_model import WorldModel
from reelworld.train.data import TrainingData
from reelworld.types import UserError
from reelworld.worlds.assemble import with_data, world_of
from reelworld.worlds.world import World


def untrained(system: System, config: SystemConfig, info: DataInfo, seed: int = 0) -> World:
    """Make a world with random weights."""
    config = replace(config, seed=seed)
    return world_of(system.name, config, system.module("model").build(config, info), info)


def take_part(model: WorldModel, name: str, source: Path) -> str:
    """Give a model the weights of a part of another world.

    Args:
        model: The untrained model.
        name: Name of the part.
        source: Folder of a world or a run.

    Returns:
        The hash of the weights.

    Raises:
        UserError: If that world has no such part, or one of another kind, size or codebook.
    """
    mine = model.parts[name]
    theirs = World.load(source).parts.get(name)
    if type(theirs) is not type(mine):
        found = "none" if theirs is None else f"a {type(theirs).__name__}"
        raise UserError(f"{source} has {found} as {name}; wanted a {type(mine).__name__}.")
    weights = theirs.state_dict()
    try:
        mine.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"the {name} of {source} has another config than the one given ({reason}); give the same size and the "
            f"same --{name}. flags."
        ) from None
    size = (1, model.spec.height, model.spec.width)
    if isinstance(mine, Tokenizer) and isinstance(theirs, Tokenizer) and mine.spec(*size) != theirs.spec(*size):
        raise UserError(f"the {name} of {source} has other codes than this config's; give the same --{name}. flags.")
    mine.config = theirs.config
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode() + weights[key].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def finish(system: System, config: SystemConfig, model: WorldModel, data: TrainingData) -> World:
    """Make the world of a trained model: validation metrics, a sampler that suits them, contexts to start from."""
    model.eval()
    validate = data.last_stage.validate
    metrics = validate() if validate else {}
    world = world_of(system.name, config, model, data.info, model.default_sampler(metrics.get("val_exact")))
    spec = model.spec
    n_frames = spec.window if spec.goal and spec.window else spec.context[1]
    contexts = data.clips("val", n_frames, spec.frame_stride, goal_first=spec.goal)
    return with_data(world, data.dataset, contexts, metrics)
