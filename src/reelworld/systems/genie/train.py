"""Training of Genie: the tokenizer, the latent actions, then the dynamics on codes and actions.

    reelworld train genie --data RECORDINGS --out runs/mine --size 64 --fit crop

Source: Bruce et al. 2024 (arXiv:2402.15391), section 2.1. Expected: see docs/systems/genie.md, with what differs from
the paper. `reelworld import genie-1x` reads the dynamics that 1X published in this form.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from reelworld.data.clip_index import ClipIndex, evenly_spaced
from reelworld.data.dataset import DataInfo, Dataset
from reelworld.data.loader import Loader
from reelworld.models.latent_action import LatentActionModel
from reelworld.models.samplers import SamplerConfig
from reelworld.systems.genie.config import Config
from reelworld.systems.genie.model import action_specs, build
from reelworld.train.data import TrainingData
from reelworld.train.precompute_codes import encoded_batches
from reelworld.train.pseudo_label import with_pseudo_labels
from reelworld.train.stage import Stage, Validate
from reelworld.train.validation import clip_check, coded_check, latent_check, some_clips
from reelworld.types import UserError
from reelworld.worlds.assemble import make_world, with_data
from reelworld.worlds.world import World

log = logging.getLogger(__name__)

MERGED_ON = 1024
"""Clips on which the effects of latent actions are compared."""
LOOKED_AT = 256
"""Clips in which something must move."""
LEAST_PERPLEXITY = 1.5
"""Below this the codes of latent actions carry next to no information."""


def stages(config: Config, parts: dict[str, nn.Module], data: TrainingData) -> Iterator[Stage]:
    """Train the tokenizer, find latent actions, then train the dynamics on codes and actions."""
    data.require_length("clip_frames")
    tokenizer: Any = parts["tokenizer"]
    yield data.stage(
        "tokenizer",
        tokenizer,
        Loader(data.clips("train", config.clip_frames), config.tokenizer.batch, config.seed).batches,
        config.tokenizer,
        clip_frames=config.clip_frames,
        validate=clip_check(tokenizer, data.clips("val", config.clip_frames)),
    )
    if config.actions == "latent":
        yield from latent_stage(config, parts["latent_actions"], data)
    dataset = labelled(parts, data.dataset)
    loader = Loader(ClipIndex(dataset, "train", config.clip_frames), config.dynamics.batch, config.seed)
    yield data.stage(
        "dynamics",
        parts["dynamics"],
        encoded_batches(loader.batches, tokenizer),
        config.dynamics,
        clip_frames=config.clip_frames,
        validate=step_check(config, parts, dataset),
    )


def latent_stage(config: Config, model: Any, data: TrainingData) -> Iterator[Stage]:
    """Train the latent action model, merge codes of the same effect, and warn if it collapsed."""
    options = config.latent_actions
    clips = data.clips("train", options.clip_frames)
    check_movement(config, clips)
    check = latent_check(model, data.clips("val", options.clip_frames))
    yield data.stage(
        "latent_actions",
        model,
        Loader(clips, options.batch, config.seed).batches,
        options,
        clip_frames=options.clip_frames,
        validate=check,
    )
    model.merge(some_clips(clips, MERGED_ON).to(next(model.parameters()).device).video)
    if (found := check())["val_perplexity"] < LEAST_PERPLEXITY:
        log.warning(
            "the latent actions collapsed: %.0f of %d codes are used (perplexity %.1f), so the keys will do nothing; "
            "train longer (--latent-actions.steps, --max-minutes), with another --seed, or with fewer "
            "--latent-actions.n-codes.",
            found["val_codes_used"], options.n_codes, found["val_perplexity"],
        )  # fmt: skip


def check_movement(config: Config, clips: ClipIndex) -> None:
    """Refuse recordings from which no action can be learned.

    Raises:
        UserError: If nothing moves, or there are fewer steps than codes.
    """
    n_codes = config.latent_actions.n_codes
    if len(clips) < n_codes:
        raise UserError(
            f"the recordings have {len(clips)} steps to learn {n_codes} latent actions from: record more, or give "
            "fewer --latent-actions.n-codes."
        )
    looked = evenly_spaced(len(clips), LOOKED_AT)
    if not any((f := clips[i]["frames"])[1:].tobytes() != f[:-1].tobytes() for i in looked):
        raise UserError(
            f"nothing moves in {len(looked)} stretches of the recordings: no action can be learned from them; record "
            "something that changes, or make a world without actions (--actions none)."
        )


def labelled(parts: Mapping[str, nn.Module], dataset: Dataset) -> Dataset:
    """Put the latent actions in place of the recorded ones, where they are learned."""
    model = parts.get("latent_actions")
    return with_pseudo_labels(dataset, model) if isinstance(model, LatentActionModel) else dataset


def step_check(config: Config, parts: Mapping[str, nn.Module], dataset: Dataset) -> Validate:
    """Prepare a check of the dynamics on validation clips."""
    return coded_check(parts["tokenizer"], parts["dynamics"], ClipIndex(dataset, "val", config.clip_frames))


def finish(config: Config, parts: dict[str, nn.Module], data: TrainingData) -> World:
    """Assemble the world, with clips to start from."""
    dataset = labelled(parts, data.dataset)
    check = step_check(config, parts, dataset)()
    starts = ClipIndex(dataset, "val", config.context_frames)
    return with_data(assemble(config, parts, dataset.info), dataset, starts, check)


def assemble(config: Config, parts: dict[str, nn.Module], info: DataInfo) -> World:
    """Give trained or untrained parts the form of a world."""
    return make_world(
        "genie",
        config,
        parts,
        info,
        actions=action_specs(config, info),
        context_frames=config.context_frames,
        sampler=SamplerConfig(steps=config.decoding_steps, temperature=config.temperature),
    )


def untrained(config: Config, info: DataInfo, seed: int = 0) -> World:
    """Make a world with random weights, for tests."""
    config = replace(config, seed=seed)
    if config.actions == "given" and not info.actions:
        config = replace(config, actions="none")
    return assemble(config, build(config, info), info)
