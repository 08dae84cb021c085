"""Atomic checkpoints: written to a temporary folder, synced, renamed; ``latest`` is updated last.

``RUN/step_0001000/`` holds one safetensors file per module, ``optimizer`` and ``average`` during a stage, and
``state.json``. ``RUN/latest`` is one line with the folder's name; the folder it names is complete. A killed process
leaves at most one folder that ``latest`` does not name. The next save removes it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from reelworld.config import from_json, read_json, to_json
from reelworld.files import TEMPORARY, atomic_folder, atomic_write, fsync, write_json
from reelworld.types import UserError

FORMAT_VERSION = 1
KEEP = 2


@dataclass(frozen=True, kw_only=True)
class State:
    """Progress of a run: stage, steps, minutes."""

    step: int
    """Optimizer steps of all stages so far."""
    stage: str
    """Name of the current stage, or of the one just finished."""
    stage_step: int
    """Steps of that stage so far."""
    minutes: float
    """Wall-clock minutes of that stage so far."""
    finished: tuple[str, ...]
    """Names of the finished stages."""
    log_bytes: int
    """Length of log.jsonl at this step; a resumed run truncates the log to it."""
    format_version: int = FORMAT_VERSION


class Checkpoint:
    """One complete checkpoint on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        record = read_json(folder / "state.json")
        version = record.get("format_version", 0) if isinstance(record, dict) else 0
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise UserError(
                f"{folder} has checkpoint format {version}; this reelworld reads up to {FORMAT_VERSION}. "
                "Upgrade reelworld."
            )
        self.state = from_json(State, record, str(folder / "state.json"))

    def rewrite(self, state: State) -> None:
        """Replace the progress that is kept beside the tensors."""
        self.state = state
        write_json(self.folder / "state.json", to_json(state))

    def has(self, name: str) -> bool:
        """Return whether there is a file of tensors of this name."""
        return (self.folder / f"{name}.safetensors").is_file()

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read one file of tensors onto the CPU.

        Raises:
            UserError: If the file is missing or broken.
        """
        path = self.folder / f"{name}.safetensors"
        try:
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(
                f"{path} cannot be read ({error}); write the name of the other step_ folder into "
                f"{self.folder.parent / 'latest'}, or train into a new folder."
            ) from None


def find_checkpoint(run_folder: Path) -> Checkpoint | None:
    """Open the checkpoint that ``latest`` names; None when there is none yet."""
    latest = run_folder / "latest"
    if not latest.exists():
        return None
    name = latest.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"step_\d+", name) or not (run_folder / name).is_dir():
        raise UserError(
            f"{latest} names {name!r}, which is not a checkpoint in {run_folder}; write the name of one "
            "into it, or delete it to train from the start."
        )
    return Checkpoint(run_folder / name)


def save_checkpoint(run_folder: Path, state: State, tensors: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """Write a checkpoint, make it the latest, and remove all but the last ``KEEP``.

    Args:
        run_folder: The run.
        state: Progress of the run.
        tensors: File name without suffix -> tensor name -> tensor.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: If the disk is full or a write fails; earlier checkpoints are untouched.
    """
    final = run_folder / f"step_{state.step:07d}"
    try:
        tidy(run_folder)
        assert not final.exists(), f"{final} is the latest checkpoint already"
        with atomic_folder(final) as folder:
            for name, group in tensors.items():
                # copies: safetensors rejects tied weights, as they share memory
                flat = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in group.items()}
                (folder / f"{name}.safetensors").write_bytes(safetensors.torch.save(flat))
            (folder / "state.json").write_bytes((json.dumps(to_json(state), indent=2) + "\n").encode())
        with atomic_write(run_folder / "latest") as file:
            file.write(f"{final.name}\n".encode())
        fsync(run_folder)
    except OSError as error:
        last = find_checkpoint(run_folder)
        kept = f"{last.folder.name} is intact" if last else "there is no earlier one"
        raise UserError(
            f"the checkpoint of step {state.step} could not be written to {run_folder} "
            f"({error.strerror or error}); {kept}. Make room and run the same command again to resume."
        ) from None
    tidy(run_folder)
    return final


def tidy(run_folder: Path) -> None:
    """Remove incomplete folders and all checkpoints but the latest ``KEEP``."""
    for leftover in run_folder.glob(f"*{TEMPORARY}"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    latest = find_checkpoint(run_folder)
    last_name = latest.folder.name if latest else ""
    complete = sorted(p.name for p in run_folder.glob("step_*") if re.fullmatch(r"step_\d+", p.name))
    for name in set(complete) - set([n for n in complete if n <= last_name][-KEEP:]):
        _remove(run_folder / name)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; a kill leaves no incomplete folder under its name."""
    aside = folder.with_name(f"{folder.name}.old{TEMPORARY}")
    folder.rename(aside)
    shutil.rmtree(aside)
