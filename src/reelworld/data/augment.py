"""Augmentation of clips: random crop and colour jitter, the same for every frame of a clip.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), appendix A.2, and the authors' code, which changes colours with
Pillow as well. Differs: the crop is taken from frames that already have the size of training; contrast pulls
towards the mean grey of the whole clip, so that frames keep their differences.

Shapes: T frames, H W pixel rows and columns
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

RATIO = 1.1
"""Greatest aspect ratio of a crop, and 1 / RATIO the least."""
TRIES = 10
"""Attempts to draw a fitting crop before the whole frame is used."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random resized crop and colour jitter."""

    min_area: float = 1.0
    """Least fraction of a frame's area that a crop keeps, above 0; 1 crops nothing."""
    jitter: float = 0.0
    """Greatest relative change of brightness, contrast and saturation, and of the hue half of it, in turns."""

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change one clip.

        Args:
            frames: uint8, (T, H, W, 3).
            rng: Source of all draws.

        Returns:
            uint8, (T, H, W, 3).
        """
        if self.min_area < 1:
            frames = _crop(frames, self._box(frames.shape[1], frames.shape[2], rng))
        return _jitter_colours(frames, self.jitter, rng) if self.jitter else frames

    def _box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw a crop: left, top, right and bottom in pixels."""
        for _ in range(TRIES):
            area = min(height, width) ** 2 * rng.uniform(self.min_area, 1.0)
            ratio = math.exp(rng.uniform(-math.log(RATIO), math.log(RATIO)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                return left, top, left + w, top + h
        return 0, 0, width, height


def _crop(frames: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Crop every frame and resize it to its old size."""
    left, top, right, bottom = box
    size, parts = (frames.shape[2], frames.shape[1]), frames[:, top:bottom, left:right]
    return np.stack([np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR)) for part in parts])


def _jitter_colours(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue by draws up to ``strength``, in a random order."""
    picture = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))  # stacked vertically: one change for all
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    turn = rng.uniform(-strength / 2, strength / 2)
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: ImageEnhance.Brightness(image).enhance(brightness),
        lambda image: ImageEnhance.Contrast(image).enhance(contrast),
        lambda image: ImageEnhance.Color(image).enhance(saturation),
        lambda image: _shift_hue(image, turn),
    ]
    for i in rng.permutation(len(changes)):
        picture = changes[i](picture)
    return np.asarray(picture).reshape(frames.shape)


def _shift_hue(picture: Image.Image, turn: float) -> Image.Image:
    """Shift the hue."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(round(turn * 255) % 256)  # uint8 wraps around
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")
