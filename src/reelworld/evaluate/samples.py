"""Several futures of one start: their mean, each alone, how far apart they are, and where they put the agent.

Where nothing says what will be done, the future is open: a single sample may be good and yet another than what was
recorded. The per-pixel mean of several samples is the best guess that the world's own uncertainty allows, so that it
is the mean that should beat repeating the last frame; single samples stand beside it without a bar.

Shapes: n starts, K samples, S steps, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reelworld.evaluate import metrics
from reelworld.evaluate.agent import NOWHERE, SEVERAL, AgentFinder, most_frequent
from reelworld.evaluate.clips import Starts, roll
from reelworld.evaluate.figures import (
    Curve,
    Figure,
    Section,
    Unit,
    bootstrap,
    db,
    gain_figure,
    per_clip,
    psnr_figure,
    ratio_figure,
    share_figure,
)
from reelworld.evaluate.prediction import COPY

if TYPE_CHECKING:
    from reelworld.evaluate.tiles import TileAtlas
    from reelworld.worlds.world import World

__all__ = ["Cells", "draw_samples", "find_cells", "samples_section"]

SINGLE = "single samples"
BEST = "best of the samples, chosen knowing the answer"
TRUTH = "sample and what happened"
OTHERS = "recordings of two starts"


def draw_samples(world: World, starts: Starts, n_samples: int, seed: int) -> np.ndarray:
    """Draw several futures from every start, each with noise of its own.

    Returns:
        uint8, (n, K, S, H, W, 3).
    """
    rows = np.repeat(np.arange(len(starts.clip)), n_samples)
    drawn = roll(world, starts.take(rows), seed)
    return drawn.reshape(len(starts.clip), n_samples, *drawn.shape[1:])


@dataclass(frozen=True)
class Cells:
    """Where the agent is at the horizons of a section, as cell numbers; negative where there is not one agent."""

    before: np.ndarray
    """int64, (n,): in the last frame seen."""
    true: np.ndarray
    """int64, (n, horizons): in the recorded frames."""
    samples: np.ndarray
    """int64, (n, K, horizons)."""


def find_cells(
    finder: AgentFinder, atlas: TileAtlas, starts: Starts, samples: np.ndarray, horizons: Sequence[int]
) -> Cells:
    """Find the agent in true frames, and in samples by the nearest tile of the game."""
    at = np.array(horizons) - 1
    return Cells(
        before=finder.cells(atlas.true_ids(starts.context[:, -1])),
        true=finder.cells(atlas.true_ids(starts.future[:, at])),
        samples=finder.cells(atlas.nearest_ids(samples[:, :, at])),
    )


def samples_section(
    starts: Starts, samples: np.ndarray, horizons: Sequence[int], cells: Cells | None, seed: int
) -> Section:
    """Turn samples into figures and curves.

    Args:
        starts: Where the samples began, with the recorded future.
        samples: uint8, (n, K, S, H, W, 3), K at least 2.
        horizons: Steps at which to report, at most S.
        cells: Where the agent is at these horizons, for games whose agent can be found.
        seed: Of the bootstrap.
    """
    n_samples = samples.shape[1]
    figures: list[Figure] = []
    errors = {h: _errors(starts, samples, h) for h in horizons}
    reached = [h for h in horizons if starts.valid[:, h - 1].any()]
    for h in reached:
        figures += _pixel_figures(starts, errors[h], h, n_samples, seed)
    names = {"world": f"mean of {n_samples} samples", COPY: COPY, SINGLE: SINGLE, BEST: BEST}
    curves = [_curve("samples_psnr", "How close they come", "dB", starts, errors, reached, names, seed)]
    if cells is not None:
        right = {h: _right(cells, i) for i, h in enumerate(horizons)}
        for h in reached:
            figures += _agent_figures(starts, right[h], h, n_samples, seed)
        names = {"world": f"cell that most of {n_samples} samples show", COPY: COPY, SINGLE: SINGLE}
        curves.append(_curve("samples_agent", "Agent in the right cell", "share", starts, right, reached, names, seed))
    return Section(
        name="samples",
        label="What might happen next?",
        explanation=f"Nothing tells this world what will be done, so the future is open. From each of "
        f"{len(starts.clip)} starts {n_samples} futures are drawn. Their per-pixel mean is the world's best guess and "
        "should beat repeating the last frame; a single sample may be right in itself and still not be what happened.",
        figures=tuple(figures),
        curves=tuple(curves),
    )


def _errors(starts: Starts, samples: np.ndarray, h: int) -> dict[str, np.ndarray]:
    """Return mean squared errors at one horizon, float64 (n,) each, and 'valid', bool (n,)."""
    true, drawn = starts.future[:, h - 1], samples[:, :, h - 1]
    single = metrics.squared_error(np.broadcast_to(true[:, None], drawn.shape), drawn)
    mean = drawn.mean(1, dtype=np.float32)
    n_samples = drawn.shape[1]
    # the mean over pairs of |a - b|^2 is 2 K / (K - 1) times the mean of |a - mean|^2
    around = metrics.squared_error(np.broadcast_to(mean[:, None], drawn.shape), drawn).mean(1)
    return {
        "world": metrics.squared_error(true, mean),
        COPY: metrics.squared_error(true, starts.context[:, -1]),
        SINGLE: single.mean(1),
        BEST: single.min(1),
        "apart": 2 * n_samples / (n_samples - 1) * around,
        OTHERS: _to_other_starts(true, starts.clip),
    }


def _to_other_starts(true: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Return each recorded frame's mean squared distance to those of starts in other clips; NaN with one clip."""
    flat = true.reshape(len(true), -1).astype(np.float64)
    square = (flat**2).sum(1)
    distance = (square[:, None] + square - 2 * flat @ flat.T) / flat.shape[1]
    distance[clip[:, None] == clip] = np.nan
    n = (~np.isnan(distance)).sum(1)
    return np.where(n > 0, np.nansum(distance, 1) / np.maximum(n, 1), np.nan)


def _right(cells: Cells, i: int) -> dict[str, np.ndarray]:
    """Return whether the agent's cell is right at horizon number i, float64 (n,) each; NaN where it is not known."""
    true, drawn = cells.true[:, i], cells.samples[:, :, i]
    known = (true >= 0) & (cells.before >= 0)
    right = {
        "world": most_frequent(drawn) == true,
        COPY: cells.before == true,
        SINGLE: (drawn == true[:, None]).mean(1),
        "none": (drawn == NOWHERE).mean(1),
        "several": (drawn == SEVERAL).mean(1),
    }
    return {k: np.where(known, v, np.nan) for k, v in right.items()}


def _pixel_figures(starts: Starts, error: Mapping[str, np.ndarray], h: int, k: int, seed: int) -> list[Figure]:
    valid = starts.valid[:, h - 1]
    n_clips = int(starts.clip.max()) + 1
    sums = {name: per_clip(np.where(valid, e, 0), starts.clip, n_clips) for name, e in error.items()}
    count = per_clip(valid, starts.clip, n_clips)
    copied = {COPY: float(db(error[COPY][valid].mean()))}
    both = {TRUTH: float(db(error[SINGLE][valid].mean())), OTHERS: float(db(error[OTHERS][valid].mean()))}
    words = {"k": str(k)}
    return [
        psnr_figure(f"psnr_mean_h{h}", sums["world"], count, "starts", seed, copied, **words),
        gain_figure(f"gain_mean_h{h}", sums["world"], sums[COPY], count, seed, "starts", **words),
        psnr_figure(f"psnr_single_h{h}", sums[SINGLE], count, "starts", seed, copied, **words),
        psnr_figure(f"psnr_best_h{h}", sums[BEST], count, "starts", seed, copied, **words),
        psnr_figure(f"samples_apart_h{h}", sums["apart"], count, "starts", seed, both, **words),
    ]


def _agent_figures(starts: Starts, right: Mapping[str, np.ndarray], h: int, k: int, seed: int) -> list[Figure]:
    valid = starts.valid[:, h - 1] & ~np.isnan(right[COPY])
    if not valid.any():
        return []
    n_clips = int(starts.clip.max()) + 1
    hits = {name: per_clip(np.where(valid, r, 0), starts.clip, n_clips) for name, r in right.items()}
    share = {name: float(r[valid].mean()) for name, r in right.items()}
    count = per_clip(valid, starts.clip, n_clips)
    words = {"k": str(k)}
    beside = {COPY: share[COPY], SINGLE: share[SINGLE]}
    lost = {"none": share["none"], "several": share["several"]}
    not_one, each = hits["none"] + hits["several"], f"starts of {k} samples"  # samples of one start are not independent
    more = hits["world"] - hits[COPY]
    gain = ratio_figure(f"gain_agent_h{h}", more, count, "starts", "points", seed, baselines=None, **words)
    return [
        share_figure(f"agent_h{h}", hits["world"], count, "starts", seed, beside, **words),
        gain,
        share_figure(f"agent_single_h{h}", hits[SINGLE], count, each, seed, {COPY: share[COPY]}, **words),
        share_figure(f"agent_lost_h{h}", not_one, count, each, seed, lost, **words),
    ]


def _curve(
    name: str,
    label: str,
    unit: Unit,
    starts: Starts,
    at: Mapping[int, Mapping[str, np.ndarray]],
    horizons: Sequence[int],
    names: Mapping[str, str],
    seed: int,
) -> Curve:
    """Draw means over starts by horizon; squared errors become dB, starts with NaN are left out."""
    finish: Callable[[np.ndarray], np.ndarray] = db if unit == "dB" else np.asarray
    n_clips = int(starts.clip.max()) + 1
    series: dict[str, list[float]] = {shown: [] for shown in names.values()}
    low, high, n = [], [], []
    for h in horizons:
        valid = starts.valid[:, h - 1] & ~np.isnan(at[h]["world"])
        for key, shown in names.items():
            mean = at[h][key][valid].mean(keepdims=True) if valid.any() else np.array([np.nan])
            series[shown].append(float(finish(mean)[0]))
        sums = per_clip(np.where(valid, at[h]["world"], 0), starts.clip, n_clips)
        totals = np.stack([sums, per_clip(valid, starts.clip, n_clips)], 1)
        totals = totals[totals[:, 1] > 0]
        _, lower, upper = bootstrap(totals, lambda t: finish(t[..., 0] / t[..., 1]), seed)
        low.append(lower)
        high.append(upper)
        n.append(int(valid.sum()))
    return Curve(
        name=name,
        label=label,
        x_label="steps ahead",
        y_label="PSNR" if unit == "dB" else "share of starts",
        unit=unit,
        x=tuple(map(float, horizons)),
        series={k: tuple(v) for k, v in series.items()},
        low=tuple(low),
        high=tuple(high),
        n=tuple(n),
    )
