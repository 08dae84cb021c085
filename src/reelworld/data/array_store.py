"""Arrays of one file by name, read by window: uncompressed .npz files through a memory map.

An .npz is a zip of .npy members. An uncompressed member has the same bytes in the file as in memory, so a window of
frames is one slice of the mapped file and costs its own bytes only.
"""

from __future__ import annotations

import mmap
import struct
import tokenize
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeVar, cast

import numpy as np

from reelworld.types import UserError

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""The fixed part of a zip member's own header; the last two numbers are the lengths of name and extra field."""
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError, ValueError, TypeError),
    *(KeyError, EOFError, OSError, NotImplementedError, OverflowError, MemoryError, RecursionError),
)
"""Errors that reading a damaged .npz may raise: its headers are Python literals inside a zip."""
T = TypeVar("T")


class Unreadable(UserError):
    """Error for a truncated or corrupt file: it is skipped and counted; the rest of its folder is used."""


class Compressed(Unreadable):
    """A sound .npz that cannot be mapped because it is compressed."""


class FilePool:
    """Cache of open files, of which the most recently used stay open; it pickles as an empty pool.

    A process has a limit of open files (often 1,024), and a recording may have more episodes.
    """

    def __init__(self, max_open: int, *, in_order: bool = False) -> None:
        """Create an empty pool.

        Args:
            max_open: Files that stay open.
            in_order: Whether episodes will be read one after the other: frames that had to be read together are kept.
        """
        self.max_open, self.in_order = max_open, in_order
        self._open: OrderedDict[Hashable, object] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_open": OrderedDict()}

    def get(self, key: Hashable, open_file: Callable[[], T]) -> T:
        """Return the open file of a key, opened now if it is not open."""
        value = self._open.get(key)
        if value is None:
            value = self._open[key] = open_file()
            if len(self._open) > self.max_open:
                self._open.popitem(last=False)
        else:
            with suppress(KeyError):  # another thread may have closed it
                self._open.move_to_end(key)
        return cast(T, value)


class Rows(Protocol):
    """Array, in memory or on disk, from which slices of rows are copied."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Read rows."""
        ...


class ArrayStore(Protocol):
    """Arrays of one file by name, with a row for each frame."""

    @property
    def name(self) -> str:
        """Name of the file, for errors."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Array name -> shape in the file."""
        ...

    def view(self, name: str) -> Rows:
        """Return one array to take slices of; copy what is kept."""
        ...

    def as_stored(self, pool: FilePool) -> ArrayStore:
        """Return the same arrays as the file has them, frames not resized, opened through another pool."""
        ...


@dataclass(frozen=True, kw_only=True)
class ArrayIndex:
    """Place and type of one array inside an uncompressed .npz."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool


@dataclass(frozen=True)
class NpzStore:
    """Arrays of one uncompressed .npz, mapped when they are read."""

    path: Path
    pool: FilePool = field(compare=False)

    @cached_property
    def index(self) -> dict[str, ArrayIndex]:
        """Array name -> its place, read at the first use; errors are those of ``read_index``."""
        return read_index(self.path)

    @property
    def name(self) -> str:
        """Name of the file, for errors."""
        return self.path.name

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Array name -> shape."""
        return {name: array.shape for name, array in self.index.items()}

    def view(self, name: str) -> np.ndarray:
        """Return one array as a read-only view of the mapped file; copy what is kept."""
        array = self.index[name]
        order: Literal["F", "C"] = "F" if array.is_fortran else "C"
        return np.ndarray(array.shape, array.dtype, self.pool.get(self.path, self._map), array.offset, order=order)

    def as_stored(self, pool: FilePool) -> NpzStore:
        """Return itself: frames of an .npz are not resized."""
        return self

    def _map(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_index(path: Path) -> dict[str, ArrayIndex]:
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
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise Unreadable(f"{path.name} is truncated or no .npz file ({reason})") from None


def _locate(path: Path, file: BinaryIO, info: zipfile.ZipInfo, end: int) -> ArrayIndex:
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
        raise pickled(path.name, f"{info.filename} as a pickled object array")
    offset = file.tell()
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if offset - first + n_bytes != info.file_size or offset + n_bytes > end:
        raise Unreadable(f"{path.name} is truncated: {info.filename} should hold {n_bytes} bytes")
    return ArrayIndex(offset=offset, shape=tuple(shape), dtype=dtype, is_fortran=is_fortran)


def pickled(name: str, what: str) -> UserError:
    """Build the error for a file with object arrays."""
    return UserError(
        f"{name} holds {what}, which can run code when it is loaded; wanted plain numbers: save it again as an array "
        "of one dtype."
    )
