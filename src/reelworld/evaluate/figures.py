"""Figures: a value, its 95% bootstrap interval over clips, the number of trials, what stands beside it.

Every figure here is a function of totals that add up over clips (hits and trials, squared error and frames).
Resampling clips therefore means re-adding rows, which makes thousands of resamples one matrix product. Clips,
not frames, are resampled: frames of one episode resemble each other and would make intervals far too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from reelworld.evaluate.words import Better, words

__all__ = [
    "Curve",
    "Figure",
    "Section",
    "Unit",
    "bootstrap",
    "build",
    "db",
    "gain_figure",
    "missing_figure",
    "per_clip",
    "psnr_figure",
    "r2_figure",
    "ratio_figure",
    "share_figure",
    "share_interval",
]

N_RESAMPLES = 2000
LEVEL = 0.95

Unit = Literal["share", "points", "dB", "nats", "codes", "distance", ""]
Interval = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number about a world, as it is kept in the results."""

    name: str
    """Stable key, e.g. 'one_step_frames_exact'; its words are in words.py."""
    label: str
    value: float
    low: float
    """Lower end of the 95% interval; NaN when a single clip allows none."""
    high: float
    unit: Unit
    n: int
    """Trials; 0 where nothing could be measured."""
    trials: str
    """What was counted: frames, tiles, events, ..."""
    n_clips: int
    """Independent clips behind the number; intervals resample these."""
    better: Better
    explanation: str
    baselines: Mapping[str, float] = field(default_factory=dict)
    """Name -> the same number for something simpler on the same clips."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Figures along one axis (horizon, step): one line per series."""

    name: str
    label: str
    x_label: str
    y_label: str
    unit: Unit
    x: tuple[float, ...]
    series: Mapping[str, tuple[float, ...]]
    """Series name -> one value per x; NaN where nothing was measured. The first is the world."""
    low: tuple[float, ...] = ()
    """Interval of the first series."""
    high: tuple[float, ...] = ()
    n: tuple[int, ...] = ()
    """Trials behind each x."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Figures and curves that answer one question."""

    name: str
    label: str
    explanation: str
    figures: tuple[Figure, ...] = ()
    curves: tuple[Curve, ...] = ()


def bootstrap(
    totals: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Compute a statistic of column totals and its percentile interval over clips.

    Args:
        totals: float, (clips, K); row c holds what clip c adds to each of K totals.
        statistic: Maps totals (..., K) to values (...).
        seed: Of the resampling.
        n_resamples: Fewer for statistics that are slow to compute.

    Returns:
        Value, low, high; the interval is NaN for fewer than two clips.
    """
    totals = np.asarray(totals, np.float64)
    n_clips = len(totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(totals.sum(0)))
        if n_clips < 2:
            return value, math.nan, math.nan
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(n_clips, np.full(n_clips, 1 / n_clips), n_resamples)
        values = statistic(draws @ totals)
    values = values[~np.isnan(values)]
    if not len(values):
        return value, math.nan, math.nan
    # linear interpolation between two infinities is NaN; order statistics are not
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return value, float(low), float(high)


def per_clip(values: np.ndarray, clip: np.ndarray, n_clips: int) -> np.ndarray:
    """Add up values (n,) or (n, ...) by the clip they belong to, clip (n,) -> float64 (n_clips,)."""
    flat = np.asarray(values, np.float64).reshape(len(clip), -1).sum(1)
    return np.bincount(clip, flat, minlength=n_clips)


def db(mean_squared_error: np.ndarray | float) -> np.ndarray:
    """Turn the mean squared error of pixels in 0..255 into PSNR in dB; 0 becomes infinity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(255.0**2 / np.asarray(mean_squared_error, np.float64))


def build(
    name: str,
    interval: Interval,
    *,
    unit: Unit,
    n: int,
    trials: str,
    n_clips: int,
    baselines: Mapping[str, float] | None = None,
    **values: str,
) -> Figure:
    """Put a value and its interval together with the words of its name (``values`` fill the words in)."""
    text = words(name, **values)
    value, low, high = interval
    return Figure(
        name=name,
        label=text.label,
        value=value,
        low=low,
        high=high,
        unit=unit,
        n=n,
        trials=trials,
        n_clips=n_clips,
        better=text.better,
        explanation=text.explanation,
        baselines=baselines or {},
    )


def share_figure(
    name: str,
    hits: np.ndarray,
    trials: np.ndarray,
    kind: str,
    seed: int = 0,
    baselines: Mapping[str, float] | None = None,
    **values: str,
) -> Figure:
    """Build a share from hits and trials per clip, (clips,) each."""
    totals = _rows(hits, trials)
    interval, n = share_interval(hits, trials, seed), int(totals[:, 1].sum())
    return build(name, interval, unit="share", n=n, trials=kind, n_clips=len(totals), baselines=baselines, **values)


def share_interval(hits: np.ndarray, trials: np.ndarray, seed: int = 0) -> Interval:
    """Compute a share and its interval from hits and trials per clip, (clips,) each.

    When every trial agrees, resampling cannot show any doubt; the interval then ends at the exact binomial
    (Clopper-Pearson) bound for that many trials.
    """
    totals = _rows(hits, trials)
    value, low, high = bootstrap(totals, _ratio, seed)
    n = int(totals[:, 1].sum())
    if n and value in (0.0, 1.0):
        reach = ((1 - LEVEL) / 2) ** (1 / n)
        low, high = (reach, 1.0) if value == 1.0 else (0.0, 1 - reach)
    return value, low, high


def ratio_figure(
    name: str,
    sums: np.ndarray,
    counts: np.ndarray,
    kind: str,
    unit: Unit,
    seed: int = 0,
    baselines: Mapping[str, float] | None = None,
    **values: str,
) -> Figure:
    """Build a mean from sums and counts per clip, (clips,) each."""
    totals = _rows(sums, counts)
    interval, n = bootstrap(totals, _ratio, seed), int(totals[:, 1].sum())
    return build(name, interval, unit=unit, n=n, trials=kind, n_clips=len(totals), baselines=baselines, **values)


def psnr_figure(
    name: str,
    squared_errors: np.ndarray,
    counts: np.ndarray,
    kind: str = "frames",
    seed: int = 0,
    baselines: Mapping[str, float] | None = None,
    **values: str,
) -> Figure:
    """Build a PSNR from per-clip sums of frame-mean squared errors and frame counts, (clips,) each.

    The squared errors are averaged over frames first and turned into dB once: frames that are exactly right
    then count as they should, instead of as infinity.
    """
    totals = _rows(squared_errors, counts)
    interval, n = bootstrap(totals, lambda t: db(_ratio(t)), seed), int(totals[:, 1].sum())
    return build(name, interval, unit="dB", n=n, trials=kind, n_clips=len(totals), baselines=baselines, **values)


def gain_figure(
    name: str,
    squared_errors: np.ndarray,
    other_squared_errors: np.ndarray,
    counts: np.ndarray,
    seed: int = 0,
    kind: str = "frames",
    **values: str,
) -> Figure:
    """Build a difference of two PSNRs measured on the same frames, in dB, with a paired interval."""
    totals = _rows(squared_errors, other_squared_errors, counts)

    def difference(t: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = 10 * np.log10(t[..., 1] / t[..., 0])
        # two perfect predictions differ by nothing, not by inf - inf
        gain = np.where((t[..., 0] == 0) & (t[..., 1] == 0), 0.0, gain)
        return np.where(t[..., 2] > 0, gain, math.nan)

    interval, n = bootstrap(totals, difference, seed), int(totals[:, 2].sum())
    return build(name, interval, unit="dB", n=n, trials=kind, n_clips=len(totals), baselines=None, **values)


def r2_figure(
    name: str,
    true: np.ndarray,
    expected: np.ndarray,
    clip: np.ndarray,
    kind: str,
    seed: int = 0,
    baselines: Mapping[str, float] | None = None,
    **values: str,
) -> Figure:
    """Build the explained share of variance, 1 - squared error / variance, mean over the columns that vary.

    Args:
        name: Of the figure.
        true: (n, K).
        expected: (n, K); always the mean has 0, worse is below.
        clip: int64, (n,): which clip each row is from.
        kind: What a row is.
        seed: Of the bootstrap.
        baselines: Beside it.
        values: For the words.
    """
    true, expected = np.asarray(true, np.float64), np.asarray(expected, np.float64)
    centred = true - true.mean(0)  # the same share, with smaller squares to subtract
    columns = [centred, centred**2, (expected - true) ** 2]
    sums = [np.stack([per_clip(c, clip, int(clip.max()) + 1) for c in column.T], 1) for column in columns]
    counts = per_clip(np.ones(len(clip)), clip, int(clip.max()) + 1)
    totals = np.concatenate([*sums, counts[:, None]], 1)
    totals = totals[totals[:, -1] > 0]
    k = true.shape[1]

    def statistic(t: np.ndarray) -> np.ndarray:
        total, squares, errors, n = t[..., :k], t[..., k : 2 * k], t[..., 2 * k : 3 * k], t[..., -1:]
        variance = squares - total**2 / n
        varies = variance > 1e-12 * np.maximum(squares, 1e-300)
        share = np.where(varies, 1 - errors / np.where(varies, variance, 1), 0)
        return np.where(varies.any(-1), share.sum(-1) / np.maximum(varies.sum(-1), 1), math.nan)

    interval = bootstrap(totals, statistic, seed)
    return build(name, interval, unit="", n=len(true), trials=kind, n_clips=len(totals), baselines=baselines, **values)


def missing_figure(name: str, label: str, why: str) -> Figure:
    """Build a row that says why something was not measured, and what to do."""
    nan = math.nan
    return Figure(
        name=name, label=label, value=nan, low=nan, high=nan, unit="", n=0, trials="", n_clips=0, better="",
        explanation=why,
    )  # fmt: skip


def _rows(*columns: np.ndarray) -> np.ndarray:
    """Stack per-clip columns and drop the clips that add no trial (last column)."""
    totals = np.stack([np.asarray(c, np.float64) for c in columns], -1)
    return totals[totals[:, -1] > 0]


def _ratio(totals: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return totals[..., 0] / totals[..., 1]
