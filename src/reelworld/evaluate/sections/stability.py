"""Stability of long open-loop rollouts: six statistics per block of 50 frames, within the range of recordings.

A block of the rollout passes if each of its statistics is in the range of 99% of the recorded blocks. Global brightness
and contrast stay normal in most failures. The motion detects a frozen frame; the edges detect a uniform texture.

Shapes: n runs, T frames, B blocks, H W pixel rows and columns, S steps, K numbers of a block
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelworld.evaluate.protocol import BLOCK, fixed_clip, given_frames, read_episode
from reelworld.evaluate.results import Metric, MetricBuilder, Series, Text, not_applicable
from reelworld.evaluate.samples import Evaluation, Starts, roll_long
from reelworld.evaluate.sections import Details, Item, Section
from reelworld.evaluate.sections.simulator import play_actions
from reelworld.types import Clip, UserError

HOP = 25
"""Frames between the beginnings of recorded blocks: they may overlap, blocks of a rollout do not."""
MIN_BLOCKS = 20
"""Fewer recorded blocks give no range."""
QUANTILES = (0.005, 0.995)
NUMBERS = ("red", "green", "blue", "contrast", "edges", "motion")
"""Numbers of a block, in this order."""
ROUNDING = np.array([0.5, 0.5, 0.5, 0.5, 0, 0])
"""Tolerance of each range in grey levels."""
RECORDED = "under recorded actions, those of the next clip when a clip ends"
ALONE = "by itself"
GREY = np.array([0.299, 0.587, 0.114], np.float32)
MAX_FRAMES = 15_000
"""Recorded frames that the range is computed from."""

TEXTS = {
    "stability_within": Text(
        "Blocks within the recordings' range",
        "Blocks of 50 frames whose six numbers below are all in the range of 99% of recorded blocks. A frozen picture "
        "fails, and so does one texture all over.",
    ),
    "stability_last_within": Text("... the last block of each run", "The same at the end of the run."),
    "stability_red": Text("Red within range", "Blocks whose mean red is in the recordings' range."),
    "stability_green": Text("Green within range", "The same for green."),
    "stability_blue": Text("Blue within range", "The same for blue."),
    "stability_contrast": Text(
        "Contrast within range", "The same for the standard deviation of brightness in a frame."
    ),
    "stability_edges": Text("Edges within range", "The same for the energy of brightness gradients: detail."),
    "stability_motion": Text("Motion within range", "The same for the mean difference of neighbouring frames."),
}


def block_numbers(frames: np.ndarray, hop: int = BLOCK) -> np.ndarray:
    """Compute the numbers of each block of a run.

    Args:
        frames: uint8, (T, H, W, 3).
        hop: Frames from the beginning of a block to that of the next.

    Returns:
        float64, (B, 6), in grey levels (edges: squared): mean red, green and blue; the standard deviation of the
        brightness over a frame; the mean squared difference of neighbouring pixels' brightness, down plus across;
        the mean absolute difference of neighbouring frames. Frames that do not fill a block are left out.
    """
    starts = range(0, len(frames) - BLOCK + 1, hop)
    rows = [_numbers(frames[start : start + BLOCK]) for start in starts]
    return np.array(rows, np.float64).reshape(-1, len(NUMBERS))


def _numbers(frames: np.ndarray) -> list[float]:
    floats = frames.astype(np.float32)
    grey = floats @ GREY
    edges = np.square(np.diff(grey, axis=1)).mean() + np.square(np.diff(grey, axis=2)).mean()
    motion = np.abs(np.diff(floats, axis=0)).mean()
    return [*floats.mean((0, 1, 2), np.float64).tolist(), float(grey.std((1, 2)).mean()), float(edges), float(motion)]


@dataclass(frozen=True)
class RealRange:
    """Range of the numbers of recorded blocks."""

    low: np.ndarray
    """float64, (6,)."""
    high: np.ndarray
    middle: np.ndarray
    n_blocks: int

    @classmethod
    def of(cls, clips: Iterable[np.ndarray]) -> RealRange | None:
        """Compute the range of recordings, uint8 (T, H, W, 3) each; None if they hold too few blocks."""
        parts: list[np.ndarray] = []
        n_frames = 0
        for frames in clips:
            if n_frames >= MAX_FRAMES:
                break
            parts.append(block_numbers(frames, HOP))
            n_frames += len(frames)
        blocks = np.concatenate(parts) if parts else np.zeros((0, len(NUMBERS)))
        if len(blocks) < MIN_BLOCKS:
            return None
        low, high = np.quantile(blocks, QUANTILES, axis=0)
        return cls(low, high, np.median(blocks, axis=0), len(blocks))

    def within(self, blocks: np.ndarray) -> np.ndarray:
        """Return True for each number of each block that is in the range, bool (..., 6).

        Colours and contrast have a tolerance of half a grey level: in rendered games they hardly differ between
        recordings, and the rounding of a decoder would exceed the range.
        """
        within: np.ndarray = (blocks >= self.low - ROUNDING) & (blocks <= self.high + ROUNDING)
        return within


def cycled_actions(clips: Sequence[Clip], context: int, n_steps: int) -> dict[str, np.ndarray]:
    """Give every clip's run recorded actions for its whole length.

    Run i takes the actions of clip i from its last context frame to its end, then those of clip i + 1 from its
    beginning, and so on round the list.

    Args:
        clips: One per run.
        context: Context frames.
        n_steps: Steps S.

    Returns:
        Stream -> (n, S, ...).
    """
    result = {}
    for name in clips[0].actions:
        whole = [clip.actions[name][:-1] for clip in clips]
        rows = []
        for i in range(len(clips)):
            parts, following = [whole[i][context - 1 :]], i
            while sum(map(len, parts)) < n_steps:
                following = (following + 1) % len(clips)
                parts.append(whole[following])
            rows.append(np.concatenate(parts)[:n_steps])
        result[name] = np.stack(rows)
    return result


def measure(evaluation: Evaluation) -> Iterator[Item]:
    """Run long rollouts and compare the blocks with those of recordings."""
    world, config, context = evaluation.world, evaluation.config, given_frames(evaluation.spec)
    clips, n_steps = evaluation.wide[: config.stability_runs], config.stability_steps
    starts = Starts.at_beginning(clips, context, 1)
    actions = cycled_actions(clips, context, n_steps)
    runs = roll_long(world, starts, actions, n_steps, config.seed)
    beside = {
        "held-out recordings": [clip.frames for clip in evaluation.wide],
        "standing still": [np.repeat(last[-1:], BLOCK, 0) for last in starts.context],
        **_simulator_runs(evaluation, actions),
    }
    real = RealRange.of(_training_frames(evaluation))
    how = RECORDED if evaluation.spec.actions else ALONE
    yield Details(steps=str(n_steps), how=how, blocks=str(real.n_blocks if real else 0))
    yield from block_metrics(runs, beside, real, config.seed)


def _training_frames(evaluation: Evaluation) -> Iterator[np.ndarray]:
    """Read training episodes in the world's format."""
    for i in evaluation.train.indices("train") or evaluation.train.indices("all"):
        yield read_episode(evaluation.world, evaluation.train, i).frames


def _simulator_runs(evaluation: Evaluation, actions: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Run the simulator under the same actions, where it is installed and takes them."""
    try:
        return {"the game itself, same actions": play_actions(evaluation, actions)}
    except UserError:  # the section of the simulator says what is missing
        return {}


def block_metrics(
    runs: np.ndarray, beside: Mapping[str, Sequence[np.ndarray]], real: RealRange | None, seed: int
) -> Iterator[Metric | Series]:
    """Compare the blocks of long runs with the range of recordings.

    Args:
        runs: Frames of the world, uint8 (n, S, H, W, 3).
        beside: Name -> other videos, uint8 (T, H, W, 3) each, judged in the same way.
        real: None where the recordings give no range.
        seed: Of the bootstrap.
    """
    if real is None:
        reason = (
            f"Missing: {MIN_BLOCKS} blocks of {BLOCK} frames in training recordings, which give the usual range. "
            "Record longer episodes."
        )
        yield not_applicable("stability_missing", "Blocks within the recordings' range", reason)
        return
    blocks = np.stack([block_numbers(run) for run in runs])  # (n, B, K)
    others = {name: [real.within(block_numbers(video)) for video in videos] for name, videos in beside.items()}
    as_long = {name: [w for w in rows if len(w) == blocks.shape[1]] for name, rows in others.items()}
    ends = {name: float(np.mean([w[-1].all() for w in rows])) for name, rows in as_long.items() if rows}
    whole = {name: np.concatenate(rows) for name, rows in others.items() if any(map(len, rows))}
    within, make = real.within(blocks), MetricBuilder(TEXTS, np.arange(len(runs)), seed)
    all_within = {name: float(v.all(-1).mean()) for name, v in whole.items()}
    every = np.asarray(within.all(-1))
    yield make.fraction("stability_within", every, "blocks", baselines=all_within)
    yield make.fraction("stability_last_within", every[:, -1], "runs", baselines=ends)
    for k, name in enumerate(NUMBERS):
        alone = {other: float(v[:, k].mean()) for other, v in whole.items()}
        yield make.fraction(f"stability_{name}", within[..., k], "blocks", baselines=alone)
    for k, name in enumerate(NUMBERS):
        yield _series(k, name, blocks[..., k], real)


def _series(k: int, name: str, values: np.ndarray, real: RealRange) -> Series:
    """Build lines of one number block by block, (n, B), beside the middle and the ends of the recordings' range."""
    n_blocks, mean = values.shape[1], values.mean(0)
    lines = {"recordings: middle": real.middle[k], "0.5%": real.low[k], "99.5%": real.high[k]}
    error = np.std(values, 0, ddof=1) / math.sqrt(len(values)) * 1.96 if len(values) > 1 else np.full(n_blocks, np.nan)
    return Series(
        name=f"stability_{name}",
        label=f"{name.capitalize()}, block by block",
        x_label="frame",
        y_label="grey levels squared" if name == "edges" else "grey levels",
        unit="",
        x=tuple(float(BLOCK * (b + 1)) for b in range(n_blocks)),
        lines={"world": tuple(mean.tolist()), **{k: (float(v),) * n_blocks for k, v in lines.items()}},
        low=tuple((mean - error).tolist()),
        high=tuple((mean + error).tolist()),
    )


SECTION = Section(
    name="stability",
    title="Stability over {steps} frames",
    description="The world runs for {steps} frames {how}. Blocks of 50 frames are compared with {blocks} blocks of "
    "recordings: a number is within range where 99% of those are.",
    applies=lambda spec, _data, config: config.stability_steps > 0 and not fixed_clip(spec),
    measure=measure,
)
