"""Fine-tuning: initialize an iVideoGPT world with the weights of another one, e.g. one pre-trained without actions.

Parts that the other world lacks start at zero, so that its predictions are unchanged at first. Parts that are not
needed are dropped. Both are reported.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from reelworld.nn.conditioning import clip_range
from reelworld.nn.decoder import LlamaConfig
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN, ContextVQGANConfig, with_context
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
from reelworld.types import ActionSpec, UserError
from reelworld.worlds.world import World

log = logging.getLogger(__name__)

FREE = ("context_frames", "dropout", "dead_code_threshold", "commitment_weight", "places", "initial_std")
"""Fields in which the two may differ: no weight's shape depends on them, or it can be adapted."""
HEADS = {
    "cell": "the table of cells",
    "action": "the head for actions",
    "reward": "the head for rewards",
    "ended": "the head for ends",
    "recall": "the head that recalls actions",
    "frame_prior": "the frame prior",
    "hint": "the projection of the frame prior to slots",
    "reward_head": "the reward head that reads codes",
}


def begin_from(path: Path, tokenizer: ContextVQGAN, dynamics: IVideoGPTTransformer) -> None:
    """Copy the weights of a world into parts.

    Args:
        path: The world, trained or imported.
        tokenizer: Tokenizer to fill.
        dynamics: Transformer to fill.

    Raises:
        UserError: If it is no such world, or has other shapes.
    """
    world = World.load(path)
    theirs, their_dynamics = world.parts.get("tokenizer"), world.parts.get("dynamics")
    if not isinstance(theirs, ContextVQGAN) or not isinstance(their_dynamics, IVideoGPTTransformer):
        raise UserError(f"{path} is a world of {world.info.system}; --pretrained wants one of ivideogpt.")
    _begin_tokenizer(tokenizer, theirs, path)
    _begin_dynamics(dynamics, their_dynamics, path)


def _begin_tokenizer(tokenizer: ContextVQGAN, theirs: ContextVQGAN, path: Path) -> None:
    _check_same(tokenizer.config, theirs.config, path)
    wanted, learned = tokenizer.config.context_frames, theirs.config.context_frames
    if wanted != learned:
        how = "keeps the positions of the last" if wanted < learned else "repeats the positions of the first"
        log.warning("%s has a context of %d frames; one of %d %s.", path, learned, wanted, how)
    tokenizer.load_state_dict(with_context(theirs, wanted).state_dict())


def _begin_dynamics(dynamics: IVideoGPTTransformer, theirs: IVideoGPTTransformer, path: Path) -> None:
    _check_same(dynamics.config.transformer, theirs.config.transformer, path)
    mine, found = dynamics.state_dict(), theirs.state_dict()
    shared = {name for name in mine if name in found and found[name].shape == mine[name].shape}
    shared -= _heads_of_other_actions(dynamics, theirs, path)
    dynamics.load_state_dict({name: found[name] if name in shared else mine[name] for name in mine})
    if dynamics.cell is not None and "cell.weight" not in shared:
        dynamics.cell.weight.data.zero_()
    if dynamics.frame_prior is not None and "frame_prior.copied" not in shared:
        dynamics.frame_prior.zero_scores()
    for what, names in (("new, and begins at zero", mine.keys() - shared), ("not used", found.keys() - shared)):
        for head in sorted({HEADS[name.split(".")[0]] for name in names}):
            log.warning("%s: %s is %s.", path, head, what)


def _heads_of_other_actions(dynamics: IVideoGPTTransformer, theirs: IVideoGPTTransformer, path: Path) -> set[str]:
    """Heads trained for other actions are dropped, whatever their shape."""
    kinds = [
        [(name, spec.kind, spec.n, spec.repeat) for name, spec in model.config.actions.items()]
        for model in (dynamics, theirs)
    ]
    if kinds[0] == kinds[1]:
        for name, spec in dynamics.config.actions.items():
            _check_units(name, spec, theirs.config.actions[name], path)
        return set()
    return {name for name in dynamics.state_dict() if name.split(".")[0] in ("action", "recall")}


def _check_units(name: str, ours: ActionSpec, theirs: ActionSpec, path: Path) -> None:
    """Refuse actions in other units than those of the trained head."""
    if (limits := clip_range(theirs)) is None:
        return
    for i, (low, high) in enumerate(zip(ours.low, ours.high, strict=True)):
        if low < limits[0][i] or high > limits[1][i]:
            raise UserError(
                f"the recordings' actions {name!r} span {low:.4g} to {high:.4g} in dimension {i}, those that {path} "
                f"learned {theirs.low[i]:.4g} to {theirs.high[i]:.4g}: bring them to the same units, or begin from a "
                "world without actions."
            )


def _check_same(ours: ContextVQGANConfig | LlamaConfig, theirs: ContextVQGANConfig | LlamaConfig, path: Path) -> None:
    """Refuse configs that imply other shapes of weights."""
    for field in dataclasses.fields(ours):
        mine, found = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name not in FREE and mine != found:
            raise UserError(
                f"{path} has {field.name} {found}, the settings say {mine}: begin from a world of the same shape, or "
                "give its settings."
            )
