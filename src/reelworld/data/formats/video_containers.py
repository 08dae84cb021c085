"""Video containers by their first bytes, and detection of truncated files.

Decoders output as much as possible of a damaged file, and often stop without an error at its end. Containers of files,
unlike those of streams, store their length, so truncation is detected from a few bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
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


def _is_cut_unknown(file: BinaryIO, end: int) -> bool:
    """Streams do not store their length; a cut one just ends."""
    return False


@dataclass(frozen=True)
class Container:
    """One kind of container."""

    format: str
    """FFmpeg's name."""
    is_cut: Callable[[BinaryIO, int], bool]
    """Check whether a file, of some length, was cut."""


MP4, MATROSKA = Container("mp4", _is_cut_mp4), Container("matroska", _is_cut_matroska)
AVI, GIF = Container("avi", _is_cut_avi), Container("gif", _is_cut_gif)
MPEG_TS, FLV = Container("mpegts", _is_cut_unknown), Container("flv", _is_cut_unknown)
MPEG, ASF = Container("mpeg", _is_cut_unknown), Container("asf", _is_cut_unknown)
CONTAINERS: dict[str, Container] = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".3gp"), MP4),
    **dict.fromkeys((".mkv", ".webm"), MATROSKA),
    ".avi": AVI,
    ".gif": GIF,
    **dict.fromkeys((".ts", ".mts", ".m2ts"), MPEG_TS),
    ".flv": FLV,
    **dict.fromkeys((".mpg", ".mpeg"), MPEG),
    **dict.fromkeys((".wmv", ".asf"), ASF),
}
"""Ending -> container of a file whose first bytes do not say it."""


def container_of(path: Path) -> Container:
    """Return the container of a file by its first bytes, else by its ending."""
    with path.open("rb") as file:
        head = file.read(400).ljust(400, b"\0")
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return MP4
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return MATROSKA
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return AVI
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if head.startswith(b"FLV"):
        return FLV
    if head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return ASF
    if head.startswith((b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")):
        return MPEG
    if head[0] == head[188] == 0x47 or head[4] == head[196] == 0x47:
        return MPEG_TS
    return CONTAINERS[path.suffix.lower()]


def is_cut(path: Path) -> bool:
    """Return True for a video file that is shorter than the length in its container."""
    with path.open("rb") as file:
        return container_of(path).is_cut(file, path.stat().st_size)
