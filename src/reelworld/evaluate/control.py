"""What other actions do to a prediction.

Delta-t PSNR (Bruce et al. 2024, arXiv:2402.15391, appendix) is the PSNR under recorded actions minus the PSNR
under uniformly drawn ones, t steps after the context. Differs: both runs share their noise; besides uniformly drawn
actions the recorded actions of another clip are used, because random presses cancel out within a few frames.

Shapes: n starts, T context frames, S steps, H W pixel rows and columns
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reelworld.evaluate import metrics
from reelworld.evaluate.clips import Starts, draw_starts, roll, shuffled_actions, uniform_actions
from reelworld.evaluate.figures import Curve, Figure, Section, gain_figure, missing_figure, per_clip

if TYPE_CHECKING:
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["HORIZONS", "control_starts", "measure_control"]

HORIZONS = (1, 4, 8)
SHUFFLED, UNIFORM = "keys of another clip", "random keys"


def control_starts(clips: Sequence[Clip], context: int, n_starts: int, seed: int) -> Starts:
    """Draw at least so many starts, as many in each clip; the first clips alone where there are more clips.

    Args:
        clips: Held-out clips.
        context: Context frames T.
        n_starts: Starts that are wanted.
        seed: Of the draw.
    """
    chosen = clips[:n_starts]
    return draw_starts(chosen, context, max(HORIZONS), math.ceil(n_starts / len(chosen)), seed)


def measure_control(
    world: World, starts: Starts, predicted: np.ndarray, seed: int, horizons: Sequence[int] = HORIZONS
) -> Section:
    """Measure what other actions do to the prediction.

    Args:
        world: A world with actions.
        starts: Where the predictions began.
        predicted: Under recorded actions and noise ``seed``, uint8 (n, S, H, W, 3).
        seed: The noise of ``predicted``; the other runs get the same.
        horizons: Steps at which to report.
    """
    error = metrics.squared_error(starts.future, predicted)
    n_clips = len(np.unique(starts.clip))
    figures: list[Figure] = []
    if n_clips > 1:
        actions, valid = shuffled_actions(starts, seed)
        other = metrics.squared_error(starts.future, roll(world, starts, seed, actions))
        figures += _deltas("delta_shuffled", starts.clip, error, other, valid & starts.valid, horizons, seed)
    else:
        why = "keys of another clip want a second clip, and one came: give more recordings, or --clips 2 and more."
        figures.append(missing_figure("delta_shuffled_missing", SHUFFLED, why))
    actions = uniform_actions(starts, world.info.actions, seed)
    other = metrics.squared_error(starts.future, roll(world, starts, seed, actions))
    figures += _deltas("delta_uniform", starts.clip, error, other, starts.valid, horizons, seed)
    measured = [f for f in figures if f.n]
    first = measured[: len(horizons)]
    named = {
        label: tuple(f.value for f in measured if f.name.startswith(stem))
        for label, stem in ((SHUFFLED, "delta_shuffled"), (UNIFORM, "delta_uniform"))
    }
    curve = Curve(
        name="control",
        label="Delta-t PSNR: what the true actions are worth",
        x_label="steps ahead",
        y_label="true minus other actions",
        unit="dB",
        x=tuple(map(float, horizons)),
        series={label: values for label, values in named.items() if values},
        low=tuple(f.low for f in first),
        high=tuple(f.high for f in first),
    )
    return Section(
        name="control",
        label="Does it listen to the player?",
        explanation="The same starts and the same noise, but with wrong actions. A world that listens gets worse; "
        "a world that ignores its player does not change.",
        figures=tuple(figures),
        curves=(curve,),
    )


def _deltas(
    stem: str,
    clip: np.ndarray,
    error: np.ndarray,
    other: np.ndarray,
    valid: np.ndarray,
    horizons: Sequence[int],
    seed: int,
) -> list[Figure]:
    """Compare the errors under true and other actions, (n, S) each, at every horizon."""
    n_clips, figures = int(clip.max()) + 1, []
    for h in horizons:
        mask = valid[:, h - 1]
        true, wrong = (per_clip(np.where(mask, e[:, h - 1], 0), clip, n_clips) for e in (error, other))
        figures.append(gain_figure(f"{stem}_h{h}", true, wrong, per_clip(mask, clip, n_clips), seed))
    return figures
