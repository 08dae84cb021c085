"""Durable files: atomic writes of bytes, JSON, .npz and whole folders, and a lock that one process holds per folder.

A file or folder is written aside, synced to the disk and then renamed. A reader sees the old content or the new,
never a part of it; an error leaves the old content and no leftovers; a kill leaves at most a name ending in .tmp.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from filelock import FileLock, Timeout

from reelworld.config import to_json
from reelworld.types import UserError

LOCK_FILE = ".lock"
TEMPORARY = ".tmp"
"""Ending of everything that is still being written."""

_LOCKS_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_IS_WINDOWS = os.name == "nt"
_log = logging.getLogger(__name__)


@contextmanager
def atomic_write(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` when the block ends without an error.

    Args:
        path: An existing file is replaced, and kept as it is on an error.
        sync: Whether to wait until the disk has the bytes. Without it, a power cut can leave an incomplete file.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")  # processes that write one file do not collide
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a folder that replaces ``path``, as a whole, when the block ends without an error.

    Yields:
        The folder to write into, an empty one beside ``path``. Its files may be written without syncing.
    """
    aside, old = path.with_name(path.name + TEMPORARY), path.with_name(path.name + ".old" + TEMPORARY)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
        for file in (*aside.iterdir(), aside):
            fsync(file)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def fsync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, durable. Syncing a file does not sync its name."""
    if _IS_WINDOWS:  # refuses to open folders and to sync what was opened for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: object) -> None:
    """Write dataclasses, mappings, sequences and plain values as JSON, atomically."""
    content = json.dumps(to_json(value), indent=2) + "\n"
    with atomic_write(path) as file:
        file.write(content.encode())


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], *, sync: bool = True) -> None:
    """Write arrays as an uncompressed .npz, atomically; equal arrays give equal bytes.

    Args:
        path: An existing file is replaced only when the new one is complete.
        arrays: Name -> array; a memory map is streamed, not loaded.
        sync: Wait until the bytes are on the disk (see ``atomic_write``).
    """
    with atomic_write(path, sync=sync) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


class FolderLock:
    """Lock on a folder, held until ``close``. The system releases it when the process ends, also by a kill."""

    def __init__(self, folder: Path, doing: str) -> None:
        """Acquire the lock or fail at once.

        Args:
            folder: An existing folder.
            doing: Present participle for the error: "training", "recording into".

        Raises:
            UserError: If another process holds the folder.
        """
        self._path = folder / LOCK_FILE
        self._lock = FileLock(self._path, blocking=False, thread_local=False, fallback_to_soft=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(f"another process is {doing} {folder}; wait for it or give another --out.") from None
        except OSError as error:
            if error.errno not in _LOCKS_UNSUPPORTED:
                raise
            _log.warning("%s cannot be locked (%s); do not use it twice at once.", folder, error.strerror)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock and remove its file; a second call does nothing."""
        if self._lock.is_locked:
            with suppress(OSError):  # Windows deletes no open files; there the release does it
                self._path.unlink()  # while it is held: a released file may be another process's already
            self._lock.release()
