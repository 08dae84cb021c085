"""Give parts the form of a world: what every recipe does last."""

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
from reelworld.types import ActionSpec
from reelworld.worlds.external_checkpoint import ExternalCheckpoint
from reelworld.worlds.registry import file_hash
from reelworld.worlds.world import World, WorldInfo

__all__ = ["make_world", "with_data", "with_origin"]

N_STARTS = 16


def make_world(
    recipe: str,
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
        recipe: Its name.
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
    world_info = WorldInfo(
        name=str(game or f"{recipe} world"),
        recipe=recipe,
        height=info.height,
        width=info.width,
        fps=info.fps / stride,
        actions=actions,
        classes=info.classes if getattr(parts["dynamics"].config, "n_classes", 0) else (),
        context_frames=context_frames,
        sampler=sampler or SamplerConfig(),
        provenance={"data": dict(info.provenance), "config": to_json(config)},
    )
    return World(world_info, parts["tokenizer"], parts["dynamics"], latent_actions=parts.get("latent_actions"))


def with_data(world: World, dataset: Dataset, starts: ClipIndex, statistics: Mapping[str, float]) -> World:
    """Add what comes from the recordings: start clips spread over ``starts``, the splits, and measured numbers."""
    world.starts = [starts.clip(i) for i in evenly_spaced(len(starts), N_STARTS)]
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
