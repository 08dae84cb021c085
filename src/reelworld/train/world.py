"""Worlds of any system: untrained ones, and the last step of a training."""

from __future__ import annotations

from dataclasses import replace

from reelworld.data.dataset import DataInfo
from reelworld.models.system import System, SystemConfig
from reelworld.models.world_model import WorldModel
from reelworld.train.data import TrainingData
from reelworld.worlds.assemble import with_data, world_of
from reelworld.worlds.world import World


def untrained(system: System, config: SystemConfig, info: DataInfo, seed: int = 0) -> World:
    """Make a world with random weights."""
    config = replace(config, seed=seed)
    return world_of(system.name, config, system.module("model").build(config, info), info)


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
