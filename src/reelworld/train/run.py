"""Folder of a run: config, log, decisions, checkpoints. ``train/recordings.py`` writes its list of recordings.

``config.json`` is written once; opening the folder with another config is refused with the names of the
fields that differ. Only the length of the last stage may be raised, also when the run is finished. ``choices.json``
stores decisions made by timing, so that a resumed run makes the same ones.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

import reelworld
from reelworld.config import read_json, to_json
from reelworld.files import LOCK_FILE, TEMPORARY, FolderLock, write_json
from reelworld.train.checkpoint import Checkpoint, State, find_checkpoint, save_checkpoint, tidy
from reelworld.types import UserError

Sink = Callable[[Mapping[str, object]], None]
Difference = tuple[str, str, str]
"""Name of a field, its saved and its new value as JSON."""
_UNTRAINED = {LOCK_FILE, "config.json", "choices.json", "recordings.json"}
"""Files of a run before its first step."""


class Run:
    """One training run on disk, locked by one process at a time."""

    def __init__(self, folder: Path, lock: FolderLock, is_new: bool = False) -> None:
        self.folder = folder
        self.is_new = is_new
        """True if the folder was made for this run."""
        self.raised: tuple[str, ...] = ()
        """Lengths that this command has raised, in words."""
        self.sinks: list[Sink] = []
        """Called with every record of the log (TensorBoard, wandb)."""
        self._lock = lock

    @classmethod
    def open(cls, folder: Path | str, config: Mapping[str, object]) -> Run:
        """Open a new run, or an existing one with the same config.

        Args:
            folder: The run's folder; made when absent.
            config: JSON values that decide the results: system, size, fields, content of the data, seed.

        Raises:
            UserError: If the folder holds a checkpoint of another config, is not a run, or is locked by another
                training process.
        """
        folder = Path(folder)
        wanted = json.loads(json.dumps(to_json(config)))  # as read back from JSON: tuples are lists
        path = folder / "config.json"
        saved = _read_object(path) if path.exists() else None
        if saved is not None:
            saved.pop("versions", None)
        raised: list[Difference] = []
        if saved is not None and (folder / "latest").exists():
            raised = _check_same(folder, saved, wanted)
        elif folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file; give --out a folder.")
        elif saved is None and folder.is_dir() and (others := _others(folder)):
            raise UserError(
                f"{folder} exists and is no run (it holds {min(others)}); give --out a new or empty folder."
            )
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder, FolderLock(folder, "training"), is_new)
        try:
            if raised:
                run._raise_length(raised)
                write_json(path, {**wanted, "versions": _versions()})
            elif saved != wanted:  # without a checkpoint there is nothing to lose
                (folder / "choices.json").unlink(missing_ok=True)
                write_json(path, {**wanted, "versions": _versions()})
            tidy(folder)
        except OSError:
            run.discard()
            raise
        return run

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UserError | OSError):
            self.discard()
        self.close()

    @property
    def is_finished(self) -> bool:
        """True if the last stage is trained and its world is written."""
        checkpoint = self.checkpoint
        is_trained = checkpoint is None or checkpoint.state.stage in checkpoint.state.finished
        return is_trained and (self.folder / "world" / "world.json").exists()

    def _raise_length(self, raised: Sequence[Difference]) -> None:
        """Open the last stage again, whose length is raised.

        Raises:
            UserError: If a later stage has learned from the raised one.
        """
        checkpoint = self.checkpoint
        assert checkpoint is not None
        state = checkpoint.state
        for name, _, _ in raised:
            part = name.removeprefix("fields.").removesuffix(".steps")
            if name.endswith(".steps") and part != state.stage:
                self.close()
                raise UserError(
                    f"{name.removeprefix('fields.')} of {self.folder} cannot be raised: stage {state.stage!r} "
                    "has learned from its result. Give another --out."
                )
        self.raised = tuple(f"{name.removeprefix('fields.')} from {old} to {new}" for name, old, new in raised)
        checkpoint.rewrite(replace(state, finished=tuple(n for n in state.finished if n != state.stage)))

    def discard(self) -> None:
        """Remove a folder that was made for this run and has no checkpoint, after its first command failed."""
        if self.is_new and (names := {p.name for p in self.folder.iterdir()}) <= _UNTRAINED:
            for name in names - {LOCK_FILE}:
                (self.folder / name).unlink()
            self.close()
            with suppress(OSError):  # another process uses the folder
                self.folder.rmdir()

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Open the latest complete checkpoint; None before the first."""
        return find_checkpoint(self.folder)

    def save(self, state: State, tensors: Mapping[str, Mapping[str, Tensor]]) -> Path:
        """Write a checkpoint (see ``save_checkpoint``)."""
        return save_checkpoint(self.folder, state, tensors)

    def choose(self, question: str, decide: Callable[[], str]) -> str:
        """Return the stored decision of this run; ``decide`` is called the first time only."""
        path = self.folder / "choices.json"
        choices: dict[str, str] = _read_object(path) if path.exists() else {}
        if question not in choices:
            choices[question] = decide()
            write_json(path, choices)
        return choices[question]

    @property
    def _log_path(self) -> Path:
        return self.folder / "log.jsonl"

    def log(self, record: Mapping[str, object]) -> None:
        """Append one JSON object to log.jsonl and pass it to the sinks."""
        try:
            with self._log_path.open("ab") as file:
                file.write((json.dumps(to_json(record)) + "\n").encode())
        except OSError as error:
            raise UserError(
                f"{self._log_path} could not be written ({error.strerror}); make room and run the same "
                "command again to resume from the latest checkpoint."
            ) from None
        for sink in self.sinks:
            sink(record)

    def sync_log(self) -> int:
        """Make the log durable; return its length in bytes."""
        if not self._log_path.exists():
            return 0
        with self._log_path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def rewind_log(self, n_bytes: int) -> None:
        """Truncate the log to a checkpoint: the later steps are repeated."""
        if self._log_path.exists():
            os.truncate(self._log_path, min(n_bytes, self._log_path.stat().st_size))


def _others(folder: Path) -> set[str]:
    """Return the names in a folder that are not files of a run before its first step."""
    return {p.name for p in folder.iterdir() if p.name != LOCK_FILE and p.suffix != TEMPORARY}


def _read_object(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object; restore it, or train into a new --out.")
    return values


def _check_same(folder: Path, saved: object, wanted: object) -> list[Difference]:
    """Refuse another config; return the lengths that are raised, which are no reason to."""
    differing = list(_differences(saved, wanted))
    if all(_is_raised(*difference) for difference in differing):
        return differing
    if differing:
        named = "; ".join(f"{name} was {old}, now {new}" for name, old, new in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(
            f"{folder} holds a run with another config: {named}{more}. "
            "Give the same flags to resume it (--steps and --max-minutes may be raised), or another --out."
        )
    return []


def _is_raised(name: str, old: str, new: str) -> bool:
    """Return whether a difference is a greater number of steps or minutes."""
    if "absent" in (old, new) or not name.startswith("fields."):
        return False
    before, now = json.loads(old), json.loads(new)
    is_length = name.endswith(".steps") or name == "fields.max_minutes"
    return is_length and isinstance(before, int | float) and isinstance(now, int | float) and now > before


def _differences(saved: object, wanted: object, name: str = "") -> Iterator[Difference]:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in [*saved, *(k for k in wanted if k not in saved)]:
            absent = object()
            old, new = saved.get(key, absent), wanted.get(key, absent)
            if old is absent or new is absent:
                shown = ["absent" if v is absent else json.dumps(v) for v in (old, new)]
                yield f"{name}{key}", shown[0], shown[1]
            else:
                yield from _differences(old, new, f"{name}{key}.")
    elif saved != wanted:
        yield name.rstrip("."), json.dumps(saved), json.dumps(wanted)


def _versions() -> dict[str, str]:
    return {
        "reelworld": reelworld.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
