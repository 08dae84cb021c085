"""Every recipe of the table, at its tiny size, as a world with random weights."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from reelworld.data.dataset import DataInfo
from reelworld.recipes import RECIPES
from reelworld.types import ActionSpec, Clip
from reelworld.worlds.world import World

ACTIONS = {
    "discrete": {"action": ActionSpec(kind="discrete", n=4)},
    "continuous": {"action": ActionSpec(kind="continuous", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))},
    "none": {},
}


def untrained(recipe: ModuleType, kind: str) -> World:
    """Build a world whose weights are large enough that every input matters.

    Fresh weights copy the current frame, whatever the action: tests on them could not fail.
    """
    info = DataInfo(fps=10.0, height=64, width=64, actions=ACTIONS[kind])
    world: World = recipe.untrained(recipe.tiny(), info, seed=0)
    generator = torch.Generator().manual_seed(1)
    for part in world.parts.values():
        for weight in part.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 4
            weight.data.add_(torch.randn(weight.shape, generator=generator) / fan_in**0.5)
    rows = actions(world, 3, 2, seed=8)
    world.starts = [
        Clip(frames=f, actions={k: v[i] for k, v in rows.items()}, fps=10.0, source=f"{i:03d}")
        for i, f in enumerate(frames(3, 2, seed=8))
    ]
    return world


@pytest.fixture(scope="session", params=sorted(RECIPES))
def recipe(request: pytest.FixtureRequest) -> ModuleType:
    """The module of a recipe."""
    return importlib.import_module(RECIPES[request.param])


@pytest.fixture(scope="session", params=sorted(ACTIONS))
def world(recipe: ModuleType, request: pytest.FixtureRequest) -> World:
    """One tiny world of the recipe per kind of action."""
    return untrained(recipe, request.param)


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
