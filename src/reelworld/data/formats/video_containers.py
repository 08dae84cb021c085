"""Video containers by file ending, and detection of truncated files.

Decoders output as much as possible of a damaged file, and often stop without an error at its end. All five containers
store their length, so truncation is detected from a few bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def _is_cut_mp4(file: BinaryIO, end: int) -> bool:
    """Walk the boxes of the outermost level: 4 bytes size, 4 bytes name; size 1 means 8 more bytes, 0 to the end."""
    position = 0
    while position + 8 <= end:
        file.seek(position)
        size, _, long_size = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        size = long_size if size == 1 else size
        if size < 8:
            return False
        position += size
    return position > end


def _is_cut_matroska(file: BinaryIO, end: int) -> bool:
    """Read the size of the second element, the segment that holds everything; live streams do not know it."""
    header = _element_end(file, 0)
    segment = _element_end(file, header) if header else None
    return segment is not None and segment > end


def _element_end(file: BinaryIO, position: int) -> int | None:
    """Return the end of an EBML element: an id and a size whose first byte says how long each is."""
    file.seek(position)
    head = file.read(12).ljust(12, b"\0")
    n_id = 9 - head[0].bit_length()
    n_size = 9 - head[n_id].bit_length() if n_id <= 4 else 9
    if n_size > 8:
        return None
    value = int.from_bytes(head[n_id : n_id + n_size], "big") & ((1 << 7 * n_size) - 1)
    is_unknown = value == (1 << 7 * n_size) - 1
    return None if is_unknown else position + n_id + n_size + value


def _is_cut_avi(file: BinaryIO, end: int) -> bool:
    """Compare with the size of the first RIFF chunk."""
    out: bool = struct.unpack("<4xI", file.read(8).ljust(8, b"\0"))[0] + 8 > end
    return out


def _is_cut_gif(file: BinaryIO, end: int) -> bool:
    """A gif ends with a semicolon; some writers add zeros."""
    file.seek(max(0, end - 64))
    return not file.read().rstrip(b"\0").endswith(b";")


CONTAINERS: dict[str, tuple[str, Callable[[BinaryIO, int], bool]]] = {
    ".mp4": ("mp4", _is_cut_mp4),
    ".m4v": ("mp4", _is_cut_mp4),
    ".mov": ("mov", _is_cut_mp4),
    ".mkv": ("matroska", _is_cut_matroska),
    ".webm": ("matroska", _is_cut_matroska),
    ".avi": ("avi", _is_cut_avi),
    ".gif": ("gif", _is_cut_gif),
}
"""Ending -> FFmpeg's name of the container, and the check whether the file was cut."""


def is_cut(path: Path) -> bool:
    """Return True for a video file that is shorter than the length in its container."""
    with path.open("rb") as file:
        return CONTAINERS[path.suffix.lower()][1](file, path.stat().st_size)
