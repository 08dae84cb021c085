"""Metrics, series and sections of an evaluation, their builders, and results.json.

In results.json infinity (a prediction without any error, in dB) is the string "inf"; what was not measured is null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from reelworld.evaluate.metrics import (
    N_RESAMPLES,
    Interval,
    bootstrap,
    db,
    fraction_interval,
    per_clip,
    ratio,
)

FORMAT_VERSION = 2

P = TypeVar("P")

Better = Literal["higher", "lower", "near the data", ""]
Unit = Literal["share", "points", "dB", "nats", "codes", "distance", ""]
Trials = Mapping[str, "np.ndarray | float"]
"""Name of a baseline -> its value for each trial, or one number."""


@dataclass(frozen=True)
class Text:
    """Label and description of a metric; {names} in both are filled in by the section, {h} by the horizon."""

    label: str
    description: str
    better: Better = "higher"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number about a world with its 95% bootstrap interval over clips and its baselines."""

    name: str
    """Stable key, e.g. 'one_step_frames_exact'."""
    label: str
    value: float
    low: float
    """Lower end of the interval; NaN when a single clip allows none."""
    high: float
    unit: Unit
    n: int
    """Trials; 0 where nothing could be measured."""
    trials: str
    """Kind of the trials: frames, tiles, events, ..."""
    n_clips: int
    """Number of independent clips."""
    better: Better
    description: str
    baselines: Mapping[str, float] = field(default_factory=dict)
    """Baseline -> its value on the same clips."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Lines over one axis (horizon, step)."""

    name: str
    label: str
    x_label: str
    y_label: str
    unit: Unit
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float, ...]]
    """Name -> one value per x; NaN where nothing was measured. The first is the world."""
    low: tuple[float, ...] = ()
    """Interval of the first line."""
    high: tuple[float, ...] = ()
    n: tuple[int, ...] = ()
    """Trials per x."""


@dataclass(frozen=True, kw_only=True)
class SectionResult:
    """Metrics and series of one section."""

    name: str
    title: str
    description: str
    metrics: tuple[Metric, ...] = ()
    series: tuple[Series, ...] = ()


@dataclass(frozen=True)
class MetricBuilder:
    """Builds the metrics and series of a section from values of single trials."""

    texts: Mapping[str, Text]
    """Stem of a metric's name (without ``_h4``) -> its text."""
    clip: np.ndarray
    """int64, (n,): clip that each row of values is from; intervals resample these."""
    seed: int = 0

    def fraction(
        self,
        name: str,
        hits: np.ndarray,
        trials: str,
        mask: np.ndarray | None = None,
        baselines: Trials | None = None,
        **words: str,
    ) -> Metric:
        """Build a fraction.

        Args:
            name: Of the metric.
            hits: bool or float in 0..1, (n, ...).
            trials: Kind of the trials.
            mask: bool, of the first axes of ``hits``: trials that count.
            baselines: Hits of baselines, or their fractions.
            words: Values of the {names} in the text.
        """
        totals = self._totals(hits, mask=mask)
        interval = fraction_interval(totals[:, 0], totals[:, 1], self.seed)
        return self._of(name, interval, totals, "share", trials, self._beside(np.asarray, baselines, mask), words)

    def mean(
        self,
        name: str,
        values: np.ndarray,
        trials: str,
        unit: Unit = "",
        mask: np.ndarray | None = None,
        baselines: Trials | None = None,
        **words: str,
    ) -> Metric:
        """Build a mean of values (n, ...)."""
        totals = self._totals(values, mask=mask)
        interval = bootstrap(totals, ratio, self.seed)
        return self._of(name, interval, totals, unit, trials, self._beside(np.asarray, baselines, mask), words)

    def psnr(
        self,
        name: str,
        errors: np.ndarray,
        trials: str = "frames",
        mask: np.ndarray | None = None,
        baselines: Trials | None = None,
        **words: str,
    ) -> Metric:
        """Build a PSNR from mean squared errors of frames (n, ...).

        The squared errors are averaged over frames first and converted to dB once, so that exact frames do not make
        the mean infinite.
        """
        totals = self._totals(errors, mask=mask)
        interval = bootstrap(totals, lambda t: db(ratio(t)), self.seed)
        return self._of(name, interval, totals, "dB", trials, self._beside(db, baselines, mask), words)

    def gain(
        self,
        name: str,
        errors: np.ndarray,
        other_errors: np.ndarray,
        trials: str = "frames",
        mask: np.ndarray | None = None,
        **words: str,
    ) -> Metric:
        """Build a difference of two PSNRs measured on the same frames, in dB, with a paired interval."""

        def difference(t: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = 10 * np.log10(t[..., 1] / t[..., 0])
            # two perfect predictions differ by nothing, not by inf - inf
            gain = np.where((t[..., 0] == 0) & (t[..., 1] == 0), 0.0, gain)
            return np.where(t[..., 2] > 0, gain, math.nan)

        totals = self._totals(errors, other_errors, mask=mask)
        return self._of(name, bootstrap(totals, difference, self.seed), totals, "dB", trials, {}, words)

    def r2(
        self,
        name: str,
        actual: np.ndarray,
        expected: np.ndarray,
        trials: str,
        baselines: Mapping[str, float] | None = None,
    ) -> Metric:
        """Build R2, 1 - squared error / variance, mean over the columns that vary.

        Args:
            name: Of the metric.
            actual: (n, K).
            expected: (n, K); always the mean has 0, worse is below.
            trials: Kind of the rows.
            baselines: R2 of others.
        """
        actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        centred = actual - actual.mean(0)  # the same fraction, with smaller squares to subtract
        columns = [c for part in (centred, centred**2, (expected - actual) ** 2) for c in part.T]
        totals, k = self._totals(*columns, mask=None), actual.shape[1]

        def statistic(t: np.ndarray) -> np.ndarray:
            total, squares, errors, n = t[..., :k], t[..., k : 2 * k], t[..., 2 * k : 3 * k], t[..., -1:]
            variance = squares - total**2 / n
            varies = variance > 1e-12 * np.maximum(squares, 1e-300)
            explained = np.where(varies, 1 - errors / np.where(varies, variance, 1), 0)
            return np.where(varies.any(-1), explained.sum(-1) / np.maximum(varies.sum(-1), 1), math.nan)

        return self._of(name, bootstrap(totals, statistic, self.seed), totals, "", trials, baselines or {}, {})

    def build(
        self,
        name: str,
        interval: Interval,
        unit: Unit,
        n: int,
        trials: str,
        baselines: Mapping[str, float] | None = None,
        n_clips: int | None = None,
        **words: str,
    ) -> Metric:
        """Build a metric from a value and its interval; its clips are all of ``clip`` unless counted otherwise."""
        text = self.texts[re.sub(r"_h\d+$", "", name)]
        horizon = re.search(r"_h(\d+)$", name)
        words = {"h": horizon[1] if horizon else "", **words}
        label, description = text.label.format(**words), text.description.format(**words)
        if words["h"] == "1":
            label, description = label.replace("1 steps", "1 step"), description.replace("1 steps", "1 step")
        value, low, high = interval
        return Metric(
            name=name,
            label=label,
            value=value,
            low=low,
            high=high,
            unit=unit,
            n=n,
            trials=trials,
            n_clips=len(np.unique(self.clip)) if n_clips is None else n_clips,
            better=text.better,
            description=description,
            baselines=baselines or {},
        )

    def series(
        self,
        name: str,
        label: str,
        lines: Mapping[str, np.ndarray],
        x: Sequence[float],
        *,
        x_label: str,
        y_label: str,
        unit: Unit,
        mask: np.ndarray | None = None,
        n_resamples: int = N_RESAMPLES,
    ) -> Series:
        """Build lines of means over trials, position by position.

        Args:
            name: Of the series.
            label: Its title.
            lines: Name -> values of trials, (n, X, ...); mean squared errors become dB where that is the unit. The
                first one gets an interval.
            x: Positions, X of them.
            x_label: Of the axis.
            y_label: Of the axis.
            unit: Of the values.
            mask: bool, (n, X): rows that count.
            n_resamples: Of the intervals.
        """
        finish: Callable[[np.ndarray], np.ndarray] = db if unit == "dB" else np.asarray
        first = next(iter(lines.values()))
        mask = np.ones(first.shape[:2], bool) if mask is None else mask
        means, intervals = {}, []
        for key, values in lines.items():
            columns = (values[mask[:, i], i] for i in range(len(x)))
            means[key] = tuple(float(finish(v.mean())) if v.size else math.nan for v in columns)
        for i in range(len(x)):
            totals = self._totals(first[:, i], mask=mask[:, i])
            intervals.append(bootstrap(totals, lambda t: finish(ratio(t)), self.seed, n_resamples))
        return Series(
            name=name,
            label=label,
            x_label=x_label,
            y_label=y_label,
            unit=unit,
            x=tuple(map(float, x)),
            lines=means,
            low=tuple(low for _, low, _ in intervals),
            high=tuple(high for _, _, high in intervals),
            n=tuple(mask.sum(0).tolist()),
        )

    def _totals(self, *values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Add up values and trials per clip, (clips, len(values) + 1); clips without a trial are left out."""
        shape, n_clips = np.shape(values[0]), int(self.clip.max(initial=-1)) + 1
        counted = np.ones(shape, bool) if mask is None else _spread(mask, shape)
        columns = [per_clip(np.where(counted, v, 0), self.clip, n_clips) for v in values]
        totals = np.stack([*columns, per_clip(counted, self.clip, n_clips)], -1)
        return totals[totals[:, -1] > 0]

    def _beside(
        self, finish: Callable[[np.ndarray], np.ndarray], baselines: Trials | None, mask: np.ndarray | None
    ) -> dict[str, float]:
        """Take means of the baselines over the trials that count."""
        result = {}
        for name, values in (baselines or {}).items():
            if isinstance(values, np.ndarray):
                some = values if mask is None else values[_spread(mask, values.shape)]
                if not some.size:
                    continue
                values = float(finish(some.mean()))
            result[name] = values
        return result

    def _of(
        self,
        name: str,
        interval: Interval,
        totals: np.ndarray,
        unit: Unit,
        trials: str,
        baselines: Mapping[str, float],
        words: Mapping[str, str],
    ) -> Metric:
        n = round(totals[:, -1].sum())
        return self.build(name, interval, unit, n, trials, baselines, len(totals), **words)


def _spread(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Broadcast a mask of the first axes to all axes."""
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


def not_applicable(name: str, label: str, reason: str) -> Metric:
    """Build an unmeasured metric with its reason, and a hint."""
    nan = math.nan
    return Metric(
        name=name, label=label, value=nan, low=nan, high=nan, unit="", n=0, trials="", n_clips=0, better="",
        description=reason,
    )  # fmt: skip


def plain(value: object) -> Any:
    """Replace floats that are not valid JSON: infinity by "inf", NaN by null."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def read_training_log(path: Path, n_points: int = 300) -> list[dict[str, Any]]:
    """Read the losses of a run's log, thinned out.

    Args:
        path: log.jsonl of the run; may be missing.
        n_points: At most this many points per stage.

    Returns:
        One {stage, step, stage_step, minutes, loss} per kept line, in order. Broken lines (a killed run) are skipped.
    """
    if not path.is_file():
        return []
    stages: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("loss"), int | float) and "stage" in record:
            point = {k: record.get(k) for k in ("stage", "step", "stage_step", "minutes", "loss")}
            stages.setdefault(str(record["stage"]), []).append(point)
    return [point for points in stages.values() for point in _thin(points, n_points)]


def _thin(points: Sequence[P], n: int) -> list[P]:
    stride = max(1, math.ceil(len(points) / n))
    return [*points[:-1:stride], points[-1]]
