"""Frame encodings: raw pixels for the smallest worlds, PNG for small ones, JPEG for large ones.

``benchmarks/playing.py`` measured which is cheapest. Every client must support PNG; the other encodings are sent
only to clients that list them.

Shapes: H W pixel rows and columns
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

RAW_SIZE = struct.Struct("<HH")  # width and height before the pixels
RAW_PIXELS = 64 * 64  # larger frames are compressed: at 60 frames/s these already are 6 Mbit/s
LOSSLESS_PIXELS = 128 * 128  # in larger frames a pixel is too small for errors of one level to be visible


@dataclass(frozen=True)
class Encoding:
    """One encoding of frames, uint8 (H, W, 3)."""

    number: int
    """Its number in the header of a frame."""
    name: str
    """Its name in the query of a client."""
    encode: Callable[[np.ndarray], bytes]
    is_instant: bool = False
    """Encoding takes less time than a switch to another thread."""


def _raw(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    return RAW_SIZE.pack(width, height) + pixels.tobytes()


def _png(pixels: np.ndarray) -> bytes:
    return _with_pillow(pixels, "PNG", compress_level=1)  # fast rather than small


def _jpeg(pixels: np.ndarray) -> bytes:
    return _with_pillow(pixels, "JPEG", quality=90, subsampling=0)  # thin coloured lines keep their colour


def _with_pillow(pixels: np.ndarray, name: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name, **options)
    return buffer.getvalue()


PNG = Encoding(1, "png", _png)
RAW = Encoding(2, "raw", _raw, is_instant=True)
JPEG = Encoding(3, "jpeg", _jpeg)
ENCODINGS = (PNG, RAW, JPEG)


def choose_encoding(supported: str, height: int, width: int) -> Encoding:
    """Choose the encoding of a connection.

    Args:
        supported: Names of the client's encodings, separated by commas; unknown ones are ignored.
        height: Pixel rows of a frame.
        width: Pixel columns of a frame.
    """
    names = supported.split(",")
    if height * width > LOSSLESS_PIXELS:
        return JPEG if JPEG.name in names else PNG
    return RAW if RAW.name in names and height * width <= RAW_PIXELS else PNG
