"""Load and save worlds: ``world.json``, one safetensors file per part, ``starts.npz`` (initial contexts).

Shapes: T context frames, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reelworld.config import from_json, read_json
from reelworld.data.array_store import DAMAGE
from reelworld.files import write_json
from reelworld.models.mapped_actions import MappedActions
from reelworld.models.world_model import WorldModel
from reelworld.rollout.validation import describe_classes
from reelworld.types import Clip, ModelSpec, UserError
from reelworld.worlds.card_metrics import check_measured, weights_of
from reelworld.worlds.info import FORMAT_VERSION, WorldInfo
from reelworld.worlds.registry import load_part, load_system, save_part

CONTEXTS_FILE = "starts.npz"


def read_world(
    folder: Path, device: str, allow_code: Sequence[str]
) -> tuple[WorldInfo, WorldModel, dict[str, nn.Module], list[Clip]]:
    """Read a world's folder.

    Args:
        folder: With world.json.
        device: Where to put the weights.
        allow_code: Modules outside reelworld that the world's system and parts may come from.

    Returns:
        Contents of world.json, the model, all parts, also those that the model does not use, and initial contexts.

    Raises:
        UserError: If the folder is no world, has another format version, or is damaged.
    """
    path = folder / "world.json"
    raw = read_json(path)
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(
            f"{folder} has format version {version}; this reelworld reads up to {FORMAT_VERSION}: upgrade it."
        )
    if isinstance(version, int) and version < FORMAT_VERSION:
        raise UserError(f"{folder} has format version {version}; this reelworld reads {FORMAT_VERSION}: make it again.")
    info = from_json(WorldInfo, raw, str(path))
    check_measured(info.metrics, info.parts, str(path))
    system = load_system(info.system, allow_code)
    parts = {name: load_part(name, part, system, folder, allow_code).to(device) for name, part in info.parts.items()}
    try:
        model = system.assemble(info.spec, parts)
        check_spec(info.spec, model.spec)
        if info.action_map is not None:
            model = MappedActions(model, info.action_map)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return info, model.to(device).eval(), parts, load_contexts(folder / CONTEXTS_FILE, model.spec)


def check_spec(saved: ModelSpec, made: ModelSpec) -> None:
    """Refuse a saved spec that is not the one that the parts give.

    Raises:
        UserError: Naming the first field that differs.
    """
    for field in fields(ModelSpec):
        a, b = getattr(saved, field.name), getattr(made, field.name)
        if a != b:
            raise UserError(f"the spec says {field.name} is {a}; its parts give {b}: restore world.json.")


def write_world(
    folder: Path, info: WorldInfo, parts: Mapping[str, nn.Module], contexts: Sequence[Clip], dtype: torch.dtype | None
) -> WorldInfo:
    """Write world.json, parts and initial contexts into an empty folder; metrics of other weights are dropped.

    Args:
        folder: Where to.
        info: Contents of world.json, without the parts.
        parts: Name -> module.
        contexts: Initial contexts.
        dtype: Type of floating weights; None keeps theirs.

    Returns:
        ``info`` as it was written.
    """
    system = load_system(info.system, (info.system,))
    saved = {name: save_part(part, system, folder, name, dtype) for name, part in parts.items()}
    is_same = info.metrics is not None and dict(info.metrics.weights) == weights_of(saved)
    info = replace(info, parts=saved, metrics=info.metrics if is_same else None)
    save_contexts(folder / CONTEXTS_FILE, contexts)
    write_json(folder / "world.json", info)
    return info


# ------------------------------------------------------------------ initial contexts


def save_contexts(path: Path, clips: Sequence[Clip]) -> None:
    """Write initial contexts as one .npz file."""
    arrays: dict[str, Any] = {}
    for i, clip in enumerate(clips):
        arrays[f"{i:03d}/frames"] = clip.frames
        for name, stream in clip.actions.items():
            arrays[f"{i:03d}/actions/{name}"] = stream
        if clip.class_id is not None:
            arrays[f"{i:03d}/class_id"] = np.array(clip.class_id, np.int64)
        if clip.goal is not None:
            arrays[f"{i:03d}/goal"] = clip.goal
    np.savez_compressed(path, **arrays)


def load_contexts(path: Path, spec: ModelSpec) -> list[Clip]:
    """Read initial contexts; none where there is no file.

    Raises:
        UserError: If the file is damaged or its clips are not those of a model of this spec.
    """
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {k: stored[k] for k in stored.files}
    except DAMAGE as error:
        raise UserError(f"{path} cannot be read ({error}); copy the world again.") from None
    clips = []
    for key in sorted(k for k in arrays if k.endswith("/frames")):
        source = key.removesuffix("/frames")
        prefix = f"{source}/actions/"
        actions = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        label = arrays.get(f"{source}/class_id", np.zeros(0))
        class_id = int(label) if label.shape == () and label.dtype.kind in "iu" else None
        clip = Clip(frames=arrays[key], actions=actions, fps=spec.fps, source=source, class_id=class_id)
        clips.append(replace(clip, goal=arrays.get(f"{source}/goal")))
    for clip in clips:
        _check_context(clip, clips[0].frames.shape, path, spec)
    return clips


def _check_context(clip: Clip, shape: tuple[int, ...], path: Path, spec: ModelSpec) -> None:
    """Initial contexts are stacked, so that all have one shape (T, H, W, 3)."""
    frames = clip.frames
    if frames.dtype != np.uint8 or frames.shape != shape or shape[1:] != (spec.height, spec.width, 3):
        raise UserError(
            f"{path} holds frames {frames.dtype} {frames.shape}; wanted uint8 (T, {spec.height}, {spec.width}, 3), "
            "one T for all: copy the world again."
        )
    rows = {name: len(clip.actions[name]) if name in clip.actions else 0 for name in spec.actions}
    if wrong := [name for name, n in rows.items() if n != len(frames)]:
        raise UserError(f"{path} lacks the actions {wrong[0]!r} of its {len(frames)} frames; copy the world again.")
    if spec.classes and (clip.class_id is None or not 0 <= clip.class_id < len(spec.classes)):
        raise UserError(
            f"{path} gives a clip the class {clip.class_id}; wanted {describe_classes(spec.classes)}: copy the world "
            "again."
        )
    if spec.goal and (clip.goal is None or clip.goal.dtype != np.uint8 or clip.goal.shape != clip.frames.shape[1:]):
        raise UserError(f"{path} lacks the goal of a clip, or holds one of another size; copy the world again.")
