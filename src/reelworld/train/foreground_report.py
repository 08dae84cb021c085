"""Report on the foreground that a trained tokenizer keeps: figures, a warning in words, a picture of the worst places.

Shapes: N frames, H W pixel rows and columns
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reelworld.data.clip_index import ClipIndex, evenly_spaced
from reelworld.data.dataset import Dataset
from reelworld.data.foreground import Foreground, compare_foreground, median_picture
from reelworld.media import encode_png, enlarge, write_file
from reelworld.models.parts import Tokenizer
from reelworld.nn.pixels import to_float, to_uint8

log = logging.getLogger(__name__)

N_FRAMES = 256
"""Frames that are looked at, of training (for the median picture) and of validation."""
KEPT = 0.95
"""Foreground mass below which there is a warning."""
WINDOW, N_WORST, ZOOM = 16, 6, 6
"""Side of a zoomed place in pixels, number of places, and enlargement."""
PICTURE = "tokenizer-losses.png"


@dataclass(frozen=True, kw_only=True)
class Check:
    """Validation frames beside their reconstruction."""

    frames: np.ndarray
    """uint8 (N, H, W, 3)."""
    copies: np.ndarray
    """uint8 (N, H, W, 3)."""
    median: np.ndarray
    """Median picture of the training frames, uint8 (H, W, 3)."""

    @property
    def figures(self) -> Foreground:
        """Figures over the foreground."""
        return compare_foreground(self.frames, self.copies, self.median)


def check_foreground(tokenizer: Tokenizer, dataset: Dataset) -> Check:
    """Encode and decode frames of the validation episodes."""
    frames = _frames(dataset, "val")
    return Check(frames=frames, copies=round_trip(tokenizer, frames), median=median_picture(_frames(dataset, "train")))


def _frames(dataset: Dataset, split: str) -> np.ndarray:
    windows = ClipIndex(dataset, split, 1)
    return np.concatenate([windows[i]["frames"] for i in evenly_spaced(len(windows), N_FRAMES)])


@torch.inference_mode()
def round_trip(tokenizer: Tokenizer, frames: np.ndarray) -> np.ndarray:
    """Encode and decode single frames, uint8 (N, H, W, 3)."""
    device = next(tokenizer.parameters()).device
    video = to_float(torch.from_numpy(frames).to(device))[:, None]
    return to_uint8(tokenizer.decode(tokenizer.encode(video)))[:, 0].cpu().numpy()


def report_foreground(tokenizer: Tokenizer, dataset: Dataset, folder: Path) -> None:
    """Warn where a tokenizer loses parts of the foreground, and write a picture of the worst places.

    Args:
        tokenizer: Trained; of single frames.
        dataset: The recordings.
        folder: Folder of the run, for the picture.
    """
    check = check_foreground(tokenizer, dataset)
    figures = check.figures
    if figures.kept_mass >= KEPT:
        return
    path = folder / PICTURE
    write_file(path, encode_png(worst_places(check)))
    log.warning(
        "the tokenizer loses %.0f%% of what differs from the median picture (%.1f dB there): small or rare things may "
        "be missing from the world. The worst places are in %s: recorded, reconstructed, difference.",
        *(100 * (1 - figures.kept_mass), figures.psnr, path),
    )


def worst_places(check: Check) -> np.ndarray:
    """Draw the places with the greatest error: a row each of recorded, reconstructed and difference, uint8."""
    error = np.abs(check.frames.astype(np.int16) - check.copies).sum(-1)
    n, height, width = error.shape
    side = min(WINDOW, height, width)
    rows, columns = height // side, width // side
    cells = error[:, : rows * side, : columns * side].reshape(n, rows, side, columns, side).sum((2, 4))
    best = cells.max((1, 2)).argsort()[::-1][:N_WORST]
    drawn = []
    for i in best:
        row, column = np.unravel_index(int(cells[i].argmax()), (rows, columns))
        place = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        recorded, copy = check.frames[i][place], check.copies[i][place]
        difference = np.abs(recorded.astype(np.int16) - copy).astype(np.uint8)
        gap = np.full((side, 1, 3), 255, np.uint8)
        drawn.append(np.concatenate([recorded, gap, copy, gap, difference], 1))
        drawn.append(np.full((1, drawn[-1].shape[1], 3), 255, np.uint8))
    return enlarge(np.concatenate(drawn[:-1]), ZOOM)
