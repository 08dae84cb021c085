"""Training of iVideoGPT: the tokenizer on clips, then the transformer on their codes, with actions and rewards.

    reelworld train ivideogpt --data RECORDINGS --out runs/mine --size 64 --fit stretch --rewards

Expected: see docs/systems/ivideogpt.md, with what differs from the paper and from the published code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from reelworld.data.augment import Augmentation
from reelworld.data.clip_index import ClipIndex
from reelworld.data.loader import Loader
from reelworld.data.rare_events import end_fraction, reward_scale
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.nn.perceptual import SquaredDifference, load_lpips
from reelworld.systems.ivideogpt.config import Config
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
from reelworld.systems.ivideogpt.frame_prior import FramePriorTraining
from reelworld.systems.ivideogpt.gan_loss import GANLossConfig, ShuffledTraining, VQGANTraining
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
from reelworld.train.data import TrainingData
from reelworld.train.precompute_codes import encoded_batches, replay_batches
from reelworld.train.stage import Stage
from reelworld.train.validation import clip_check, coded_check, loss_check
from reelworld.types import Batch, UserError

log = logging.getLogger(__name__)


def stages(config: Config, model: WorldModel, data: TrainingData) -> Iterator[Stage]:
    """Train the tokenizer on clips, then the transformer on their codes, with actions and rewards."""
    data.require_length("clip_frames", stride=config.frame_stride)
    clips, held_out = training_clips(config, data, "train"), training_clips(config, data, "val")
    if config.rewards and "rewards" not in clips[0]:
        raise UserError(f"{data.dataset.path} has no rewards to learn from; leave out --rewards.")
    tokenizer = take(model.parts, "tokenizer", ContextVQGAN)
    dynamics = take(model.parts, "dynamics", IVideoGPTTransformer)
    yield tokenizer_stage(config, tokenizer, data, clips, held_out)
    dynamics.set_reward_scale(reward_scale(clips) if config.rewards else 1.0)
    dynamics.set_termination_rate(end_fraction(clips) if config.rewards else 0.0)
    if dynamics.frame_prior is not None:
        yield from frame_prior_stage(config, tokenizer, dynamics, data, clips, held_out)
    encoded = encoded_batches(augmented_batches(config, clips, config.dynamics.batch), tokenizer)
    yield data.stage(
        "dynamics",
        dynamics,
        replay_batches(encoded, config.dynamics.replays, config.seed),
        config.dynamics,
        clip_frames=config.clip_frames,
        validate=coded_check(tokenizer, dynamics, held_out),
    )


def tokenizer_stage(
    config: Config, tokenizer: ContextVQGAN, data: TrainingData, clips: ClipIndex, held_out: ClipIndex
) -> Stage:
    """Train the tokenizer on some frames of every clip."""
    options = config.tokenizer
    adversarial = None if options.disc_start is None else GANLossConfig(start_step=options.disc_start)
    n_later = options.sampled_frames - config.context_frames
    training = ShuffledTraining if config.goal else VQGANTraining
    return data.stage(
        "tokenizer",
        training(tokenizer, perceptual_loss(config), n_later, adversarial, options.perceptual_weight),
        augmented_batches(config, clips, options.batch),
        options,
        clip_frames=options.sampled_frames,
        validate=clip_check(tokenizer, held_out),
    )


def frame_prior_stage(
    config: Config,
    tokenizer: ContextVQGAN,
    dynamics: IVideoGPTTransformer,
    data: TrainingData,
    clips: ClipIndex,
    held_out: ClipIndex,
) -> Iterator[Stage]:
    """Train the frame prior and the reward head that reads codes, then freeze them.

    Trained jointly they overfit the few clips that the transformer sees.
    """
    heads = [part for part in (dynamics.frame_prior, dynamics.reward_head) if part is not None]
    for part in heads:
        part.reader.load_code_vectors(tokenizer.frame_codebook.vectors)
    training = FramePriorTraining(heads, dynamics.frame_prior_loss)
    encoded = encoded_batches(augmented_batches(config, clips, config.frame_prior.batch), tokenizer)
    yield data.stage(
        "dynamics",
        training,
        replay_batches(encoded, config.frame_prior.replays, config.seed),
        config.frame_prior,
        clip_frames=config.clip_frames,
        validate=loss_check(tokenizer, training, held_out),
        name="draft",  # seeds depend on it: a new name would change trained worlds
    )
    for part in heads:
        part.requires_grad_(False)


def training_clips(config: Config, data: TrainingData, split: str) -> ClipIndex:
    """Cut recordings into clips of kept frames, the goal first where there is one."""
    return data.clips(split, config.clip_frames, config.frame_stride, goal_first=config.goal)


def augmented_batches(config: Config, clips: ClipIndex, batch: int) -> Callable[[int], Iterator[Batch]]:
    """Draw augmented clips; batch number -> endless batches from there on."""
    augment = Augmentation(min_area=config.crop_area, jitter=config.colour_jitter)
    return Loader(clips, batch, config.seed, augment=augment).batches


def perceptual_loss(config: Config) -> nn.Module:
    """Choose the perceptual loss, with a warning where it is not the published one."""
    if config.tokenizer.lpips is not None:
        return load_lpips(Path(config.tokenizer.lpips))
    log.warning("no weights of LPIPS were given (--tokenizer.lpips FILE): squared differences stand in for it.")
    return SquaredDifference()
