"""Whether the parts of a world and its description belong together: looked at on loading and after an import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from reelworld.models.latent_action import STREAM
from reelworld.types import ActionSpec, TokenSpec, UserError

if TYPE_CHECKING:
    from reelworld.worlds.world import World, WorldInfo

__all__ = ["check_parts"]


def check_parts(world: World, where: str) -> None:
    """Refuse a world whose size, actions, classes or parts are not those of the parts' configs.

    Args:
        world: The world.
        where: Its world.json, or what else the person knows it by; errors begin with it.

    Raises:
        UserError: Naming the first thing that does not fit.
    """
    for part, method in ((world.tokenizer, "decode"), (world.dynamics, "prefill")):
        if not hasattr(part, method):
            raise UserError(f"{where} has a {type(part).__name__} where a part with {method}() belongs; restore it.")
    info, config = world.info, world.dynamics.config
    spec: TokenSpec = world.tokenizer.spec(1, info.height, info.width)
    # dynamics of whole clips take no actions; others that do not say what they learned are trusted
    learned: Mapping[str, ActionSpec] = getattr(config, "actions", {} if spec.clip_frames else info.actions)
    told, knows = _described(info.actions), _described(learned)
    if info.action_map is not None:
        _check_map(world, knows, where)
    elif told != knows:
        raise UserError(f"{where} lists the actions {told}; its dynamics learned {knows}: restore world.json.")
    n_classes = getattr(config, "n_classes", 0)
    if len(info.classes) != n_classes:
        raise UserError(
            f"{where} lists {len(info.classes)} classes; its dynamics learned {n_classes}: restore world.json."
        )
    _check_codes(world, spec, where)
    if spec.clip_frames:
        _check_clip(config, spec, (info.height, info.width), info.context_frames, where)
    if spec.context_frames:
        _check_window(spec.context_frames - world.has_goal, int(config.frames) - world.has_goal, info, where)


def _described(actions: Mapping[str, ActionSpec]) -> dict[str, tuple[str, int, int]]:
    return {name: (spec.kind, spec.n, spec.repeat) for name, spec in actions.items()}


def _check_map(world: World, knows: Mapping[str, tuple[str, int, int]], where: str) -> None:
    """Compare the map of actions with both of its sides: the world's actions, and those that the dynamics learned."""
    info, action_map = world.info, world.info.action_map
    assert action_map is not None
    wanted = {STREAM: ("discrete", len(action_map.to_real), 1)}
    if world.latent_actions is None or knows != wanted:
        raise UserError(
            f"{where} has a map to {len(action_map.to_real)} latent actions; its dynamics learned {dict(knows)}"
            f"{'' if world.latent_actions else ', and no part finds latent actions'}: restore world.json."
        )
    if info.actions != {action_map.stream: action_map.spec} or action_map.stream == STREAM:
        raise UserError(
            f"{where} lists the actions {_described(info.actions)}; its map is for the stream {action_map.stream!r}: "
            "restore world.json."
        )


def _check_codes(world: World, spec: TokenSpec, where: str) -> None:
    """Compare what the dynamics read with what the tokenizer writes: the grid, and the vectors where both hold them."""
    config = world.dynamics.config
    for name, field, what in (("video", "grid", "latent frame"), ("context", "context_grid", "context frame")):
        grid, coded = getattr(config, field, None), spec.grids.get(name)
        if grid is not None and grid != coded:
            read, made = (f"{g.rows}x{g.columns} codes of {g.codebook_size}" if g else "none" for g in (grid, coded))
            raise UserError(
                f"{where}: its dynamics read {read} per {what}, its tokenizer makes {made}; the two parts do not "
                "belong together."
            )
    if spec.context_frames != (n_context := getattr(config, "context_frames", 0)):
        raise UserError(
            f"{where}: its dynamics read a context of {n_context} frames, its tokenizer {spec.context_frames}; the two "
            "parts do not belong together."
        )
    vectors = getattr(getattr(world.tokenizer, "codebook", None), "vectors", None)
    copy = getattr(world.dynamics, "codebook", None)
    if vectors is None or copy is None:
        return
    if vectors.shape != copy.shape or not torch.equal(vectors, copy.to(vectors)):
        raise UserError(
            f"{where}: its dynamics learned on another codebook {tuple(copy.shape)} than its tokenizer has "
            f"{tuple(vectors.shape)}; the two parts do not belong together."
        )


def _check_clip(config: Any, spec: TokenSpec, size: tuple[int, int], context_frames: int, where: str) -> None:
    """Compare the length of a clip, the frames that are shown as pixels, and the context."""
    latents, cond_frames = spec.clip_frames // spec.time_stride, getattr(config, "cond_frames", 0)
    if getattr(config, "latent_frames", latents) != latents:
        raise UserError(
            f"{where}: its dynamics read clips of {config.latent_frames} latent frames, its tokenizer makes {latents}; "
            "the two parts do not belong together."
        )
    shown = (getattr(config, "cond_height", size[0]), getattr(config, "cond_width", size[1]))
    if cond_frames and shown != size:
        raise UserError(
            f"{where} has frames of {size[0]}x{size[1]} pixels; its dynamics read {shown[0]}x{shown[1]}: restore "
            "world.json."
        )
    if not cond_frames <= context_frames <= spec.clip_frames:
        raise UserError(
            f"{where} says to begin with {context_frames} frames; this world can begin with {cond_frames} to "
            f"{spec.clip_frames}: restore world.json."
        )


def _check_window(least: int, n_frames: int, info: WorldInfo, where: str) -> None:
    """Compare how many frames windows begin with, goals not counted, with the context and with what they hold."""
    if not least <= info.context_frames < n_frames:
        raise UserError(
            f"{where} says to begin with {info.context_frames} frames; this world can begin with {least} to "
            f"{n_frames - 1}: restore world.json."
        )
