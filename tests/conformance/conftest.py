"""Every system of the table, at its preset tiny, as a world with random weights."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_config, untrained_world

from reelworld.data.dataset import DataInfo
from reelworld.models.system import System
from reelworld.nn.pixels import to_float
from reelworld.systems import SYSTEMS, find_system
from reelworld.types import ActionSpec, Clip
from reelworld.worlds.world import World

ACTIONS = {
    "discrete": {"action": ActionSpec(kind="discrete", n=4)},
    "continuous": {"action": ActionSpec(kind="continuous", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))},
    "none": {},
    "classes": {},
    "latent": {},
}
CLASSES = ("walk", "run", "jump")


def kinds() -> list[tuple[str, str]]:
    """Every system with every kind of recording that makes another world of it.

    Recipes that learn no actions take recordings with and without them, and make the same world of both.
    """
    pairs = []
    for name in sorted(SYSTEMS):
        fields = {f.name for f in dataclasses.fields(find_system(name).config)}
        pairs += [(name, kind) for kind in ("discrete", "continuous", "none") if "actions" in fields]
        pairs += [(name, "discrete")] if "actions" not in fields else []
        pairs += [(name, "classes")] if "class_cond" in fields else []
        pairs += [(name, "latent")] if "latent_actions" in fields else []
    return pairs


def untrained(name: str, kind: str, config: Any = None) -> World:
    """Build a world whose weights are large enough that every input matters.

    Fresh weights copy the current frame, whatever the action: tests on them could not fail.
    """
    info = DataInfo(fps=10.0, height=64, width=64, actions=ACTIONS[kind], classes=CLASSES if kind == "classes" else ())
    config = config or tiny_config(name)
    if kind == "classes":
        config = replace(config, class_cond=True)
    elif kind != "latent" and hasattr(config, "latent_actions"):
        config = replace(config, actions="given")
    world = untrained_world(name, config, info)
    generator = torch.Generator().manual_seed(1)
    for part in world.parts.values():
        for weight in part.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 4
            weight.data.add_(torch.randn(weight.shape, generator=generator) / fan_in**0.5)
    if hasattr(world.tokenizer, "codebook"):
        spread_codebook(world)
    if hasattr(world.tokenizer, "codebooks"):
        spread_codebooks(world)
    rows, ids = actions(world, 3, 2, seed=8), classes(world, 3)
    world.initial_contexts = [
        Clip(
            frames=f,
            actions={k: v[i] for k, v in rows.items()},
            fps=10.0,
            source=f"{i:03d}",
            class_id=None if ids is None else ids[i],
        )
        for i, f in enumerate(frames(3, 2, seed=8))
    ]
    return world


@torch.no_grad()
def spread_codebook(world: World) -> None:
    """Put the codes where features lie; of random vectors far from them one is the nearest to all."""
    tokenizer, codebook = world.tokenizer, world.tokenizer.codebook.vectors
    features = tokenizer.features(to_float(torch.from_numpy(frames(4, clip_frames(world) or 4, seed=3)))).flatten(0, -2)
    codebook.copy_(features[torch.randperm(len(features), generator=torch.Generator().manual_seed(2))[: len(codebook)]])
    if hasattr(world.dynamics, "codebook"):
        world.dynamics.codebook.copy_(codebook)


@torch.no_grad()
def spread_codebooks(world: World) -> None:
    """The same for a tokenizer with several: grid -> codebook, grid -> features."""
    features = world.tokenizer.features(to_float(torch.from_numpy(frames(4, 24, seed=3))))
    for name, codebook in world.tokenizer.codebooks.items():
        rows = features[name].flatten(0, -2)
        picks = torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))[: len(codebook.vectors)]
        codebook.vectors.copy_(rows[picks])


@pytest.fixture(scope="session", params=sorted(SYSTEMS))
def system(request: pytest.FixtureRequest) -> System:
    """Each system's record."""
    return find_system(request.param)


@pytest.fixture(scope="session", params=kinds(), ids="-".join)
def world(request: pytest.FixtureRequest) -> World:
    """One tiny world per system and kind of recording."""
    return untrained(*request.param)


def clip_frames(world: World) -> int:
    """Frames that the world's tokenizer codes together; 0 for worlds that make frame after frame."""
    return int(world.tokenizer.spec(1, world.info.height, world.info.width).clip_frames)


def classes(world: World, n: int) -> list[int] | None:
    """A class for each of n streams, where the world has some."""
    return [(i + 1) % len(world.info.classes) for i in range(n)] if world.info.classes else None


def frames(n: int, n_frames: int, seed: int = 0) -> np.ndarray:
    """Random pictures of coarse blocks, uint8 (n, T, 64, 64, 3)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (n, n_frames, 8, 8, 3), dtype=np.uint8)
    return blocks.repeat(8, 2).repeat(8, 3)


def actions(world: World, n: int, n_steps: int, seed: int = 0) -> dict[str, Any]:
    """Random actions, each (n, S) or (n, S, A)."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, spec.n, (n, n_steps))
        if spec.kind == "discrete"
        else rng.uniform(-1, 1, (n, n_steps, spec.n)).astype(np.float32)
        for name, spec in world.info.actions.items()
    }
