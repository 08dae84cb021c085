"""Pocket: a small playable world from your own recordings, on a laptop CPU, in minutes.

    reelworld train pocket --data RECORDINGS --out runs/mine

Expected: see docs/systems/pocket.md, with hardware, seeds and the command of every figure. Not a published
system; the parts it borrows name their sources.
"""

from __future__ import annotations

from collections.abc import Iterator

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset
from reelworld.data.loader import Loader
from reelworld.data.rare_events import event_weights, reward_scale
from reelworld.models.parts import take
from reelworld.models.world_model import WorldModel
from reelworld.systems.pocket.config import Config
from reelworld.systems.pocket.dynamics import PocketDynamics
from reelworld.systems.pocket.model import PATCH
from reelworld.systems.pocket.patch_pool import PatchPool
from reelworld.systems.pocket.tokenizer import PatchTokenizer
from reelworld.train.data import TrainingData
from reelworld.train.stage import Stage
from reelworld.train.validation import dynamics_check, tokenizer_check

TILE_FRACTION = 0.02
"""Recordings with fewer distinct patches than this fraction are treated as tile games."""


def stages(config: Config, model: WorldModel, data: TrainingData) -> Iterator[Stage]:
    """Train the tokenizer on frames, encode the recordings, train the dynamics on the codes."""
    data.require_length("clip_frames", stride=config.frame_stride)
    data.require_length("context_frames", ("val",), config.frame_stride)
    tokenizer = take(model.parts, "tokenizer", PatchTokenizer)
    dynamics = take(model.parts, "dynamics", PocketDynamics)
    frames = Loader(data.clips("train", 1), config.tokenizer.batch, config.seed)
    pool = PatchPool.of(data.dataset, PATCH)
    prob = config.tokenizer.mosaic_prob if pool.distinct_fraction < TILE_FRACTION else 0.0
    yield data.stage(
        "tokenizer",
        tokenizer,
        lambda start: pool.mixed(frames, prob, start),
        config.tokenizer,
        clip_frames=1,
        validate=tokenizer_check(tokenizer, data.dataset),
    )
    store = data.encode(tokenizer).dataset
    clips = code_clips(config, store, "train")
    dynamics.reward_scale.fill_(reward_scale(clips))
    loader = Loader(
        clips,
        config.dynamics.batch,
        config.seed,
        weights=event_weights(clips),
        weighted_fraction=config.dynamics.rare_event_fraction,
    )
    yield data.stage(
        "dynamics",
        dynamics,
        loader.batches,
        config.dynamics,
        clip_frames=config.clip_frames - 1,
        validate=dynamics_check(dynamics, code_clips(config, store, "val")),
    )


def code_clips(config: Config, store: Dataset, split: str) -> ClipIndex:
    """Cut stored codes into training clips."""
    return ClipIndex(store, split, config.clip_frames, config.frame_stride, config.merge)
