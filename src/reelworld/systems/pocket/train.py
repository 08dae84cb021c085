"""Pocket: a small playable world from your own recordings, on a laptop CPU, in minutes.

    reelworld train pocket --data RECORDINGS --out runs/mine

Expected: see docs/systems/pocket.md, with hardware, seeds and the command of every figure. Not a published
system; the parts it borrows name their sources.
"""

from __future__ import annotations

import logging
import math
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
from reelworld.systems.pocket.patch_table import choose_patches
from reelworld.systems.pocket.tokenizer import PatchTokenizer
from reelworld.train.data import TrainingData
from reelworld.train.foreground_report import check_foreground, report_foreground
from reelworld.train.stage import Stage
from reelworld.train.validation import dynamics_check, tokenizer_check

log = logging.getLogger(__name__)

LEAST_GAIN = 3.0
"""Least gain in foreground PSNR, dB, for which a table replaces the learned code."""
ENOUGH_KEPT, ENOUGH_PSNR = 0.98, 35.0
"""Foreground mass and PSNR (dB) from which on the learned code stays."""
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
    if "tokenizer" not in data.given:
        choose_code(config, tokenizer, pool, data)
    report_foreground(tokenizer, data.dataset, data.folder)
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


def choose_code(config: Config, tokenizer: PatchTokenizer, pool: PatchPool, data: TrainingData) -> None:
    """Choose between the learned code and a table of patches, by what validation frames keep of the foreground.

    The choice is a function of the weights and the recordings, so a resumed run repeats it.
    """
    if config.tokenizer.table != "never":
        tokenizer.use_table(None)
        learned = check_foreground(tokenizer, data.dataset)
        numbers = choose_patches(pool.patches, pool.counts, math.prod(tokenizer.config.levels))
        tokenizer.use_table(pool.patches[numbers])
        table = check_foreground(tokenizer, data.dataset)
        is_better = table.figures.psnr > learned.figures.psnr + LEAST_GAIN
        is_better &= table.figures.kept_mass >= learned.figures.kept_mass
        is_lossy = learned.figures.kept_mass < ENOUGH_KEPT or learned.figures.psnr < ENOUGH_PSNR
        if config.tokenizer.table == "auto" and not (is_lossy and is_better):
            tokenizer.use_table(None)
        chosen = f"a table of {len(numbers):,} patches" if tokenizer.config.uses_table else "the learned code"
        log.warning(
            "codes: %s. Of what differs from the median picture, validation frames keep %.1f%% (%.1f dB) with the "
            "learned code, %.1f%% (%.1f dB) with a table of patches.",
            *(chosen, 100 * learned.figures.kept_mass, learned.figures.psnr),
            *(100 * table.figures.kept_mass, table.figures.psnr),
        )


def code_clips(config: Config, store: Dataset, split: str) -> ClipIndex:
    """Cut stored codes into training clips."""
    return ClipIndex(store, split, config.clip_frames, config.frame_stride, config.merge)
