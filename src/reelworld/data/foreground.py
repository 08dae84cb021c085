"""Foreground of recordings: the pixels that differ from the median picture, and how much of them a copy keeps.

Whole-frame PSNR hardly changes when a ball of four pixels is lost. These figures are over the foreground alone.

Shapes: N frames, H W pixel rows and columns
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

THRESHOLD = 30
"""Least difference from the median picture, in any channel, of a foreground pixel."""


def median_picture(frames: np.ndarray) -> np.ndarray:
    """Return the median of each pixel over frames, uint8 (N, H, W, 3): uint8 (H, W, 3)."""
    picture: np.ndarray = np.median(frames, axis=0).astype(np.uint8)
    return picture


@dataclass(frozen=True, kw_only=True)
class Foreground:
    """Figures about copies of frames, over the foreground."""

    kept: np.ndarray
    """Fraction of each frame's difference from the median picture that its copy has too, (N,); 1 without foreground."""
    squared_error: np.ndarray
    """Mean squared error over the foreground of each frame, (N,); 0 without foreground."""
    fraction: np.ndarray
    """Fraction of each frame's pixels that are foreground, (N,)."""

    @property
    def has_any(self) -> np.ndarray:
        """Frames with a foreground, bool (N,)."""
        return self.fraction > 0

    @property
    def kept_mass(self) -> float:
        """Mean of ``kept`` over frames with a foreground; 1 without any."""
        return float(self.kept[self.has_any].mean()) if self.has_any.any() else 1.0

    @property
    def psnr(self) -> float:
        """PSNR over all foreground pixels in dB, at most 99."""
        weights = self.fraction
        error = float((self.squared_error * weights).sum() / max(weights.sum(), 1e-12))
        return float(min(99.0, 10 * np.log10(255.0**2 / max(error, 1e-9))))


def compare_foreground(frames: np.ndarray, copies: np.ndarray, median: np.ndarray) -> Foreground:
    """Compare frames with copies of them over the foreground.

    Args:
        frames: uint8 (N, H, W, 3).
        copies: uint8, the same shape.
        median: Median picture of the recording, uint8 (H, W, 3).
    """
    wanted = frames.astype(np.float32) - median
    found = copies.astype(np.float32) - median
    mask = np.abs(wanted).max(-1) > THRESHOLD
    mass = (np.abs(wanted).sum(-1) * mask).sum((1, 2))
    along = np.minimum(np.clip(np.sign(wanted) * found, 0, None), np.abs(wanted))
    n_pixels = mask.sum((1, 2))
    error = (np.square(wanted - found).mean(-1) * mask).sum((1, 2))
    return Foreground(
        kept=np.where(mass > 0, (along.sum(-1) * mask).sum((1, 2)) / np.maximum(mass, 1), 1.0),
        squared_error=error / np.maximum(n_pixels, 1),
        fraction=n_pixels / mask[0].size,
    )
