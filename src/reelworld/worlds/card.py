"""The card of a world: a README.md and a moving preview, written with every save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelworld.config import to_json
from reelworld.data.media import write_media
from reelworld.worlds.continuing import random_actions

if TYPE_CHECKING:
    from reelworld.worlds.world import World, WorldInfo

__all__ = ["write_card"]

PREVIEW_STEPS = 48


def write_card(world: World, folder: Path) -> None:
    """Write README.md and, when the world has start clips, preview.gif."""
    (folder / "README.md").write_text(card_text(world.info, has_preview=bool(world.starts)), encoding="utf-8")
    if world.starts:
        write_media(folder / "preview.gif", _preview(world), fps=min(world.info.fps or 10.0, 20.0))


def card_text(info: WorldInfo, has_preview: bool) -> str:
    """Say what the world is, how it was made and how to use it."""
    actions = [
        f"- {name}: {spec.kind}, {spec.n} {'ids' if spec.kind == 'discrete' else 'numbers'}"
        + (f" ({', '.join(spec.names)})" if spec.names else "")
        for name, spec in info.actions.items()
    ]
    measured = [f"- {key}: {value:.4g}" for key, value in info.statistics.items()]
    made = json.dumps(to_json({"provenance": info.provenance}), indent=2)
    lines = [
        f"# {info.name}",
        "",
        *(["![preview](preview.gif)", ""] if has_preview else []),
        f"A world made with reelworld, recipe {info.recipe}: {info.height}x{info.width} pixels, {info.fps:g} frames/s.",
        "",
        "## Actions",
        *(actions or ["none: the world runs by itself"]),
        "",
        *(["## Measured on the validation split", *measured, ""] if measured else []),
        "## Use",
        "```",
        "reelworld play .",
        "reelworld eval . --data RECORDINGS",
        "```",
        f"Frames are drawn in {info.sampler.steps} pass(es) at temperature {info.sampler.temperature:g}.",
        "",
        "## How it was made",
        "```json",
        made,
        "```",
        "",
    ]
    return "\n".join(lines)


def _preview(world: World) -> np.ndarray:
    """Let the world run under random actions: uint8 (S, H, W, 3)."""
    session = world.session(1, seed=0)
    rng = np.random.default_rng(0)
    actions = {name: random_actions(spec, PREVIEW_STEPS, rng) for name, spec in world.info.actions.items()}
    frames = [session.reset().frame[0]]
    for s in range(PREVIEW_STEPS):
        frames.append(session.step({name: rows[s][None] for name, rows in actions.items()}).frame[0])
    return np.stack(frames)
