"""Card of a world: a README.md and a moving preview, written with every save."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from reelworld.config import to_json
from reelworld.files import write_json
from reelworld.media import write_file, write_media
from reelworld.rollout.actions import random_actions
from reelworld.rollout.rollout import rollout
from reelworld.rollout.session import Session
from reelworld.worlds.card_metrics import measured_lines
from reelworld.worlds.info import WorldInfo

PREVIEW_STEPS = 48
NOUNS = {"discrete": "ids", "continuous": "numbers", "buttons": "buttons, several at once"}


def write_card(folder: Path, info: WorldInfo, film: np.ndarray | None) -> None:
    """Write README.md and, where a film (T, H, W, 3) is given, preview.gif."""
    text = card_text(info, has_preview=film is not None)
    (folder / "README.md").write_text(text, encoding="utf-8")
    if film is not None:
        write_media(folder / "preview.gif", film, fps=min(info.spec.fps or 10.0, 20.0))


def rewrite_card(folder: Path, info: WorldInfo) -> None:
    """Write world.json and the text of the card again; weights, contexts and preview stay."""
    text = card_text(info, has_preview=(folder / "preview.gif").is_file())
    write_file(folder / "README.md", text.encode())
    write_json(folder / "world.json", info)


def preview(session: Session) -> np.ndarray:
    """Roll a session out under random actions: uint8 (T, H, W, 3)."""
    first, spec = session.reset(), session.spec
    # beyond its first window a model of whole clips takes much longer per frame
    n_steps = max(PREVIEW_STEPS // spec.chunk, spec.chunk - len(session.initial_contexts[0].frames))
    rng = np.random.default_rng(0)
    actions = {name: random_actions(stream, n_steps, rng)[None] for name, stream in spec.actions.items()}
    return np.stack([first.frame[0], *(result.frame[0] for result in rollout(session, actions or n_steps))])


def card_text(info: WorldInfo, has_preview: bool) -> str:
    """Return the card as Markdown: description, training and usage of the world."""
    actions = [
        f"- {name}: {spec.kind}, {spec.n} {NOUNS[spec.kind]}" + (f" ({', '.join(spec.names)})" if spec.names else "")
        for name, spec in info.actions.items()
    ]
    statistics = [f"- {key}: {value:.4g}" for key, value in info.statistics.items()]
    made = json.dumps(to_json({"provenance": info.provenance}), indent=2)
    rate = f"{info.spec.fps:g} frames/s" if info.spec.fps else "frame rate unknown"
    lines = [
        f"# {info.name}",
        "",
        *(["![preview](preview.gif)", ""] if has_preview else []),
        f"A world made with reelworld, system {info.system}: {info.spec.height}x{info.spec.width} pixels, {rate}.",
        "",
        "## Actions",
        *(actions or ["none: the world is unconditional"]),
        *_map_lines(info),
        "",
        *(
            ["## Classes", *(f"- {i}: {name}" for i, name in enumerate(info.spec.classes)), ""]
            if info.spec.classes
            else []
        ),
        *_generation_lines(info),
        "",
        *measured_lines(info.metrics, info.known_limitations),
        *(["## Measured on the validation split", *statistics, ""] if statistics else []),
        "## Use",
        "```",
        *_use(info, has_preview),
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
    """Describe the action map of worlds learned without labels."""
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


def _use(info: WorldInfo, has_preview: bool) -> list[str]:
    if not info.spec.pixels:  # its tokenizer is missing
        return [
            "from reelworld.worlds.world import World; world = World.load('.')",
            "world.generate_codes(codes, n_frames=8)   # codes: (clips, frames, codes of a frame)",
            "world.score_codes(codes[0])",
        ]
    data = "" if has_preview or not info.spec.context[1] else " --data RECORDINGS"
    return ["reelworld play .", f"reelworld generate . --out film.mp4{data}", "reelworld eval . --data RECORDINGS"]


def _generation_lines(info: WorldInfo) -> list[str]:
    """Describe how frames are generated, from the spec alone."""
    sampler, spec = info.sampler, info.spec
    n_codes = sum(grid.n_tokens for name, grid in spec.grids.items() if name == "video")
    start = f"starts from {_count(info.spec.context[1], 'frame')}" if info.spec.context[1] else "starts from nothing"
    lines = [
        "## Generation",
        f"{_count(n_codes, 'code')} per {_count(spec.time_stride, 'frame')}, sampled in "
        f"{_count(sampler.steps, 'pass', 'passes')} at temperature {sampler.temperature:g}; up to "
        f"{_count(spec.chunk, 'frame')} per call of the model. A session {start} and returns one frame per step.",
    ]
    if not spec.pixels:
        lines.append("The tokenizer is not part of the world: it generates codes, not pixels.")
    if spec.window is not None:
        lines.append(
            f"A window has {spec.window} frames. When it is full, its last frames begin the next one, which is read "
            "again; older frames are forgotten."
        )
    return lines


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"
