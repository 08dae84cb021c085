"""Assemble a world from trained, untrained or imported parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

import reelworld
from reelworld.config import to_json
from reelworld.data.clip_index import ClipIndex, evenly_spaced
from reelworld.data.dataset import DataInfo, Dataset
from reelworld.data.splits import SPLITS
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import WorldModel
from reelworld.types import ActionSpec, ModelSpec
from reelworld.worlds.continuation import context_of
from reelworld.worlds.external_checkpoint import ExternalCheckpoint
from reelworld.worlds.info import WorldInfo
from reelworld.worlds.registry import file_hash, load_system
from reelworld.worlds.world import World

N_CONTEXTS = 16
"""Most clips that a world ships to start from."""


def spec_of(
    info: DataInfo,
    *,
    actions: Mapping[str, ActionSpec],
    stride: int = 1,
    context_frames: int = 1,
    classes: Sequence[str] = (),
) -> ModelSpec:
    """Describe a model of recordings; its composition fills in what depends on the parts.

    Args:
        info: Of the recordings.
        actions: Streams that the dynamics read.
        stride: Recorded frames per frame of the model.
        context_frames: Usual number of frames that a session starts from.
        classes: Class names of a class-conditional model.
    """
    return ModelSpec(
        height=info.height,
        width=info.width,
        fps=info.fps / stride,
        actions=actions,
        classes=tuple(classes),
        frame_stride=stride,
        context=(0, context_frames, None),
    )


def world_of(
    system: str, config: object, model: WorldModel, info: DataInfo, sampler: SamplerConfig | None = None
) -> World:
    """Name a model and record where it comes from.

    Args:
        system: Name of the system.
        config: Its config, kept in the provenance.
        model: Trained, untrained or imported.
        info: Of the recordings.
        sampler: Default sampler settings; None takes the model's.
    """
    simulator = info.provenance.get("simulator")
    game = simulator.get("env_id") if isinstance(simulator, Mapping) else None
    world_info = WorldInfo(
        name=str(game or f"{system} world"),
        system=system,
        spec=model.spec,
        sampler=sampler or model.default_sampler(),
        provenance={"data": dict(info.provenance), "config": to_json(config)},
    )
    return World(world_info, model)


def make_world(
    system: str,
    config: object,
    parts: Mapping[str, nn.Module],
    info: DataInfo,
    *,
    actions: Mapping[str, ActionSpec],
    context_frames: int = 1,
    classes: Sequence[str] = (),
    sampler: SamplerConfig | None = None,
) -> World:
    """Assemble a world from imported parts; the arguments are those of ``spec_of`` and ``world_of``."""
    spec = spec_of(info, actions=actions, context_frames=context_frames, classes=classes)
    return world_of(system, config, load_system(system).assemble(spec, parts), info, sampler)


def with_data(world: World, dataset: Dataset, contexts: ClipIndex, statistics: Mapping[str, float]) -> World:
    """Add what comes from the recordings: contexts spread over ``contexts``, the splits, and validation metrics."""
    n_frames = world.spec.context[1]
    clips = (contexts.clip(i) for i in evenly_spaced(len(contexts), N_CONTEXTS))
    world.initial_contexts = [context_of(clip, n_frames) for clip in clips]
    splits = {s: tuple(dict.fromkeys(dataset.episodes[i].source for i in dataset.indices(s))) for s in SPLITS}
    world.info = replace(world.info, splits=splits, statistics=dict(statistics))
    return world


def with_origin(
    world: World, name: str, checkpoints: Mapping[str, ExternalCheckpoint], unknown: Sequence[str]
) -> World:
    """Add the provenance of an imported world in place of recordings.

    Args:
        world: Made of published weights.
        name: Its name.
        checkpoints: Role (prior, vqvae, dynamics) -> the file that was read for it.
        unknown: Facts that the files do not hold.
    """
    provenance = {
        "imported": {role: {"file": c.path.name, "sha256": file_hash(c.path)} for role, c in checkpoints.items()},
        "names_passed_over": sorted({name for c in checkpoints.values() for name in c.passed_over}),
        "unknown": list(unknown),
        "config": world.info.provenance["config"],
        "versions": {"reelworld": reelworld.__version__},
    }
    world.info = replace(world.info, name=name, provenance=provenance)
    return world
