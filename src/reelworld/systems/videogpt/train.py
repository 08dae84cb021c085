"""Training of VideoGPT: the VQ-VAE on clips, then the prior on their codes.

    reelworld train videogpt --data RECORDINGS --out runs/mine --size 64 --fit crop

Expected: see docs/systems/videogpt.md, with hardware, seeds and the command of every figure, and with what differs
from the paper and from the published code. `reelworld import videogpt` reads published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator

from reelworld.data.loader import Loader
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.systems.videogpt.config import Config
from reelworld.systems.videogpt.prior import AutoregressivePrior
from reelworld.systems.videogpt.vqvae import VQVAE3D
from reelworld.train.data import TrainingData
from reelworld.train.precompute_codes import encoded_batches
from reelworld.train.stage import Stage
from reelworld.train.validation import clip_check, prior_check


def stages(config: Config, model: WorldModel, data: TrainingData) -> Iterator[Stage]:
    """Train the VQ-VAE on clips, then the prior on their codes."""
    data.require_length("sequence_length", stride=config.frame_stride)
    tokenizer = take(model.parts, "tokenizer", VQVAE3D)
    prior = take(model.parts, "dynamics", AutoregressivePrior)
    clips, held_out = (data.clips(split, config.sequence_length, config.frame_stride) for split in ("train", "val"))
    yield data.stage(
        "tokenizer",
        tokenizer,
        Loader(clips, config.tokenizer.batch, config.seed).batches,
        config.tokenizer,
        clip_frames=config.sequence_length,
        validate=clip_check(tokenizer, held_out),
    )
    prior.codebook.copy_(tokenizer.codebook.vectors)
    batches = encoded_batches(
        Loader(clips, config.dynamics.batch, config.seed).batches,
        tokenizer,
        context_frames=config.dynamics.cond_frames,
        n_latents=config.sequence_length // config.tokenizer.downsample[0],
        context_only_prob=config.dynamics.context_only_prob,
        seed=config.seed,
    )
    yield data.stage(
        "dynamics",
        prior,
        batches,
        config.dynamics,
        clip_frames=config.sequence_length,
        validate=prior_check(tokenizer, prior, held_out),
    )
