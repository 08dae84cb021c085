"""Runs of a world to look at, beside the recording: long ones, and several futures of one start.

Shapes: T frames, S steps, K samples, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reelworld.evaluate.metrics import squared_error
from reelworld.evaluate.prediction import frames_right

if TYPE_CHECKING:
    from reelworld.evaluate.clips import Starts
    from reelworld.evaluate.tiles import TileAtlas
    from reelworld.types import Clip

__all__ = ["FreeRun", "Futures", "choose_futures", "choose_runs"]


@dataclass(frozen=True)
class FreeRun:
    """A run of the world beside the recording, for looking at."""

    source: str
    true: np.ndarray
    """uint8, (T, H, W, 3): context and recorded future."""
    world: np.ndarray
    """uint8, (T, H, W, 3): the same context and the world's own future."""
    context: int
    """Frames at the beginning that both share."""
    frames_right: float | None
    """Share of the world's own frames with every tile right; None where frames are not drawn from tiles."""
    is_open: bool = False
    """The world takes no actions: its future is one of many, and where it differs from the recording says little."""


@dataclass(frozen=True)
class Futures:
    """Several futures of one start beside the recorded one, for looking at."""

    source: str
    context: np.ndarray
    """uint8, (T, H, W, 3): the frames that all share."""
    true: np.ndarray
    """uint8, (S, H, W, 3)."""
    samples: np.ndarray
    """uint8, (K, S, H, W, 3)."""


def choose_runs(
    clips: Sequence[Clip], starts: Starts, predicted: np.ndarray, atlas: TileAtlas | None, is_open: bool, n: int = 6
) -> tuple[FreeRun, ...]:
    """Choose runs for the report: the longest clips, worst, middle and best among them."""
    error = [np.abs(starts.future[i, v].astype(np.int16) - predicted[i, v]).mean() for i, v in enumerate(starts.valid)]
    lengths = starts.valid.sum(1)
    longest = [i for i in np.argsort(-lengths, kind="stable").tolist() if lengths[i] >= 0.5 * lengths.max()]
    is_right = frames_right(atlas)
    runs = []
    for i in _spread(sorted(longest, key=lambda i: -error[i]), n):
        valid = starts.valid[i]
        is_judged = atlas is not None and not is_open
        runs.append(
            FreeRun(
                source=clips[i].source,
                true=np.concatenate([starts.context[i], starts.future[i, valid]]),
                world=np.concatenate([starts.context[i], predicted[i, valid]]),
                context=starts.context.shape[1],
                frames_right=float(is_right(starts.future[i], predicted[i])[valid].mean()) if is_judged else None,
                is_open=is_open,
            )
        )
    return tuple(runs)


def choose_futures(clips: Sequence[Clip], starts: Starts, samples: np.ndarray, n: int = 4) -> tuple[Futures, ...]:
    """Choose starts for the report, from the one whose samples' mean gains least over the last frame to the best."""
    complete = np.flatnonzero(starts.valid.all(1))
    mean = samples[complete].mean(1, dtype=np.float32)
    still = np.broadcast_to(starts.context[complete][:, -1:], mean.shape)
    true = starts.future[complete]
    gain = (squared_error(true, still) - squared_error(true, mean)).mean(1)
    ranked = complete[np.argsort(gain, kind="stable")].tolist()
    return tuple(
        Futures(
            source=clips[starts.clip[i]].source,
            context=starts.context[i],
            true=starts.future[i],
            samples=samples[i],
        )
        for i in _spread(ranked, n)
    )


def _spread(ranked: Sequence[int], n: int) -> list[int]:
    """Pick at most n of a list, evenly spread, both ends included."""
    picks = sorted({round(x) for x in np.linspace(0, len(ranked) - 1, min(n, len(ranked)))})
    return [ranked[p] for p in picks]
