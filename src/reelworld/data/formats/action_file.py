"""Actions that belong to a video: a file of the same stem, ``.csv``, ``.jsonl`` or ``.npy``, one row per frame."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from reelworld.types import UserError

ACTION_ENDINGS = (".csv", ".jsonl", ".npy")


def action_file(path: Path) -> Path | None:
    """Return the action file beside a video, or None.

    Raises:
        UserError: If there are several.
    """
    files = [p for p in (path.with_suffix(e) for e in ACTION_ENDINGS) if p.is_file()]
    if len(files) > 1:
        raise UserError(f"{path.name} has {len(files)} action files ({', '.join(p.name for p in files)}); keep one.")
    return files[0] if files else None


def read_action_file(path: Path) -> np.ndarray:
    """Read the rows of an action file as they are, integers or floats, (R,) or (R, A).

    csv: one row per line, numbers, an optional line of names first. jsonl: per line a number, a list of numbers,
    or an object with the key ``action``. npy: an array.
    """
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        text = path.read_text(encoding="utf-8-sig")
        rows = _csv_rows(text) if path.suffix == ".csv" else _json_rows(text)
        array = np.array(rows)
    except (ValueError, EOFError, OSError, KeyError, csv.Error) as error:
        if "allow_pickle" in str(error):
            raise UserError(f"{path.name} is a pickled object array; wanted an array of plain numbers.") from None
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path.name} cannot be read as actions ({reason}); wanted one row of numbers per frame."
        ) from None
    if array.dtype.kind not in "iufb" or not len(array):
        raise UserError(f"{path.name} holds {len(rows)} rows that are not all numbers; wanted one row per frame.")
    return array


def _csv_rows(text: str) -> list[list[float]] | list[list[int]]:
    lines = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    if lines and not any(_is_number(cell) for cell in lines[0]):
        lines = lines[1:]
    cells = [[cell.strip() for cell in row] for row in lines]
    if all(cell.lstrip("+-").isdecimal() for row in cells for cell in row):
        return [[int(cell) for cell in row] for row in cells]
    return [[float(cell) for cell in row] for row in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _json_rows(text: str) -> list[object]:
    values = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [v["action"] if isinstance(v, dict) else v for v in values]
