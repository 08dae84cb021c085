"""Recording, world and difference side by side, and several futures of one start: what the report shows.

The same pictures are written as media files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelworld.evaluate.figures import db
from reelworld.evaluate.metrics import squared_error
from reelworld.media import encode_gif, encode_mp4, side_by_side, viewing_scale, write_file

if TYPE_CHECKING:
    from reelworld.evaluate.runs import FreeRun, Futures

__all__ = ["comparison", "futures_grid", "report_futures", "report_videos", "write_comparisons"]

PANEL_PIXELS = 192
SMALL_PANEL_PIXELS = 128
PAPER = (24, 27, 34)
SHOWN_SAMPLES = 4
COLUMNS = 3


def comparison(run: FreeRun) -> np.ndarray:
    """Lay out a free run as recording | world | difference, uint8 (T, H', W', 3).

    While the context lasts, the world's panel says that its frames were given. The difference is left out where the
    future is open.
    """
    difference = np.abs(run.true.astype(np.int16) - run.world).astype(np.uint8)
    scale = viewing_scale(run.true, PANEL_PIXELS)
    given = slice(0, run.context)
    made = slice(run.context, None)
    parts = []
    for span, name in ((given, "world (frames given)"), (made, "world")):
        panels = {"recording": run.true[span], name: run.world[span]}
        parts.append(side_by_side(panels if run.is_open else {**panels, "difference": difference[span]}, scale))
    return np.concatenate(parts)


def futures_grid(futures: Futures) -> np.ndarray:
    """Lay out recording | mean of all samples | four samples, three to a row, uint8 (T, H', W', 3)."""
    mean = np.rint(futures.samples.mean(0, dtype=np.float32)).astype(np.uint8)
    shown = futures.samples[:SHOWN_SAMPLES]
    scale = viewing_scale(futures.true, SMALL_PANEL_PIXELS)
    parts = []
    for is_given in (True, False):
        names = ["recording", f"mean of {len(futures.samples)}", *(f"sample {i + 1}" for i in range(len(shown)))]
        if is_given:
            names = ["recording", *(f"{name} (given)" for name in names[1:])]
        clips = [futures.context] * len(names) if is_given else [futures.true, mean, *shown]
        panels = list(zip(names, clips, strict=True))
        rows = [side_by_side(dict(panels[i : i + COLUMNS]), scale) for i in range(0, len(panels), COLUMNS)]
        parts.append(np.concatenate([_widened(row, rows[0].shape[2]) for row in rows], 1))
    return np.concatenate(parts)


def _widened(frames: np.ndarray, width: int) -> np.ndarray:
    """Fill a row of panels up to a width."""
    empty = np.full((*frames.shape[:2], width - frames.shape[2], 3), PAPER, np.uint8)
    return np.concatenate([frames, empty], 2)


def report_videos(runs: Sequence[FreeRun], fps: float) -> list[tuple[str, bytes]]:
    """Return (caption, mp4) for each run."""
    return [(_caption(run), encode_mp4(comparison(run), fps)) for run in runs]


def report_futures(futures: Sequence[Futures], fps: float) -> list[tuple[str, bytes]]:
    """Return (caption, mp4) for each start from which several futures were drawn."""
    return [(_futures_caption(f), encode_mp4(futures_grid(f), fps)) for f in futures]


def write_comparisons(runs: Sequence[FreeRun], futures: Sequence[Futures], fps: float, folder: Path) -> list[Path]:
    """Write every run, and the futures of every start, as mp4 and gif; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"world_beside_recording_{i}": comparison(run) for i, run in enumerate(runs)}
    named |= {f"futures_{i}": futures_grid(f) for i, f in enumerate(futures)}
    written = []
    for name, frames in named.items():
        for suffix, encode in ((".mp4", encode_mp4), (".gif", encode_gif)):
            path = folder / f"{name}{suffix}"
            write_file(path, encode(frames, fps))
            written.append(path)
    return written


def _futures_caption(futures: Futures) -> str:
    """Say how close the mean of the samples comes at the end, beside repeating the last frame given."""
    last = futures.true[-1]
    mean = futures.samples[:, -1].mean(0, dtype=np.float32)
    n, steps = len(futures.samples), len(futures.true)
    closeness, beside = (_decibels(last, other) for other in (mean, futures.context[-1]))
    return (
        f"{futures.source}: {n} futures of {steps} step{'' if steps == 1 else 's'}; at the end their mean has PSNR "
        f"{closeness} (repeating the last frame given: {beside})"
    )


def _decibels(frame: np.ndarray, other: np.ndarray) -> str:
    value = float(db(squared_error(frame, other)))
    return f"{value:.1f} dB" if np.isfinite(value) else "no error"


def _caption(run: FreeRun) -> str:
    """Say how the run went in the measure that fits: tiles where frames are drawn from them, else PSNR."""
    true, world = run.true[run.context :], run.world[run.context :]
    steps = f"{run.source}: {len(true)} step{'' if len(true) == 1 else 's'} on its own"
    if run.frames_right is not None:
        n_right = round(run.frames_right * len(true))
        frames = "every frame" if n_right == len(true) else f"{n_right} of {len(true)} frames"
        return f"{steps}, all tiles right in {frames}"
    if np.array_equal(true, world):
        return f"{steps}, every pixel right"
    still = np.broadcast_to(run.true[run.context - 1], true.shape)
    closeness, beside = (float(db(squared_error(true, other).mean())) for other in (world, still))
    copy = f"{beside:.1f} dB" if np.isfinite(beside) else "no error"
    return f"{steps}, PSNR {closeness:.1f} dB (repeating the last frame given: {copy})"
