"""The half of Genie that finds actions in video: what they are, how they are learned, where they are put.

Source: Bruce et al. 2024 (arXiv:2402.15391), section 2.1.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reelworld.systems.genie.config import Config
from reelworld.types import UserError

if TYPE_CHECKING:
    from torch import nn

    from reelworld.data.dataset import DataInfo, Dataset
    from reelworld.train.stage import OptimConfig, Stage
    from reelworld.types import ActionSpec

__all__ = ["action_specs", "labelled", "latent_model", "latent_stage", "optim"]

log = logging.getLogger(__name__)

MERGED_ON = 1024
"""Clips on which the effects of latent actions are compared."""
LOOKED_AT = 256
"""Clips in which something must move."""
LEAST_PERPLEXITY = 1.5
"""Below this the codes of latent actions say next to nothing."""


def action_specs(config: Config, info: DataInfo) -> dict[str, ActionSpec]:
    """Describe the actions of one step of the world."""
    from reelworld.models.latent_action import STREAM
    from reelworld.train.pseudo_label import latent_spec

    if config.actions == "latent":
        return {STREAM: latent_spec(config.latent_codes)}
    if config.actions == "given" and not info.actions:
        raise UserError(
            "the recording has no actions: leave out --actions given, and the world finds actions in the video."
        )
    return dict(info.actions) if config.actions == "given" else {}


def latent_model(config: Config, info: DataInfo) -> nn.Module:
    """Make the untrained latent action model."""
    from reelworld.systems.genie.conv_latent_action import GridLatentActions, GridLatentConfig
    from reelworld.systems.genie.spacetime_latent_action import STLatentActions, STLatentConfig

    same: dict[str, Any] = {
        "height": info.height,
        "width": info.width,
        "patch": config.latent_patch,
        "n_codes": config.latent_codes,
        "learned_codes": config.learned_codes,
        "code_width": config.code_width,
        "model_width": config.latent_width,
        "encoder_layers": config.latent_layers,
        "decoder_layers": config.latent_layers,
        "moved_share": config.moved_share,
        "rarity": config.rarity,
    }
    if config.latent == "grid":
        return GridLatentActions(GridLatentConfig(**same))
    return STLatentActions(STLatentConfig(window=config.latent_frames, heads=config.latent_heads, **same))


def latent_stage(config: Config, model: Any, dataset: Dataset) -> Iterator[Stage]:
    """Train the latent action model, merge codes that do the same, and say so if it collapsed."""
    from reelworld.data.clip_index import ClipIndex
    from reelworld.data.loader import Loader
    from reelworld.train.stage import Stage
    from reelworld.train.validation import latent_check, some_clips

    clips = ClipIndex(dataset, "train", config.latent_frames)
    check_movement(config, clips)
    check = latent_check(model, ClipIndex(dataset, "val", config.latent_frames))
    yield Stage(
        name="latent_actions",
        part="latent_actions",
        module=model,
        batches=Loader(clips, config.latent_batch, config.seed).batches,
        steps=config.latent_steps,
        optim=optim(config, lr=config.latent_lr, min_lr_share=config.min_lr_share),
        max_minutes=config.max_minutes and config.max_minutes * config.actions_share,
        precision=config.precision,
        frames_per_batch=config.latent_batch * config.latent_frames,
        validate=check,
    )
    model.merge(some_clips(clips, MERGED_ON).to(next(model.parameters()).device).video)
    if (found := check())["val_perplexity"] < LEAST_PERPLEXITY:
        log.warning(
            "the latent actions collapsed: %.0f of %d codes are used (perplexity %.1f), so the keys will do nothing; "
            "train longer (--latent-steps, --max-minutes), with another --seed, or with fewer --latent-codes.",
            found["val_codes_used"], config.latent_codes, found["val_perplexity"],
        )  # fmt: skip


def check_movement(config: Config, clips: Any) -> None:
    """Refuse recordings from which no action can be learned.

    Raises:
        UserError: If nothing moves, or there are fewer steps than codes.
    """
    from reelworld.data.clip_index import evenly_spaced

    if len(clips) < config.latent_codes:
        raise UserError(
            f"the recordings have {len(clips)} steps to learn {config.latent_codes} latent actions from: record more, "
            "or give fewer --latent-codes."
        )
    looked = evenly_spaced(len(clips), LOOKED_AT)
    if not any((f := clips[i]["frames"])[1:].tobytes() != f[:-1].tobytes() for i in looked):
        raise UserError(
            f"nothing moves in {len(looked)} stretches of the recordings: no action can be learned from them; record "
            "something that changes, or make a world without actions (--actions none)."
        )


def labelled(config: Config, parts: dict[str, nn.Module], dataset: Dataset) -> Dataset:
    """Put the latent actions in place of the recorded ones, where they are learned."""
    from reelworld.train.pseudo_label import with_pseudo_labels

    model: Any = parts.get("latent_actions")
    return dataset if model is None else with_pseudo_labels(dataset, model)


def optim(config: Config, **wanted: Any) -> OptimConfig:
    """AdamW as published."""
    from reelworld.train.stage import OptimConfig

    return OptimConfig(beta1=0.9, beta2=config.beta2, weight_decay=1e-4, warmup_steps=config.warmup_steps, **wanted)
