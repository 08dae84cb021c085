"""Prediction by horizon under true actions, and how surprised the world is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reelworld.evaluate import metrics
from reelworld.evaluate.clips import Starts, clip_frames_of
from reelworld.evaluate.figures import (
    Curve,
    Figure,
    Section,
    bootstrap,
    db,
    gain_figure,
    per_clip,
    psnr_figure,
    ratio_figure,
    share_figure,
)
from reelworld.types import Clip, Score

if TYPE_CHECKING:
    from reelworld.evaluate.tiles import TileAtlas
    from reelworld.worlds.world import World

__all__ = [
    "ALONE",
    "COPY",
    "FROZEN",
    "UNDER_ACTIONS",
    "frames_right",
    "measure_horizons",
    "measure_surprise",
    "score_clips",
]

COPY = "copy of the last frame seen"
FROZEN = "first frame of the clip"
UNDER_ACTIONS = "predicts on its own under the recorded actions"
ALONE = "draws one future, of which there are many: the mean of several, above, is the fair comparison"
MAX_SCORED = 3072  # frames
MAX_SCORED_WHOLE = 512  # frames, where each whole clip is read twice


def frames_right(atlas: TileAtlas | None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the test for 'exactly right': all tiles where there are tiles, else all pixels."""
    if atlas is None:
        return metrics.exact_frames
    return lambda true, other: (atlas.true_ids(true) == atlas.nearest_ids(other)).all((-2, -1))


def measure_horizons(
    starts: Starts,
    predicted: np.ndarray,
    ceiling: np.ndarray | None,
    horizons: Sequence[int],
    atlas: TileAtlas | None,
    seed: int,
    how: str = UNDER_ACTIONS,
) -> Section:
    """Compare predictions with the recording and with two ways of not predicting.

    Args:
        starts: Where the predictions began, with the recorded future.
        predicted: uint8, (n, S, H, W, 3), under recorded actions.
        ceiling: uint8, like predicted: the recorded future through the tokenizer; None leaves it out.
        horizons: Steps at which to report, at most S.
        atlas: For worlds drawn from tiles.
        seed: Of the bootstrap.
        how: What the world does after the true frames, in words.
    """
    copy = np.broadcast_to(starts.context[:, -1:], predicted.shape)
    frozen = np.broadcast_to(starts.first[:, None], predicted.shape)
    is_right = frames_right(atlas)
    error = {"world": metrics.squared_error(starts.future, predicted)}
    error |= {COPY: metrics.squared_error(starts.future, copy)}
    error |= {FROZEN: metrics.squared_error(starts.future, frozen)}
    if ceiling is not None:
        error["tokenizer alone"] = metrics.squared_error(starts.future, ceiling)
    right = {"world": is_right(starts.future, predicted)}
    right |= {COPY: is_right(starts.future, copy), FROZEN: is_right(starts.future, frozen)}
    figures: list[Figure] = []
    for h in horizons:
        figures += _at_horizon(starts, error, right, h, seed)
    figures += _by_change(starts, error, seed)
    return Section(
        name="prediction",
        label="Does it see what comes next?",
        explanation=f"The world is shown a few true frames, then {how}. "
        "Beside it stand two ways of not predicting at all: repeating the last frame, and the first frame.",
        figures=tuple(figures),
        curves=(
            _curve("prediction_psnr", "Closeness by horizon", "PSNR", "dB", starts, error, horizons, seed),
            _curve("prediction_exact", "Frames exactly right", "share", "share", starts, right, horizons, seed),
        ),
    )


def _totals(starts: Starts, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return per_clip(np.where(mask, values, 0), starts.clip, int(starts.clip.max()) + 1)


def _at_horizon(
    starts: Starts, error: dict[str, np.ndarray], right: dict[str, np.ndarray], h: int, seed: int
) -> list[Figure]:
    valid = starts.valid[:, h - 1]
    if not valid.any():
        return []
    count = _totals(starts, np.ones(len(valid)), valid)
    at = {k: e[:, h - 1] for k, e in error.items()}
    sums = {k: _totals(starts, e, valid) for k, e in at.items()}
    exact = {k: r[:, h - 1] for k, r in right.items()}
    others = [k for k in error if k != "world"]
    return [
        psnr_figure(
            f"psnr_h{h}",
            sums["world"],
            count,
            seed=seed,
            baselines={k: float(db(sums[k].sum() / count.sum())) for k in others},
        ),
        gain_figure(f"gain_h{h}", sums["world"], sums[COPY], count, seed),
        share_figure(
            f"exact_h{h}",
            _totals(starts, exact["world"], valid),
            count,
            "frames",
            seed,
            baselines={k: float(exact[k][valid].mean()) for k in exact if k != "world"},
        ),
    ]


def _by_change(starts: Starts, error: dict[str, np.ndarray], seed: int) -> list[Figure]:
    still = metrics.exact_frames(starts.future[:, 0], starts.context[:, -1])
    figures = []
    for name, mask in (("psnr_changed_h1", ~still), ("psnr_unchanged_h1", still)):
        mask = mask & starts.valid[:, 0]
        if mask.any():
            count = _totals(starts, np.ones(len(mask)), mask)
            world = _totals(starts, error["world"][:, 0], mask)
            copied = float(db(error[COPY][mask, 0].mean()))
            figures.append(psnr_figure(name, world, count, seed=seed, baselines={COPY: copied}))
    return figures


def _curve(
    name: str,
    label: str,
    y_label: str,
    unit: str,
    starts: Starts,
    values: dict[str, np.ndarray],
    horizons: Sequence[int],
    seed: int,
) -> Curve:
    """Draw means over valid starts by horizon; squared errors become dB."""
    finish: Callable[[np.ndarray], np.ndarray] = db if unit == "dB" else np.asarray
    series: dict[str, list[float]] = {k: [] for k in values}
    low, high, n = [], [], []
    for h in horizons:
        valid = starts.valid[:, h - 1]
        n.append(int(valid.sum()))
        for k, v in values.items():
            series[k].append(float(finish(v[valid, h - 1].mean())) if valid.any() else math.nan)
        count = _totals(starts, np.ones(len(valid)), valid)
        totals = np.stack([_totals(starts, values["world"][:, h - 1], valid), count], 1)[count > 0]
        _, lower, upper = (
            bootstrap(totals, lambda t: finish(t[..., 0] / t[..., 1]), seed)
            if len(totals)
            else (math.nan, math.nan, math.nan)
        )
        low.append(lower)
        high.append(upper)
    return Curve(
        name=name,
        label=label,
        x_label="steps ahead",
        y_label=y_label,
        unit="dB" if unit == "dB" else "share",
        x=tuple(map(float, horizons)),
        series={k: tuple(v) for k, v in series.items()},
        low=tuple(low),
        high=tuple(high),
        n=tuple(n),
    )


def score_clips(world: World, clips: Sequence[Clip]) -> list[tuple[Clip, Score]]:
    """Let the world read recorded clips, the first ones up to a number of frames, and say what it expected."""
    most = MAX_SCORED_WHOLE if clip_frames_of(world) else MAX_SCORED
    ends = np.cumsum([len(clip.frames) for clip in clips])
    return [(clip, world.score(clip)) for clip, end in zip(clips, ends, strict=True) if end <= max(most, ends[0])]


def measure_surprise(world: World, scored: Sequence[tuple[Clip, Score]], seed: int) -> Section:
    """Report how likely the world finds recorded clips."""
    counts = np.array([_n_judged(world, len(clip.frames)) for clip, _ in scored])
    nats = np.array([score.nats_per_frame for _, score in scored]) * counts
    frame = scored[0][0].frames
    spec = world.tokenizer.spec(len(frame), *frame.shape[1:3])
    baselines = {}
    if spec.video.codebook_size:
        per_latent = spec.video.n_tokens * math.log(spec.video.codebook_size)
        baselines["every code equally likely"] = per_latent / spec.time_stride
    figure = ratio_figure(
        "nats_per_frame", nats, counts, "frames", "nats", seed, baselines=baselines, kind_of_score=scored[0][1].kind
    )
    return Section(
        name="surprise",
        label="How surprised is it by what really happens?",
        explanation="The probability the world gives to recorded frames, as surprise.",
        figures=(figure,),
    )


def _n_judged(world: World, n_frames: int) -> int:
    """Count the frames of a recording that its score is the mean over."""
    whole, spec = clip_frames_of(world), world.tokenizer.spec(n_frames, world.info.height, world.info.width)
    if not whole:
        return n_frames - max(1, spec.context_frames)
    stride = spec.time_stride
    return n_frames // whole * (whole - world.info.context_frames // stride * stride)
