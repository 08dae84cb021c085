"""How a frame becomes bytes: the smallest worlds as they are, small ones without loss, large ones as photographs are.

What is cheapest was measured by ``benchmarks/playing.py``. Every client understands PNG; the others go only to those
that said they take them.

Shapes: H W pixel rows and columns
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = ["ENCODINGS", "JPEG", "PNG", "RAW", "Encoding", "choose_encoding"]

RAW_SIZE = struct.Struct("<HH")  # width and height before the pixels
RAW_PIXELS = 64 * 64  # larger frames are worth squeezing: at 60 frames/s these already are 6 Mbit/s
LOSSLESS_PIXELS = 128 * 128  # larger frames have pixels too small for a person to miss a level of one


@dataclass(frozen=True)
class Encoding:
    """One way to write a frame, uint8 (H, W, 3)."""

    number: int
    """What the header of a frame calls it."""
    name: str
    """What a client calls it."""
    encode: Callable[[np.ndarray], bytes]
    is_instant: bool = False
    """Takes less time than handing the work to another thread."""


def _raw(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    return RAW_SIZE.pack(width, height) + pixels.tobytes()


def _png(pixels: np.ndarray) -> bytes:
    return _with_pillow(pixels, "PNG", compress_level=1)  # fast rather than small


def _jpeg(pixels: np.ndarray) -> bytes:
    return _with_pillow(pixels, "JPEG", quality=90, subsampling=0)  # thin coloured lines keep their colour


def _with_pillow(pixels: np.ndarray, name: str, **how: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name, **how)
    return buffer.getvalue()


PNG = Encoding(1, "png", _png)
RAW = Encoding(2, "raw", _raw, is_instant=True)
JPEG = Encoding(3, "jpeg", _jpeg)
ENCODINGS = (PNG, RAW, JPEG)


def choose_encoding(takes: str, height: int, width: int) -> Encoding:
    """Choose how frames are sent.

    Args:
        takes: Names of encodings that a client takes, separated by commas; unknown ones mean nothing.
        height: Pixel rows of a frame.
        width: Pixel columns of a frame.
    """
    names = takes.split(",")
    if height * width > LOSSLESS_PIXELS:
        return JPEG if JPEG.name in names else PNG
    return RAW if RAW.name in names and height * width <= RAW_PIXELS else PNG
