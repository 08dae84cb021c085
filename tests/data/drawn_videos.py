"""Videos whose every frame carries its number, written in each container that can be read."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np


def numbered_frames(n: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that carry their number as eight grey bars (bit 0 leftmost), which survive lossy codecs."""
    frames = np.full((n, height, width, 3), 40, np.uint8)
    edges = np.linspace(0, width, 9).astype(int)
    for t in range(n):
        for bit in range(8):
            if t >> bit & 1:
                frames[t, :, edges[bit] : edges[bit + 1]] = 215
    return frames


def read_numbers(frames: np.ndarray) -> list[int]:
    """Read the numbers back; averages over bars, so that resizing and compression do not matter."""
    edges = np.linspace(0, frames.shape[2], 9).astype(int)
    middle = frames.shape[1] // 2
    rows = frames[:, middle - 1 : middle + 1].mean(axis=(1, 3))
    bits = np.stack([rows[:, a + 1 : b - 1].mean(axis=1) > 128 for a, b in pairwise(edges)], 1)
    return [int(sum(1 << i for i in range(8) if row[i])) for row in bits]


CODECS = {
    ".mp4": ("libx264", "yuv420p"),
    ".mkv": ("ffv1", "bgr0"),
    ".webm": ("libvpx-vp9", "yuv420p"),
    ".avi": ("mpeg4", "yuv420p"),
    ".gif": ("gif", "rgb8"),
}


def write_video(path: Path, frames: np.ndarray, fps: int = 25, times_ms: list[int] | None = None, **options) -> Path:
    """Encode frames with PyAV; ``times_ms`` places them in time by hand (variable frame rate)."""
    import av

    codec, pixels = options.pop("codec", CODECS[path.suffix])
    title = options.pop("title", "")
    height, width = frames.shape[1:3]
    with av.open(str(path), "w", options=options.pop("container", {})) as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if codec == "libx264":
            stream.options = {"crf": "10", "preset": "ultrafast"}
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
