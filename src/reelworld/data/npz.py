"""Uncompressed .npz files, read by offset through a memory map (``files.write_npz`` writes them).

An .npz is a zip of .npy members. A member stored without compression has the bytes of its array in memory, so a
window of frames is one slice of a map of the file and costs no more than its own bytes.
"""

from __future__ import annotations

import mmap
import struct
import tokenize
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from reelworld.types import UserError

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""The fixed part of a zip member's own header; the last two numbers are the lengths of name and extra field."""


class Unreadable(UserError):
    """A file that is truncated or corrupt: it is skipped and counted, the rest of its folder is used."""


DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError, ValueError, TypeError),
    *(KeyError, EOFError, OSError, NotImplementedError, OverflowError, MemoryError, RecursionError),
)
"""What reading a damaged .npz may raise: its headers are Python literals inside a zip."""


class Compressed(Unreadable):
    """A sound .npz that cannot be mapped because it is compressed."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """Where one array lies inside an uncompressed .npz."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool


def read_members(path: Path) -> dict[str, Member]:
    """Find the arrays of an uncompressed .npz without reading them.

    Raises:
        Unreadable: If the file is truncated, corrupt, compressed or no .npz at all.
        UserError: If it holds a pickled object array.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            end = path.stat().st_size
            return {i.filename.removesuffix(".npy"): _locate(path, file, i, end) for i in archive.infolist()}
    except UserError:
        raise
    except DAMAGE as error:
        raise Unreadable(f"{path.name} is truncated or no .npz file ({_one_line(error)})") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _locate(path: Path, file: BinaryIO, info: zipfile.ZipInfo, end: int) -> Member:
    if info.compress_type != zipfile.ZIP_STORED:
        raise Compressed(f"{path.name} is compressed; wanted an uncompressed .npz")
    file.seek(info.header_offset)
    mark, *_, n_name, n_extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if mark != b"PK\x03\x04":
        raise Unreadable(f"{path.name} is corrupt: {info.filename} is not where its table says")
    first = info.header_offset + LOCAL_HEADER.size + n_name + n_extra
    file.seek(first)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise UserError(
            f"{path.name} holds {info.filename} as a pickled object array, which can run code when it is loaded; "
            "wanted plain numbers: save it again as an array of one dtype."
        )
    offset = file.tell()
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if offset - first + n_bytes != info.file_size or offset + n_bytes > end:
        raise Unreadable(f"{path.name} is truncated: {info.filename} should hold {n_bytes} bytes")
    return Member(offset=offset, shape=tuple(shape), dtype=dtype, is_fortran=is_fortran)


class ArrayFiles:
    """Many uncompressed .npz files, of which the most recently used stay mapped.

    A process may hold only so many files open (often 1,024), a recording may have more episodes.
    """

    def __init__(self, max_open: int = 128) -> None:
        self._max_open = max_open
        self._members: dict[Path, dict[str, Member]] = {}
        self._maps: OrderedDict[Path, mmap.mmap] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {"_max_open": self._max_open, "_members": self._members, "_maps": OrderedDict()}

    def members(self, path: Path) -> dict[str, Member]:
        """Name -> place of every array of a file."""
        if path not in self._members:
            self._members[path] = read_members(path)
        return self._members[path]

    def view(self, path: Path, name: str) -> np.ndarray:
        """Return one array as a read-only view of the mapped file; copy what you keep."""
        member = self.members(path)[name]
        order: Literal["F", "C"] = "F" if member.is_fortran else "C"
        return np.ndarray(member.shape, member.dtype, self._map(path), member.offset, order=order)

    def _map(self, path: Path) -> mmap.mmap:
        if path in self._maps:
            self._maps.move_to_end(path)
            return self._maps[path]
        with path.open("rb") as file:
            self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._maps) > self._max_open:
            self._maps.popitem(last=False)
        return self._maps[path]
