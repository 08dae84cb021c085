"""Resizing of frames: crop, stretch or pad, never silently."""

from __future__ import annotations

from collections import Counter

import numpy as np
from PIL import Image

from reelworld.types import Fit, UserError


def fit_frames(frames: np.ndarray, shape: tuple[int, int] | None, fit: Fit, name: str) -> np.ndarray:
    """Resize all frames of a recording.

    Args:
        frames: uint8 (T, H, W, 3).
        shape: Target height and width; None keeps the frames.
        fit: Treatment of another size.
        name: File, for the error.

    Returns:
        uint8 (T, height, width, 3).
    """
    if shape is None or frames.shape[1:3] == shape:
        return frames
    check_fit(frames.shape[1:3], shape, fit, name)
    return np.stack([fit_frame(frame, shape, fit) for frame in frames])


def check_fit(have: tuple[int, ...], want: tuple[int, int], fit: Fit, name: str) -> None:
    """Raise a UserError when frames have another size and ``fit`` names no way to change it."""
    if fit == "none" and tuple(have) != want:
        raise UserError(
            f"{name} has frames of {have[0]}x{have[1]} (height x width); {want[0]}x{want[1]} are wanted. "
            "Give recordings of that size, or choose how to get there where the verb asks: --fit crop, stretch or pad."
        )


def common_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """Return the height and width that all recordings share.

    Args:
        sizes: Height and width -> recordings that have them.
    """
    if len(sizes) > 1:
        listed = ", ".join(f"{n} of {h}x{w}" for (h, w), n in sizes.most_common(4))
        raise UserError(
            f"the recordings have {len(sizes)} sizes (height x width): {listed}; wanted one. "
            "Choose it with --size and how to get there with --fit crop, stretch or pad."
        )
    return next(iter(sizes))


def crop_box(have: tuple[int, int], want: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centred box of the shape of ``want`` in a picture: left, top, right, bottom, in pixels."""
    scale = min(have[0] / want[0], have[1] / want[1])
    height, width = want[0] * scale, want[1] * scale
    top, left = (have[0] - height) / 2, (have[1] - width) / 2
    return left, top, left + width, top + height


def cropped_fraction(have: tuple[int, int], want: tuple[int, int]) -> float:
    """Return the fraction of a picture (height, width) that ``crop`` to the shape of ``want`` leaves out."""
    left, top, right, bottom = crop_box(have, want)
    return 1 - (right - left) * (bottom - top) / (have[0] * have[1])


def fit_frame(frame: np.ndarray, shape: tuple[int, int], fit: Fit) -> np.ndarray:
    """Resize one frame, uint8 (H, W, 3): averaged when it shrinks, bicubic when it grows."""
    have, want = (frame.shape[0], frame.shape[1]), shape
    if have == want:
        return frame
    box, inner = (0.0, 0.0, float(have[1]), float(have[0])), want
    scale = min(have[0] / want[0], have[1] / want[1])
    if fit == "crop":
        box = crop_box(have, want)
    elif fit == "pad":
        scale = max(have[0] / want[0], have[1] / want[1])
        inner = (max(1, round(have[0] / scale)), max(1, round(have[1] / scale)))
    method = Image.Resampling.BOX if scale > 1 else Image.Resampling.BICUBIC
    image = np.asarray(Image.fromarray(frame).resize((inner[1], inner[0]), method, box=box))
    if fit != "pad":
        return image
    padded = np.zeros((*want, 3), np.uint8)
    top, left = (want[0] - inner[0]) // 2, (want[1] - inner[1]) // 2
    padded[top : top + inner[0], left : left + inner[1]] = image
    return padded
