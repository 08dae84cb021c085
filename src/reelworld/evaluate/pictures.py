"""Recording, world and difference side by side: what the report shows and the media files hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelworld.data.media import encode_gif, encode_mp4, side_by_side, viewing_scale, write_file
from reelworld.evaluate.figures import db
from reelworld.evaluate.metrics import squared_error

if TYPE_CHECKING:
    from reelworld.evaluate.protocol import FreeRun

__all__ = ["comparison", "report_videos", "write_comparisons"]

PANEL_PIXELS = 192


def comparison(run: FreeRun) -> np.ndarray:
    """Lay out a free run as recording | world | difference, uint8 (T, H', W', 3).

    While the context lasts, the world's panel says that its frames were given.
    """
    difference = np.abs(run.true.astype(np.int16) - run.world).astype(np.uint8)
    scale = viewing_scale(run.true, PANEL_PIXELS)
    given = slice(0, run.context)
    made = slice(run.context, None)
    parts = []
    for span, name in ((given, "world (frames given)"), (made, "world")):
        panels = {"recording": run.true[span], name: run.world[span], "difference": difference[span]}
        parts.append(side_by_side(panels, scale))
    return np.concatenate(parts)


def report_videos(runs: Sequence[FreeRun], fps: float) -> list[tuple[str, bytes]]:
    """Return (caption, mp4) for each run."""
    return [(_caption(run), encode_mp4(comparison(run), fps)) for run in runs]


def write_comparisons(runs: Sequence[FreeRun], fps: float, folder: Path) -> list[Path]:
    """Write every run as mp4 and gif; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for i, run in enumerate(runs):
        frames = comparison(run)
        for suffix, encode in ((".mp4", encode_mp4), (".gif", encode_gif)):
            path = folder / f"world_beside_recording_{i}{suffix}"
            write_file(path, encode(frames, fps))
            written.append(path)
    return written


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
