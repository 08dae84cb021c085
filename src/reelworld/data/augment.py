"""Clips that look otherwise: cut out and recoloured, every frame of a clip in the same way.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), appendix A.2, and the authors' code, which changes colours with
Pillow as well. Differs: the cut is taken from frames that were already brought to the size of training; contrast pulls
towards the mean grey of the whole clip, so that frames keep their differences.

Shapes: T frames, H W pixel rows and columns
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

__all__ = ["Augmentation"]

RATIO = 1.1
"""Greatest stretch of a cut, and 1 / RATIO the least."""
TRIES = 10
"""Draws of a cut that does not fit before the whole frame is taken."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much clips may be changed."""

    least_area: float = 1.0
    """Least share of a frame's area that a cut keeps, above 0; 1 cuts nothing."""
    colour: float = 0.0
    """Greatest relative change of brightness, contrast and saturation, and of the hue half of it, in turns."""

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change one clip.

        Args:
            frames: uint8, (T, H, W, 3).
            rng: Where all draws come from.

        Returns:
            uint8, (T, H, W, 3).
        """
        if self.least_area < 1:
            frames = _cut_out(frames, self._box(frames.shape[1], frames.shape[2], rng))
        return _recoloured(frames, self.colour, rng) if self.colour else frames

    def _box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw a cut: left, top, right and bottom in pixels."""
        for _ in range(TRIES):
            area = min(height, width) ** 2 * rng.uniform(self.least_area, 1.0)
            ratio = math.exp(rng.uniform(-math.log(RATIO), math.log(RATIO)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                return left, top, left + w, top + h
        return 0, 0, width, height


def _cut_out(frames: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Bring a part of every frame to the size of the whole."""
    left, top, right, bottom = box
    size, parts = (frames.shape[2], frames.shape[1]), frames[:, top:bottom, left:right]
    return np.stack([np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR)) for part in parts])


def _recoloured(frames: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue by draws up to ``most``, in a random order."""
    picture = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))  # one below the other: one change for all
    brightness, contrast, saturation = rng.uniform(1 - most, 1 + most, 3)
    turn = rng.uniform(-most / 2, most / 2)
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: ImageEnhance.Brightness(image).enhance(brightness),
        lambda image: ImageEnhance.Contrast(image).enhance(contrast),
        lambda image: ImageEnhance.Color(image).enhance(saturation),
        lambda image: _turned(image, turn),
    ]
    for i in rng.permutation(len(changes)):
        picture = changes[i](picture)
    return np.asarray(picture).reshape(frames.shape)


def _turned(picture: Image.Image, turn: float) -> Image.Image:
    """Turn the hue."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(round(turn * 255) % 256)  # uint8: it comes round
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")
