"""Films and pictures from frames: mp4, gif, png contact sheets, npz; labels and panels side by side.

Frames are uint8 (T, H, W, 3) everywhere. Files are written atomically. An mp4 loses detail (yuv420p, the only form that
every browser plays): it is for viewing, never for training. A gif with at most 256 colours and an npz are exact.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reelworld.files import atomic_write, write_npz
from reelworld.types import UserError

MEDIA_SUFFIXES = (".mp4", ".gif", ".png", ".npz")

TEXT_COLOR = (232, 236, 244)
BACKGROUND = (24, 27, 34)


def check_media_path(path: Path, force: bool = False) -> None:
    """Refuse a path that cannot be written, before any work is done.

    Raises:
        UserError: If the suffix is unknown, the file exists without ``force``, or a file is in the place of a folder.
    """
    if path.suffix.lower() not in MEDIA_SUFFIXES:
        raise UserError(f"cannot write {path.name!r}: use one of the endings {', '.join(MEDIA_SUFFIXES)}.")
    if path.exists() and not force:
        raise UserError(f"{path} exists; choose another name or pass --force to replace it.")
    if path.is_dir() or not (nearest := next(p for p in path.absolute().parents if p.exists())).is_dir():
        blocking = f"{path} is a folder" if path.is_dir() else f"{nearest} is a file, not a folder"
        raise UserError(f"cannot write {path.name!r}: {blocking}; choose another name.")


def write_media(path: Path, frames: np.ndarray, fps: float, arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write frames in the format of the file's suffix.

    Args:
        path: Ends in .mp4, .gif, .png (a contact sheet) or .npz (exact frames).
        frames: uint8, (T, H, W, 3).
        fps: Frames per second; 0 or less counts as 10.
        arrays: Further arrays for an .npz, e.g. actions; other formats ignore them.
    """
    check_media_path(path, force=True)
    _check_frames(frames)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with _writing(path):
            write_npz(path, {"frames": frames, **(arrays or {})})
        return
    if suffix == ".png":
        content = encode_png(contact_sheet(frames, scale=viewing_scale(frames, 96)))
    elif suffix == ".mp4":
        content = encode_mp4(frames, fps, scale=viewing_scale(frames, 256))
    else:
        content = encode_gif(enlarge(frames, viewing_scale(frames, 256)), fps)
    write_file(path, content)


def write_file(path: Path, content: bytes) -> None:
    """Write bytes atomically, with the folders above; a disk that refuses is a UserError."""
    with _writing(path), atomic_write(path) as file:
        file.write(content)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"could not write {path} ({error.strerror or error}); free space or choose another place."
        ) from None


def encode_mp4(frames: np.ndarray, fps: float, crf: int = 18, scale: int = 1) -> bytes:
    """Encode frames as an mp4 (H.264) for browsers.

    Args:
        frames: uint8, (T, H, W, 3); an odd last row or column is repeated once: H.264 needs even sizes.
        fps: Frames per second; 0 or less counts as 10.
        crf: Quality, lower is better; 18 hides the loss at the enlarged sizes used for viewing.
        scale: Integer enlargement, one frame at a time: long films would fill the memory.
    """
    import av  # 0.1 s that `play` and --help need not wait for

    _check_frames(frames)
    height, width = (side * scale for side in frames.shape[1:3])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(_rate(fps)).limit_denominator(1000))
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        for frame in frames:
            even = np.pad(enlarge(frame, scale), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def encode_gif(frames: np.ndarray, fps: float) -> bytes:
    """Encode frames as a looping gif; exact when the clip has at most 256 colours.

    Equal frames in a row become one frame that is shown longer.

    Args:
        frames: uint8, (T, H, W, 3).
        fps: Frames per second; gif counts hundredths of a second and players slow down below two of them.
    """
    _check_frames(frames)
    packed = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, ids = np.unique(packed, return_inverse=True)
    if len(colours) <= 256:
        palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8).tobytes()
        images = [Image.fromarray(x) for x in ids.reshape(packed.shape).astype(np.uint8)]
        for image in images:
            image.putpalette(palette)
    else:
        images = [Image.fromarray(x).quantize(256, dither=Image.Dither.NONE) for x in frames]
    buffer = io.BytesIO()
    duration = 10 * max(2, round(100 / _rate(fps)))
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0, optimize=False)
    return buffer.getvalue()


def encode_png(image: np.ndarray) -> bytes:
    """Encode one image, uint8 (H, W, 3), as png."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def enlarge(frames: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel ``scale`` times in both directions; frames (..., H, W, 3)."""
    return frames if scale == 1 else frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def viewing_scale(frames: np.ndarray, target: int) -> int:
    """Return the integer factor that enlarges the shorter side to about ``target`` pixels, at least 1."""
    out: int = max(1, round(target / min(frames.shape[-3:-1])))
    return out


def with_label(frames: np.ndarray, text: str, size: int = 13) -> np.ndarray:
    """Add a strip with a line of text above frames.

    Args:
        frames: uint8, (..., H, W, 3).
        text: One line; cut off at the width.
        size: Height of the letters in pixels.

    Returns:
        uint8, (..., H + strip, W, 3), where the strip is ``size + 7`` pixels high.
    """
    strip = np.asarray(_text(text, frames.shape[-2], size + 7, size))
    return np.concatenate([np.broadcast_to(strip, (*frames.shape[:-3], *strip.shape)), frames], axis=-3)


def _text(text: str, width: int, height: int, size: int) -> Image.Image:
    image = Image.new("RGB", (width, height), BACKGROUND)
    ImageDraw.Draw(image).text((6, height // 2), text, fill=TEXT_COLOR, font=ImageFont.load_default(size), anchor="lm")
    return image


def side_by_side(panels: Mapping[str, np.ndarray], scale: int = 1, gap: int = 6) -> np.ndarray:
    """Join clips of one size side by side, each under its name.

    Args:
        panels: Name -> uint8 (T, H, W, 3); shorter clips hold their last frame.
        scale: Integer enlargement.
        gap: Pixels between panels.

    Returns:
        uint8, (T, H', W', 3), T of the longest clip.
    """
    n_frames = max(len(x) for x in panels.values())
    columns: list[np.ndarray] = []
    for name, frames in panels.items():
        held = np.concatenate([frames, frames[-1:].repeat(n_frames - len(frames), axis=0)])
        shown = with_label(enlarge(held, scale), name)
        if columns:
            columns.append(np.full((*shown.shape[:2], gap, 3), BACKGROUND, np.uint8))
        columns.append(shown)
    return np.concatenate(columns, axis=2)


def contact_sheet(
    frames: np.ndarray,
    columns: int = 8,
    scale: int = 1,
    gap: int = 4,
    labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
) -> np.ndarray:
    """Arrange frames in a table, row by row.

    Args:
        frames: uint8, (N, H, W, 3).
        columns: Frames per row.
        scale: Integer enlargement.
        gap: Pixels around every frame.
        labels: One line of text per frame, above it.
        row_labels: One line of text per row, above it.

    Returns:
        uint8, (H', W', 3).
    """
    _check_frames(frames)
    cells = list(enlarge(frames, scale))
    if labels is not None:
        cells = [with_label(x, text, size=11) for x, text in zip(cells, labels, strict=True)]
    height, width = cells[0].shape[:2]
    columns = min(columns, len(cells))
    rows: list[np.ndarray] = []
    for first in range(0, len(cells), columns):
        row = np.full((height + gap, columns * (width + gap) + gap, 3), BACKGROUND, np.uint8)
        for i, cell in enumerate(cells[first : first + columns]):
            left = gap + i * (width + gap)
            row[:height, left : left + width] = cell
        rows.append(row if row_labels is None else with_label(row, row_labels[len(rows)], size=11))
    top = np.full((gap, rows[0].shape[1], 3), BACKGROUND, np.uint8)
    return np.concatenate([top, *rows])


def _rate(fps: float) -> float:
    return fps if fps > 0 else 10.0


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; wanted uint8 (T, H, W, 3) with T > 0.")
