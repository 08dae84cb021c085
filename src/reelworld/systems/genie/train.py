"""Training of Genie: the tokenizer, the latent actions, then the dynamics on codes and actions.

    reelworld train genie --data RECORDINGS --out runs/mine --size 64 --fit crop

Source: Bruce et al. 2024 (arXiv:2402.15391), section 2.1. Expected: see docs/systems/genie.md, with what differs from
the paper. `reelworld import genie-1x` reads the dynamics that 1X published in this form.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import torch

from reelworld.data.clip_index import ClipIndex, evenly_spaced
from reelworld.data.loader import Loader
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.systems.genie.config import Config
from reelworld.systems.genie.latent_action import LatentActionModel
from reelworld.systems.genie.maskgit import MaskGIT
from reelworld.systems.genie.tokenizer import STViViT
from reelworld.train.data import TrainingData
from reelworld.train.precompute_codes import encoded_batches
from reelworld.train.pseudo_label import with_pseudo_labels
from reelworld.train.stage import Stage
from reelworld.train.validation import clip_check, coded_check, some_clips
from reelworld.types import UserError

log = logging.getLogger(__name__)

MERGED_ON = 1024
"""Clips on which the effects of latent actions are compared."""
LOOKED_AT = 256
"""Clips that are checked for motion."""
LEAST_PERPLEXITY = 1.5
"""Perplexity below which latent actions are reported as collapsed."""


def stages(config: Config, model: WorldModel, data: TrainingData) -> Iterator[Stage]:
    """Train the tokenizer, the latent actions, then the dynamics on codes and actions."""
    data.require_length("clip_frames")
    tokenizer = take(model.parts, "tokenizer", STViViT)
    dynamics = take(model.parts, "dynamics", MaskGIT)
    yield data.stage(
        "tokenizer",
        tokenizer,
        Loader(data.clips("train", config.clip_frames), config.tokenizer.batch, config.seed).batches,
        config.tokenizer,
        clip_frames=config.clip_frames,
        validate=clip_check(tokenizer, data.clips("val", config.clip_frames)),
    )
    if config.actions == "latent":
        latent_actions = take(model.parts, "latent_actions", LatentActionModel)  # type: ignore[type-abstract]
        yield from latent_stage(config, latent_actions, data)
        data.dataset = with_pseudo_labels(data.dataset, latent_actions)
    loader = Loader(data.clips("train", config.clip_frames), config.dynamics.batch, config.seed)
    yield data.stage(
        "dynamics",
        dynamics,
        encoded_batches(loader.batches, tokenizer),
        config.dynamics,
        clip_frames=config.clip_frames,
        validate=coded_check(tokenizer, dynamics, data.clips("val", config.clip_frames)),
    )


def latent_stage(config: Config, model: LatentActionModel, data: TrainingData) -> Iterator[Stage]:
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
    video = some_clips(clips, MERGED_ON).to(next(model.parameters()).device).video
    assert video is not None
    model.merge(video)
    if (found := check())["val_perplexity"] < LEAST_PERPLEXITY:
        log.warning(
            "the latent actions collapsed: %.0f of %d codes are used (perplexity %.1f), so the keys will do nothing; "
            "train longer (--latent-actions.steps, --max-minutes), with another --seed, or with fewer "
            "--latent-actions.n-codes.",
            found["val_codes_used"], options.n_codes, found["val_perplexity"],
        )  # fmt: skip


def check_movement(config: Config, clips: ClipIndex) -> None:
    """Refuse recordings from which no actions can be learned.

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


def latent_check(model: LatentActionModel, windows: ClipIndex, n_clips: int = 128) -> Callable[[], dict[str, float]]:
    """Prepare a check of latent actions on validation clips.

    ``val_codes_used`` and ``val_perplexity`` measure the use of the codes. ``val_gain`` is the gain of predictions over
    a copy of the frame (dB), ``val_delta`` their loss with codes of other clips (dB): at 0 codes have no effect.
    """
    batch = some_clips(windows, n_clips)

    @torch.inference_mode()
    def check() -> dict[str, float]:
        video = batch.to(next(model.parameters()).device).video
        assert video is not None
        past, future, codes = video[:, :-1], video[:, 1:], model.encode(video)[:, :-1]
        shares = codes.flatten().bincount().float() / codes.numel()
        right = (model.predict(past, codes) - future).square().mean().clamp_min(1e-10)
        others = (model.predict(past, codes.roll(1, 0)) - future).square().mean().clamp_min(1e-10)
        copied = (past - future).square().mean().clamp_min(1e-10)
        return {
            "val_codes_used": float((shares > 0).sum()),
            "val_perplexity": float((-(shares * shares.clamp_min(1e-12).log()).sum()).exp()),
            "val_gain": float(10 * torch.log10(copied / right)),
            "val_delta": float(10 * torch.log10(others / right)),
        }

    return check
