"""One process at a time in a folder: a recording that is being made, a run that is being trained."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import IO

from reelworld.types import UserError

__all__ = ["LOCK_FILE", "FolderLock"]

LOCK_FILE = ".lock"
_log = logging.getLogger(__name__)


class FolderLock:
    """Holds a folder until ``close``; the system lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path, doing: str) -> None:
        """Take the lock.

        Args:
            folder: An existing folder.
            doing: What is done with it, for the error: "training", "recording into".

        Raises:
            UserError: If another process holds it.
        """
        self._path = folder / LOCK_FILE
        self._file = _take(self._path, doing)

    def close(self) -> None:
        """Let another process have the folder, and leave no file behind."""
        if self._file.closed:
            return
        try:
            self._path.unlink(missing_ok=True)  # while it is held: afterwards it may be another's
        except PermissionError:
            _log.debug("%s stays: this system does not delete open files", self._path)
        self._file.close()


def _take(path: Path, doing: str) -> IO[str]:
    while True:
        file = path.open("w")
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks; two processes in one folder are then the user's care
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(f"another process is {doing} {path.parent}; wait for it or give another --out.") from None
        except OSError as error:
            _log.warning("%s cannot be locked (%s); do not use it twice at once.", path.parent, error.strerror)
            return file
        if _is_at(path, file):
            return file
        file.close()  # its last holder deleted it between our two calls


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
