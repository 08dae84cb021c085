"""A long run on the world's own predictions under recorded actions, up to the end of each episode.

A rare mistake is kept for ever in such a run: with frames right with probability p per step, about p to the
power of the step number are still right. Global mean and spread of pixels stay normal through every known
failure, so drift is measured by motion from frame to frame and by the number of live codes instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reelworld.evaluate import metrics
from reelworld.evaluate.clips import Starts
from reelworld.evaluate.figures import (
    Curve,
    Figure,
    Section,
    Unit,
    bootstrap,
    db,
    psnr_figure,
    ratio_figure,
    share_figure,
)
from reelworld.evaluate.prediction import COPY, FROZEN, frames_right
from reelworld.evaluate.reconstruction import encode_frames

if TYPE_CHECKING:
    from reelworld.evaluate.tiles import TileAtlas
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["free_run_section", "free_run_starts"]

BLOCK_STEPS = 10
WHILE_PLAYED = " while the recorded actions are played"
OPEN = (
    ". Nobody tells it what will be done, so its run leaves the recorded one soon and rightly: what counts is that "
    "motion and detail stay near the data's"
)


def free_run_starts(clips: Sequence[Clip], context: int, n_steps: int) -> Starts:
    """Start every clip once, right after its first ``context`` frames."""
    return Starts.at(clips, [(c, context - 1) for c in range(len(clips))], context, n_steps)


def free_run_section(
    world: World, starts: Starts, predicted: np.ndarray, atlas: TileAtlas | None, seed: int
) -> Section:
    """Turn a free run into figures and curves.

    Args:
        world: Its tokenizer counts the live codes.
        starts: One per clip.
        predicted: uint8, (n, S, H, W, 3), under recorded actions.
        atlas: For worlds drawn from tiles.
        seed: Of the bootstrap.
    """
    valid = starts.valid
    copy = np.broadcast_to(starts.context[:, -1:], predicted.shape)
    frozen = np.broadcast_to(starts.first[:, None], predicted.shape)
    others = {COPY: copy, FROZEN: frozen}
    is_right = frames_right(atlas)
    exact = {"world": is_right(starts.future, predicted)} | {k: is_right(starts.future, v) for k, v in others.items()}
    error = {"world": metrics.squared_error(starts.future, predicted)}
    error |= {k: metrics.squared_error(starts.future, v) for k, v in others.items()}
    steps = valid.sum(1)
    figures: list[Figure] = [
        share_figure(
            "free_run_frames_exact",
            (exact["world"] & valid).sum(1),
            steps,
            "frames",
            seed,
            {k: float(exact[k][valid].mean()) for k in others},
        )
    ]
    curves = [_by_step("free_run_exact", "Frames exactly right by step", "share", exact, valid, seed)]
    if atlas is not None:
        true = atlas.true_ids(starts.future)
        tiles = {"world": true == atlas.nearest_ids(predicted)}
        tiles |= {k: true == atlas.true_ids(v) for k, v in others.items()}
        shares = {k: v.mean((2, 3)) for k, v in tiles.items()}
        n_tiles = true[0, 0].size
        figures.append(
            share_figure(
                "free_run_tiles_right",
                (shares["world"] * valid).sum(1) * n_tiles,
                steps * n_tiles,
                "tiles",
                seed,
                {k: float(shares[k][valid].mean()) for k in others},
            )
        )
        curves.append(_by_step("free_run_tiles", "Tiles right by step", "share", shares, valid, seed))
    figures.append(
        psnr_figure(
            "free_run_psnr",
            (error["world"] * valid).sum(1),
            steps,
            seed=seed,
            baselines={k: float(db(error[k][valid].mean())) for k in others},
        )
    )
    curves.append(_by_step("free_run_psnr", "Closeness by step", "dB", error, valid, seed))
    drift_figures, drift_curve = _drift(world, starts, predicted, seed)
    return Section(
        name="free_run",
        label=f"Does it hold together for {predicted.shape[1]} steps?",
        explanation=f"Only the first frames are true; from there on the world lives on its own predictions"
        f"{WHILE_PLAYED if world.info.actions else OPEN}. Scored up to the end of each episode.",
        figures=(*figures, *drift_figures),
        curves=(*curves, drift_curve),
    )


def _by_step(name: str, label: str, unit: Unit, values: dict[str, np.ndarray], valid: np.ndarray, seed: int) -> Curve:
    """Draw means over the clips that still run; squared errors become dB. Steps without a clip are left out."""
    reach = int(np.flatnonzero(valid.any(0)).max()) + 1
    low, high = [], []
    series: dict[str, tuple[float, ...]] = {}
    n = valid.sum(0)[:reach]
    for k, v in values.items():
        mean = (v * valid).sum(0)[:reach] / n
        series[k] = tuple((db(mean) if unit == "dB" else mean).tolist())
    for s in range(reach):
        rows = values["world"][valid[:, s], s].astype(np.float64)[:, None]
        count = np.ones_like(rows)
        totals = np.concatenate([rows, count], 1)
        _, lower, upper = bootstrap(totals, lambda t: _mean(t, unit), seed, n_resamples=500)
        low.append(lower)
        high.append(upper)
    return Curve(
        name=name,
        label=label,
        x_label="step",
        y_label="PSNR" if unit == "dB" else "share",
        unit=unit,
        x=tuple(float(s + 1) for s in range(reach)),
        series=series,
        low=tuple(low),
        high=tuple(high),
        n=tuple(n.tolist()),
    )


def _mean(totals: np.ndarray, unit: Unit) -> np.ndarray:
    mean = totals[..., 0] / totals[..., 1]
    return db(mean) if unit == "dB" else mean


def _drift(world: World, starts: Starts, predicted: np.ndarray, seed: int) -> tuple[list[Figure], Curve]:
    """Compare motion and live codes of the run with those of the recording."""
    valid = starts.valid
    last = starts.context[:, -1:]
    motion = {}
    for name, frames in (("world", predicted), ("recording", starts.future)):
        chain = np.concatenate([last, frames], 1)
        motion[name] = metrics.squared_error(chain[:, 1:], chain[:, :-1])
    figures = [
        psnr_figure(
            "free_run_motion",
            (motion["world"] * valid).sum(1),
            valid.sum(1),
            seed=seed,
            baselines={"recording": float(db(motion["recording"][valid].mean()))},
        )
    ]
    codes = {}
    for name, frames in (("world", predicted), ("recording", starts.future)):
        codes[name] = [encode_frames(world, f[v]) for f, v in zip(frames, valid, strict=True) if v.any()]
    codes = {k: [c for c in v if c.size] for k, v in codes.items()}  # less than a whole clip has no codes
    if not codes["world"]:
        return figures, _motion_curve(motion, valid)
    live = {k: np.array([len(np.unique(c)) for c in v], np.float64) for k, v in codes.items()}
    beside = {"recording": float(live["recording"].mean())}
    one_each = np.ones(len(live["world"]))
    figures.append(ratio_figure("free_run_live_codes", live["world"], one_each, "clips", "codes", seed, beside))
    return figures, _motion_curve(motion, valid)


def _motion_curve(motion: dict[str, np.ndarray], valid: np.ndarray) -> Curve:
    """Draw motion in blocks of ten steps: single steps of a grid game are mostly still."""
    n_blocks = math.ceil(valid.shape[1] / BLOCK_STEPS)
    x: list[float] = []
    series: dict[str, list[float]] = {k: [] for k in motion}
    for b in range(n_blocks):
        block = slice(b * BLOCK_STEPS, (b + 1) * BLOCK_STEPS)
        mask = valid[:, block]
        if not mask.any():
            break
        x.append(b * BLOCK_STEPS + BLOCK_STEPS / 2)
        for k, v in motion.items():
            series[k].append(float(db(v[:, block][mask].mean())))
    return Curve(
        name="free_run_motion",
        label="Motion from frame to frame",
        x_label="step",
        y_label="PSNR between neighbours",
        unit="dB",
        x=tuple(x),
        series={k: tuple(v) for k, v in series.items()},
    )
