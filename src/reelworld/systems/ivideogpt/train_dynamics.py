"""The half of iVideoGPT that foretells codes: how its transformer is trained, and drafts before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reelworld.systems.ivideogpt.config import Config

if TYPE_CHECKING:
    from reelworld.data.clip_index import ClipIndex
    from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
    from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
    from reelworld.train.stage import Stage

__all__ = ["dynamics_stages"]

JOINED = 4
"""Batches of the transformer that drafts learn from at once: they are cheap, and learn from many clips."""
DRAFT_REUSE = 8
"""Steps that learn drafts from each clip once it is coded."""


def dynamics_stages(
    config: Config, tokenizer: ContextVQGAN, dynamics: IVideoGPTTransformer, clips: ClipIndex, held_out: ClipIndex
) -> Iterator[Stage]:
    """Train the drafts where there are some, then all of the dynamics."""
    from reelworld.data.rare_events import end_fraction, reward_scale
    from reelworld.systems.ivideogpt.frame_prior import DraftTraining
    from reelworld.systems.ivideogpt.train_tokenizer import training_batches
    from reelworld.train.precompute_codes import encoded_batches, replay_batches
    from reelworld.train.stage import OptimConfig, Stage
    from reelworld.train.validation import coded_check, loss_check

    dynamics.measure_rewards_in(reward_scale(clips) if config.rewards else 1.0)
    dynamics.expect_ends(end_fraction(clips) if config.rewards else 0.0)
    minutes = config.max_minutes and config.max_minutes * (1 - config.tokenizer_share)
    if dynamics.draft is not None:
        drafting = [part for part in (dynamics.draft, dynamics.verdict) if part is not None]
        for part in drafting:
            part.reader.know_codes(tokenizer.frame_codebook.vectors)
        many = encoded_batches(training_batches(config, clips, JOINED * config.batch), tokenizer)
        training = DraftTraining(drafting, dynamics.draft_loss)
        yield Stage(
            name="draft",
            part="dynamics",
            module=training,
            batches=replay_batches(many, DRAFT_REUSE, config.seed),
            steps=config.draft_steps,
            optim=OptimConfig(lr=config.lr, beta2=0.999, weight_decay=0.05, warmup_steps=0),
            max_minutes=minutes and minutes / 4,
            precision=config.precision,
            frames_per_batch=JOINED * config.batch * config.clip_frames,
            validate=loss_check(tokenizer, training, held_out),
        )
        for part in drafting:
            part.requires_grad_(False)
    coded = encoded_batches(training_batches(config, clips, config.batch), tokenizer)
    yield Stage(
        name="dynamics",
        part="dynamics",
        module=dynamics,
        batches=replay_batches(coded, config.code_reuse, config.seed),
        steps=config.steps,
        optim=OptimConfig(lr=config.lr, beta2=0.999, weight_decay=config.weight_decay, warmup_steps=config.warmup),
        max_minutes=minutes and (minutes * 3 / 4 if dynamics.draft is not None else minutes),
        precision=config.precision,
        frames_per_batch=config.batch * config.clip_frames,
        validate=coded_check(tokenizer, dynamics, held_out),
    )
