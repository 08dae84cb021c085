"""The card of a world: a README.md and a moving preview, written with every save."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelworld.config import to_json
from reelworld.files import write_json
from reelworld.media import write_file, write_media
from reelworld.types import TokenSpec
from reelworld.worlds.card_metrics import Measured, check_measured, measured_lines
from reelworld.worlds.continuation import random_actions

if TYPE_CHECKING:
    from reelworld.worlds.world import World, WorldInfo

__all__ = ["write_card", "write_measured"]

PREVIEW_STEPS = 48


def write_card(world: World, folder: Path) -> None:
    """Write README.md and, when the world has start clips, preview.gif."""
    spec = world.tokenizer.spec(1, world.info.height, world.info.width)
    (folder / "README.md").write_text(card_text(world.info, spec, has_preview=bool(world.starts)), encoding="utf-8")
    if world.starts:
        # beyond its first window a world of whole clips takes much longer per frame
        steps = spec.clip_frames - len(world.starts[0].frames) if spec.clip_frames else PREVIEW_STEPS
        write_media(folder / "preview.gif", _preview(world, max(1, steps)), fps=min(world.info.fps or 10.0, 20.0))


def write_measured(world: World, folder: Path, measured: Measured) -> None:
    """Write figures onto the card of a world on disk; its weights are not touched.

    Raises:
        UserError: If the figures are those of other weights.
    """
    check_measured(measured, world.info.parts, str(folder / "world.json"))
    world.info = replace(world.info, measured=measured)
    spec = world.tokenizer.spec(1, world.info.height, world.info.width)
    text = card_text(world.info, spec, has_preview=bool(world.starts))
    write_file(folder / "README.md", text.encode())
    write_json(folder / "world.json", world.info)


def card_text(info: WorldInfo, spec: TokenSpec, has_preview: bool) -> str:
    """Say what the world is, how it was made and how to use it."""
    actions = [
        f"- {name}: {spec.kind}, {spec.n} {'ids' if spec.kind == 'discrete' else 'numbers'}"
        + (f" ({', '.join(spec.names)})" if spec.names else "")
        for name, spec in info.actions.items()
    ]
    measured = [f"- {key}: {value:.4g}" for key, value in info.statistics.items()]
    made = json.dumps(to_json({"provenance": info.provenance}), indent=2)
    rate = f"{info.fps:g} frames/s" if info.fps else "frame rate unknown"
    lines = [
        f"# {info.name}",
        "",
        *(["![preview](preview.gif)", ""] if has_preview else []),
        f"A world made with reelworld, recipe {info.recipe}: {info.height}x{info.width} pixels, {rate}.",
        "",
        "## Actions",
        *(actions or ["none: the world runs by itself"]),
        *_map_lines(info),
        "",
        *(["## Classes", *(f"- {i}: {name}" for i, name in enumerate(info.classes)), ""] if info.classes else []),
        *_how_frames_come(info, spec),
        "",
        *measured_lines(info.measured, info.limits),
        *(["## Measured on the validation split", *measured, ""] if measured else []),
        "## Use",
        "```",
        *_use(info, spec, has_preview),
        "```",
        "",
        "## How it was made",
        "```json",
        made,
        "```",
        "",
    ]
    return "\n".join(lines)


def _map_lines(info: WorldInfo) -> list[str]:
    """Say how the real actions were found to be what they are, where the world learned without labels."""
    action_map = info.action_map
    if action_map is None:
        return []
    lines = [
        "",
        f"The world learned {len(action_map.to_real)} actions from video that names none. Real ones were mapped to "
        f"them with {sum(action_map.n_labels)} labelled steps.",
    ]
    if (held_out := action_map.held_out) is not None:
        interval = "" if held_out.low is None else f" (95% {held_out.low:.1%} to {held_out.high:.1%})"
        lines[-1] += (
            f" On {held_out.n_steps} other steps that change the picture the map names the real action in "
            f"{held_out.accuracy:.1%}{interval}; always naming the most frequent one gets "
            f"{held_out.most_frequent:.1%}, chance {held_out.chance:.1%}."
        )
    return lines + [f"- {text}" for text in action_map.limits()]


def _use(info: WorldInfo, spec: TokenSpec, has_preview: bool) -> list[str]:
    if not spec.has_pictures:  # its tokenizer is not part of it
        return [
            "from reelworld.worlds.world import World; world = World.load('.')",
            "world.generate_codes(codes, n_frames=8)   # codes: (clips, frames, codes of a frame)",
            "world.score_codes(codes[0])",
        ]
    given = "" if has_preview or not info.context_frames else " --data RECORDINGS"
    return ["reelworld play .", f"reelworld generate . --out film.mp4{given}", "reelworld eval . --data RECORDINGS"]


def _how_frames_come(info: WorldInfo, spec: TokenSpec) -> list[str]:
    sampler = info.sampler
    if not spec.has_pictures:
        return [
            "## How frames come",
            f"As codes only, {spec.video.n_tokens} per frame, drawn in {_count(sampler.steps, 'pass', 'passes')} at "
            f"temperature {sampler.temperature:g}: the tokenizer that shows them is another project's.",
        ]
    if spec.context_frames:
        return [
            "## How frames come",
            f"One frame per step, its {spec.video.n_tokens} codes drawn one after the other at temperature "
            f"{sampler.temperature:g} and decoded in the light of {_count(spec.context_frames, 'context frame')}. When "
            "a window is full, its last frames begin the next one.",
        ]
    if not spec.clip_frames:
        return [
            "## How frames come",
            f"One frame per step, drawn in {_count(sampler.steps, 'pass', 'passes')} at temperature "
            f"{sampler.temperature:g}.",
        ]
    size, stride, n_given = spec.clip_frames, spec.time_stride, info.context_frames
    n_codes = size // stride * spec.video.n_tokens
    begins = f"begins with {_count(n_given, 'given frame')}" if n_given else "begins from nothing"
    return [
        "## How frames come",
        f"In clips of {size} frames, {n_codes} codes, drawn one code after the other at temperature "
        f"{sampler.temperature:g} and decoded together. A session {begins}, then makes the rest of a clip at once and "
        "shows it frame by frame.",
        "",
        f"Longer videos slide over latent frames ({_count(stride, 'frame')} each). Positions are learned and absolute, "
        f"so each latent frame after the first {size} frames reads the whole window again, now from its first "
        f"position on: it costs that reading, and what lies more than {size} frames back is forgotten.",
    ]


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _preview(world: World, n_steps: int) -> np.ndarray:
    """Let the world run under random actions: uint8 (n_steps + 1, H, W, 3)."""
    session = world.session(1, seed=0)
    rng = np.random.default_rng(0)
    actions = {name: random_actions(spec, n_steps, rng) for name, spec in world.info.actions.items()}
    frames = [session.reset().frame[0]]
    for s in range(n_steps):
        frames.append(session.step({name: rows[s][None] for name, rows in actions.items()}).frame[0])
    return np.stack(frames)
