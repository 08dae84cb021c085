"""Every system of the table, at its preset tiny, as a world with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_config, untrained_world
from torch import nn

from reelworld.data.dataset import DataInfo
from reelworld.models.system import System
from reelworld.nn.pixels import to_float
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.gradient_codebook import GradientCodebook
from reelworld.systems import SYSTEMS, find_system
from reelworld.types import ActionSpec, Clip
from reelworld.worlds.world import World

ACTIONS = {
    "discrete": {"action": ActionSpec(kind="discrete", n=4)},
    "continuous": {"action": ActionSpec(kind="continuous", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))},
    "streams": {
        "keys": ActionSpec(kind="buttons", n=3),
        "mouse": ActionSpec(kind="continuous", n=2, low=(-1.0, -1.0), high=(1.0, 1.0)),
        "item": ActionSpec(kind="discrete", n=3),
    },
    "none": {},
    "classes": {},
    "latent": {},
}
CLASSES = ("walk", "run", "jump")


GIVEN = ("discrete", "continuous", "streams", "none")
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "genie": {**{kind: {"actions": "given"} for kind in GIVEN}, "latent": {}},
    "videogpt": {"discrete": {}, "classes": {"class_cond": True}},
}
"""System -> kind of recording that makes another world of it -> changes of the preset tiny."""


def kinds() -> list[tuple[str, str]]:
    """Every system with every kind of recording; a system that is not listed takes recordings with any actions."""
    return [(name, kind) for name in sorted(SYSTEMS) for kind in CASES.get(name, dict.fromkeys(GIVEN))]


def untrained(name: str, kind: str, config: Any = None) -> World:
    """Build a world whose weights are large enough that every input matters.

    Fresh weights copy the current frame, whatever the action: tests on them could not fail.
    """
    info = DataInfo(fps=10.0, height=64, width=64, actions=ACTIONS[kind], classes=CLASSES if kind == "classes" else ())
    changes = CASES.get(name, {}).get(kind) or {}
    world = untrained_world(name, replace(config or tiny_config(name), **changes), info)
    generator = torch.Generator().manual_seed(1)
    for part in world.parts.values():
        for weight in part.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 4
            weight.data.add_(torch.randn(weight.shape, generator=generator) / fan_in**0.5)
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
def spread_codebooks(world: World) -> None:
    """Set codes to features of a video; of random vectors far from all features one is the nearest to all."""
    seen: dict[nn.Module, list[torch.Tensor]] = {}
    books = [m for m in world.model.modules() if isinstance(m, EMACodebook | GradientCodebook)]
    with pytest.MonkeyPatch.context() as patch:
        for book in books:

            def nearest(rows: torch.Tensor, book: Any = book, original: Any = book.nearest) -> torch.Tensor:
                seen.setdefault(book, []).append(rows)
                return original(rows)

            patch.setattr(book, "nearest", nearest)
        n_frames = world.spec.chunk if world.spec.chunk > 1 else 4 if world.spec.window is None else 24
        world.model.encode(to_float(torch.from_numpy(frames(4, n_frames, seed=3))))
    for book, parts in seen.items():
        rows = torch.cat(parts, 1).flatten(0, -2)
        picks = torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))[: len(book.vectors)]
        book.vectors.copy_(rows[picks])
        for name, buffer in world.model.named_buffers():
            if name.endswith("dynamics.codebook"):  # a prior's copy
                buffer.copy_(book.vectors)


@pytest.fixture(scope="session", params=sorted(SYSTEMS))
def system(request: pytest.FixtureRequest) -> System:
    """Each system's record."""
    return find_system(request.param)


@pytest.fixture(scope="session", params=kinds(), ids="-".join)
def world(request: pytest.FixtureRequest) -> World:
    """One tiny world per system and kind of recording."""
    return untrained(*request.param)


def classes(world: World, n: int) -> list[int] | None:
    """A class for each of n streams, where the world has some."""
    return [(i + 1) % len(world.spec.classes) for i in range(n)] if world.spec.classes else None


def frames(n: int, n_frames: int, seed: int = 0) -> np.ndarray:
    """Random pictures of coarse blocks, uint8 (n, T, 64, 64, 3)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (n, n_frames, 8, 8, 3), dtype=np.uint8)
    return blocks.repeat(8, 2).repeat(8, 3)


def actions(world: World, n: int, n_steps: int, seed: int = 0) -> dict[str, Any]:
    """Random actions, each (n, S) or (n, S, A)."""
    rng = np.random.default_rng(seed)
    draws = {
        "discrete": lambda n_values: rng.integers(0, n_values, (n, n_steps)),
        "continuous": lambda n_values: rng.uniform(-1, 1, (n, n_steps, n_values)).astype(np.float32),
        "buttons": lambda n_values: rng.integers(0, 2, (n, n_steps, n_values)).astype(np.float32),
    }
    return {name: draws[spec.kind](spec.n) for name, spec in world.spec.actions.items()}
