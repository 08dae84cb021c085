"""Whether a long run still looks and moves like the game: six plain numbers per block of 50 frames.

A block of the run counts when each of its numbers lies where 99% of the blocks of recordings lie. Global brightness
and contrast stay normal through most failures; a picture that stands still fails by its motion, one texture all over
by its edges.

Shapes: n runs, T frames, B blocks, H W pixel rows and columns, S steps, K numbers of a block
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.evaluate.figures import Curve, Figure, Section, missing_figure, share_figure

if TYPE_CHECKING:
    from reelworld.evaluate.clips import Starts
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = [
    "ALONE",
    "BLOCK",
    "NUMBERS",
    "TOLD",
    "RealRange",
    "block_numbers",
    "cycled_actions",
    "drift_section",
    "run_on",
]

BLOCK = 50
"""Frames of a block."""
HOP = 25
"""Blocks of recordings begin so many frames apart: they may overlap, blocks of a run do not."""
MIN_BLOCKS = 20
"""Fewer recorded blocks show no range."""
QUANTILES = (0.005, 0.995)
NUMBERS = ("red", "green", "blue", "contrast", "edges", "motion")
"""What is computed of a block, in this order."""
ROUNDING = np.array([0.5, 0.5, 0.5, 0.5, 0, 0])
"""Grey levels by which each number may miss its range."""
TOLD = "under recorded actions, those of the next clip when a clip ends"
ALONE = "by itself"
GREY = np.array([0.299, 0.587, 0.114], np.float32)
MOST_FRAMES = 15_000
"""Recorded frames that are looked at."""


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
    """Where the blocks of recordings lie."""

    low: np.ndarray
    """float64, (6,)."""
    high: np.ndarray
    middle: np.ndarray
    n_blocks: int

    @classmethod
    def of(cls, clips: Iterable[np.ndarray]) -> RealRange | None:
        """Look at recordings, uint8 (T, H, W, 3) each, up to 15,000 frames; None where they hold too few blocks."""
        found: list[np.ndarray] = []
        n_frames = 0
        for frames in clips:
            if n_frames >= MOST_FRAMES:
                break
            found.append(block_numbers(frames, HOP))
            n_frames += len(frames)
        blocks = np.concatenate(found) if found else np.zeros((0, len(NUMBERS)))
        if len(blocks) < MIN_BLOCKS:
            return None
        low, high = np.quantile(blocks, QUANTILES, axis=0)
        return cls(low, high, np.median(blocks, axis=0), len(blocks))

    def within(self, blocks: np.ndarray) -> np.ndarray:
        """Say of each number of each block whether it lies in the range, bool (..., 6).

        Colours and contrast may be half a grey level off: in drawn games they hardly differ between recordings, and
        what a decoder rounds would count.
        """
        within: np.ndarray = (blocks >= self.low - ROUNDING) & (blocks <= self.high + ROUNDING)
        return within


def cycled_actions(clips: Sequence[Clip], context: int, n_steps: int) -> dict[str, np.ndarray]:
    """Give every clip's run recorded actions for as long as it lasts.

    Run i takes the actions of clip i from its last context frame to its end, then those of clip i + 1 from its
    beginning, and so on round the list.

    Args:
        clips: Where the runs begin.
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
            parts = [whole[i][context - 1 :]]
            following = i
            while sum(map(len, parts)) < n_steps:
                following = (following + 1) % len(clips)
                parts.append(whole[following])
            rows.append(np.concatenate(parts)[:n_steps])
        result[name] = np.stack(rows)
    return result


def run_on(world: World, starts: Starts, actions: Mapping[str, np.ndarray], n_steps: int, seed: int) -> np.ndarray:
    """Let a world run; where it says that the episode ends, it begins again at its start, as a player would.

    Args:
        world: The world.
        starts: Where the runs begin.
        actions: Stream -> (n, S, ...).
        n_steps: Steps S.
        seed: Of the noise.

    Returns:
        uint8, (n, S, H, W, 3).
    """
    session = world.session(n=len(starts.clip))

    def begin(rows: np.ndarray, **how: Any) -> None:
        before = {k: starts.context_actions[k][rows] for k in world.info.actions}
        if world.info.classes and starts.class_id is not None:
            how["class_id"] = starts.class_id[rows]
        if world.has_goal:
            how["goal"] = starts.future[rows, -1]
        session.reset(starts.context[rows], before or None, **how)

    begin(np.arange(len(starts.clip)), seed=seed)
    frames = []
    for s in range(n_steps):
        result = session.step({k: actions[k][:, s] for k in world.info.actions} or None)
        frames.append(result.frame)
        if (over := np.flatnonzero(result.terminated)).size:
            begin(over, streams=over.tolist())
    return np.stack(frames, 1)


def drift_section(
    runs: np.ndarray, beside: Mapping[str, Sequence[np.ndarray]], real: RealRange | None, seed: int, how: str = TOLD
) -> Section:
    """Compare the blocks of long runs with the range of recordings.

    Args:
        runs: Frames of the world, uint8 (n, S, H, W, 3).
        beside: Name -> other videos, uint8 (T, H, W, 3) each, judged in the same way.
        real: None where the recordings show no range.
        seed: Of the bootstrap.
        how: What the runs were told, in words.
    """
    n_steps = runs.shape[1]
    figures: list[Figure] = []
    curves: list[Curve] = []
    if real is None:
        why = (
            f"Missing: {MIN_BLOCKS} blocks of {BLOCK} frames in training recordings, which show what is usual. Record "
            "longer episodes."
        )
        figures.append(missing_figure("drift_missing", "Blocks that look and move like the game", why))
    else:
        blocks = np.stack([block_numbers(run) for run in runs])  # (n, B, K)
        others = {name: [real.within(block_numbers(video)) for video in videos] for name, videos in beside.items()}
        as_long = {name: [w for w in rows if len(w) == blocks.shape[1]] for name, rows in others.items()}
        ends = {name: float(np.mean([w[-1].all() for w in rows])) for name, rows in as_long.items() if rows}
        whole = {name: np.concatenate(rows) for name, rows in others.items() if any(map(len, rows))}
        figures += _figures(real.within(blocks), whole, ends, seed)
        curves = [_curve(k, name, blocks[..., k], real) for k, name in enumerate(NUMBERS)]
    return Section(
        name="drift",
        label=f"Does it still look like the game after {n_steps} frames?",
        explanation=f"The world runs for {n_steps} frames {how}. Blocks of {BLOCK} frames are compared with "
        f"{real.n_blocks if real else 0} blocks of recordings: a number counts as usual where 99% of those lie.",
        figures=tuple(figures),
        curves=tuple(curves),
    )


def _figures(
    within: np.ndarray, others: Mapping[str, np.ndarray], ends: Mapping[str, float], seed: int
) -> list[Figure]:
    """Count blocks in the range, bool (n, B, K): all numbers together, at the end of the run, and each number alone."""
    n_runs, n_blocks, _ = within.shape
    is_usual = np.asarray(within.all(-1))
    each = np.full(n_runs, n_blocks)
    beside = {name: float(v.all(-1).mean()) for name, v in others.items()}
    figures = [
        share_figure("drift_within", is_usual.sum(1), each, "blocks", seed, beside),
        share_figure("drift_last_within", is_usual[:, -1], np.ones(n_runs), "runs", seed, ends),
    ]
    for k, name in enumerate(NUMBERS):
        alone = {other: float(v[:, k].mean()) for other, v in others.items()}
        figures.append(share_figure(f"drift_{name}", within[..., k].sum(1), each, "blocks", seed, alone))
    return figures


def _curve(k: int, name: str, values: np.ndarray, real: RealRange) -> Curve:
    """Draw one number block by block, (n, B), beside the middle and the ends of the recordings' range."""
    n_blocks = values.shape[1]
    lines = {"recordings: middle": real.middle[k], "0.5%": real.low[k], "99.5%": real.high[k]}
    spread = np.std(values, 0, ddof=1) / math.sqrt(len(values)) * 1.96 if len(values) > 1 else np.full(n_blocks, np.nan)
    mean = values.mean(0)
    return Curve(
        name=f"drift_{name}",
        label=f"{name.capitalize()}, block by block",
        x_label="frame",
        y_label="grey levels squared" if name == "edges" else "grey levels",
        unit="",
        x=tuple(float(BLOCK * (b + 1)) for b in range(n_blocks)),
        series={"world": tuple(mean.tolist()), **{k: (float(v),) * n_blocks for k, v in lines.items()}},
        low=tuple((mean - spread).tolist()),
        high=tuple((mean + spread).tolist()),
    )
