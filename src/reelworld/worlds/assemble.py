"""Assemble a world from trained, untrained or imported parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

import reelworld
from reelworld.config import to_json
from reelworld.data.clip_index import ClipIndex, evenly_spaced
from reelworld.data.dataset import DataInfo, Dataset
from reelworld.data.splits import SPLITS
from reelworld.models.samplers import SamplerConfig
from reelworld.types import ActionSpec, ModelSpec
from reelworld.worlds.external_checkpoint import ExternalCheckpoint
from reelworld.worlds.info import WorldInfo
from reelworld.worlds.registry import file_hash, load_system
from reelworld.worlds.world import World

__all__ = ["make_world", "with_data", "with_origin"]

N_STARTS = 16


def make_world(
    system: str,
    config: Any,
    parts: Mapping[str, nn.Module],
    info: DataInfo,
    *,
    actions: Mapping[str, ActionSpec],
    stride: int = 1,
    context_frames: int = 1,
    sampler: SamplerConfig | None = None,
) -> World:
    """Assemble trained or untrained parts.

    Args:
        system: Its name.
        config: Its config, kept in the provenance.
        parts: "tokenizer" and "dynamics", and "latent_actions" where there are some.
        info: Of the recordings; their classes become the world's where the dynamics are told the class of a clip.
        actions: Streams as the dynamics reads them.
        stride: Recorded frames per frame of the world.
        context_frames: Frames a session should begin with.
        sampler: How frames are drawn unless asked otherwise.
    """
    simulator = info.provenance.get("simulator")
    game = simulator.get("env_id") if isinstance(simulator, Mapping) else None
    spec = ModelSpec(
        height=info.height,
        width=info.width,
        fps=info.fps / stride,
        actions=actions,
        classes=info.classes if getattr(parts["dynamics"].config, "n_classes", 0) else (),
        frame_stride=stride,
        context=(0, context_frames, None),
    )
    model = load_system(system).assemble(spec, parts)
    world_info = WorldInfo(
        name=str(game or f"{system} world"),
        system=system,
        spec=model.spec,
        sampler=sampler or SamplerConfig(),
        provenance={"data": dict(info.provenance), "config": to_json(config)},
    )
    return World(world_info, model, other_parts=parts)


def with_data(world: World, dataset: Dataset, starts: ClipIndex, statistics: Mapping[str, float]) -> World:
    """Add what comes from the recordings: start clips spread over ``starts``, the splits, and measured numbers."""
    world.initial_contexts = [starts.clip(i) for i in evenly_spaced(len(starts), N_STARTS)]
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
