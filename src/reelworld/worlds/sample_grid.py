"""Grids of samples: several futures of one context side by side, as a film or as a sheet.

Shapes: n panels, T frames, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from reelworld.media import contact_sheet, encode_png, viewing_scale, write_file, write_media

MAX_COLUMNS, SHEET_TIMES = 4, 8
PANEL_PIXELS = 192  # wide enough for the label


def write_samples(
    path: Path,
    context: np.ndarray,
    samples: np.ndarray,
    recorded: np.ndarray,
    fps: float,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write samples in the format of the file's suffix.

    Args:
        path: Ends in .mp4, .gif (a film of all samples), .png (a sheet: a row per sample, time from left to right)
            or .npz (exact: ``samples`` (n, T, H, W, 3), and ``frames``, the first of them).
        context: The given frames, uint8 (C, H, W, 3).
        samples: uint8, (n, S, H, W, 3).
        recorded: Recorded frames after the context, uint8 (R, H, W, 3); may be empty.
        fps: Frames per second.
        arrays: Further arrays for an .npz.
    """
    whole = np.concatenate([np.repeat(context[None], len(samples), 0), samples], 1)
    if path.suffix.lower() == ".npz":
        write_media(path, whole[0], fps, {**(arrays or {}), "samples": whole})
        return
    panels = {f"sample {i + 1}": film for i, film in enumerate(whole)}
    if len(recorded):
        panels = {"recorded": np.concatenate([context, recorded])[: whole.shape[1]], **panels}
    if path.suffix.lower() == ".png":
        write_file(path, encode_png(sample_sheet(panels)))
        return
    write_media(path, sample_film(panels, len(context)), fps)


def sample_film(panels: Mapping[str, np.ndarray], n_context: int) -> np.ndarray:
    """Arrange films as a table with a label above every frame.

    Args:
        panels: Name -> uint8 (T, H, W, 3); shorter ones hold their last frame.
        n_context: Context frames, equal in all films.

    Returns:
        uint8, (T, H', W', 3), T of the longest.
    """
    films = list(panels.values())
    n_frames, scale = max(len(film) for film in films), viewing_scale(films[0], PANEL_PIXELS)
    n_rows = -(-len(films) // MAX_COLUMNS)
    columns = -(-len(films) // n_rows)
    sheets = []
    for t in range(n_frames):
        labels = [
            "given" if t < n_context else name if t < len(film) else f"{name} (ended)" for name, film in panels.items()
        ]
        now = np.stack([film[min(t, len(film) - 1)] for film in films])
        sheets.append(contact_sheet(now, columns, scale, labels=labels))
    return np.stack(sheets)


def sample_sheet(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Arrange films as rows of up to eight frames, from the first to the last.

    Args:
        panels: Name -> uint8 (T, H, W, 3); shorter ones hold their last frame.

    Returns:
        uint8, (H', W', 3).
    """
    films = list(panels.values())
    n_frames = max(len(film) for film in films)
    times = np.unique(np.linspace(0, n_frames - 1, min(SHEET_TIMES, n_frames)).round().astype(int)).tolist()
    cells = np.stack([film[min(t, len(film) - 1)] for film in films for t in times])
    labels = [f"{name}, frame {t}" for name in panels for t in times]
    return contact_sheet(cells, len(times), viewing_scale(cells, PANEL_PIXELS), labels=labels)
