"""The half of iVideoGPT that turns frames into codes: how its tokenizer is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reelworld.systems.ivideogpt.config import Config

if TYPE_CHECKING:
    from torch import nn

    from reelworld.data.clip_index import ClipIndex
    from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
    from reelworld.train.stage import Stage
    from reelworld.types import Batch

log = logging.getLogger(__name__)


def looks(config: Config) -> nn.Module:
    """Choose what compares pictures, and say so where it is not the published one."""
    from reelworld.nn.perceptual import SquaredDifference, load_lpips

    if config.lpips is not None:
        return load_lpips(Path(config.lpips))
    log.warning("no weights of LPIPS were given (--lpips FILE): squared differences stand in for it.")
    return SquaredDifference()


def training_batches(config: Config, clips: ClipIndex, batch: int) -> Callable[[int], Iterator[Batch]]:
    """Draw clips to learn from, changed as the settings say; batch number -> endless batches from there on."""
    from reelworld.data.augment import Augmentation
    from reelworld.data.loader import Loader

    augment = Augmentation(min_area=config.crop_area, jitter=config.colour_change)
    return Loader(clips, batch, config.seed, augment=augment).batches


def tokenizer_stage(config: Config, tokenizer: ContextVQGAN, clips: ClipIndex, held_out: ClipIndex) -> Stage:
    """Train the tokenizer on some frames of every clip."""
    from reelworld.systems.ivideogpt.gan_loss import GANLossConfig, ShuffledTraining, VQGANTraining
    from reelworld.train.stage import OptimConfig, Stage
    from reelworld.train.validation import clip_check

    opposition = None if config.opponent_from is None else GANLossConfig(start_step=config.opponent_from)
    n_later = config.tokenizer_frames - config.context_frames
    training = ShuffledTraining if config.goal else VQGANTraining
    return Stage(
        name="tokenizer",
        part="tokenizer",
        batches=training_batches(config, clips, config.tokenizer_batch),
        module=training(tokenizer, looks(config), n_later, opposition, config.looks_weight),
        steps=config.tokenizer_steps,
        optim=OptimConfig(
            lr=config.tokenizer_lr,
            beta2=0.999,
            weight_decay=0.0,
            schedule=config.tokenizer_schedule,
            warmup_steps=config.tokenizer_warmup,
        ),
        max_minutes=config.max_minutes and config.max_minutes * config.tokenizer_share,
        precision=config.precision,
        frames_per_batch=config.tokenizer_batch * config.tokenizer_frames,
        validate=clip_check(tokenizer, held_out),
    )
