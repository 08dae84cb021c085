"""Actions that belong to a video: a file of the same stem, one row per frame, or a log of input events.

The plain files are ``.csv``, ``.jsonl``, ``.json``, ``.npy`` and ``.action.npy``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reelworld.data.action_alignment import check_actions
from reelworld.data.formats.action_table import Table, described, table_of_csv
from reelworld.types import ActionSpec, UserError

ACTION_ENDINGS = (".csv", ".jsonl", ".npy", ".action.npy", ".actions.npy", ".json")


@dataclass(frozen=True, kw_only=True)
class FrameActions:
    """Actions of one video."""

    rows: Mapping[str, np.ndarray]
    """Array "actions" or "actions/<stream>" -> int64 (R,) or float32 (R, A); R is T or T - 1, row t follows frame t."""
    specs: Mapping[str, ActionSpec] = field(default_factory=dict)
    """Stream -> spec; empty when the rows say it all."""
    n_frames: int | None = None
    """Frames that are kept, from the start; None for all, which must then have a row each."""
    notes: tuple[str, ...] = ()


def action_file(path: Path) -> Path | None:
    """Return the action file beside a video, or None.

    Endings may be in capitals. A ``.json`` without a list of actions is something else, and not returned.

    Raises:
        UserError: If there are several.
    """
    places = [path.with_name(path.stem + form) for e in ACTION_ENDINGS for form in (e, e.upper())]
    found = {p.resolve(): p for p in places if p.is_file() and (p.suffix.lower() != ".json" or _holds_actions(p))}
    files = list(found.values())
    if len(files) > 1:
        raise UserError(f"{path.name} has {len(files)} action files ({', '.join(p.name for p in files)}); keep one.")
    return files[0] if files else None


def unread_note(path: Path) -> list[str]:
    """Return a note on a ``.json`` of the same stem that holds no actions."""
    beside = path.with_suffix(".json")
    if beside.is_file() and not _holds_actions(beside):
        return [f"{beside.name} (beside {path.name}) holds no list of actions and is not read"]
    return []


def plain_actions(path: Path, name: str, chosen: str = "", period: float = 0.0) -> FrameActions:
    """Read a plain action file, check and describe its rows.

    Args:
        path: The file.
        name: Its name, for errors.
        chosen: Names of the columns of a csv to take, separated by commas; "" finds them.
        period: Seconds between two frames; 0 when unknown.
    """
    table = _read_table(path, name, chosen, period)
    return FrameActions(rows={"actions": table.rows}, specs={"action": table.spec}, notes=table.notes)


def _read_table(path: Path, name: str, chosen: str, period: float) -> Table:
    if path.suffix.lower() != ".csv":
        return described(check_actions(read_action_file(path), name))
    try:
        text = path.read_text(encoding="utf-8-sig")
        return table_of_csv(text, name, chosen, period)
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        reason = f"cannot be read as actions ({error}); wanted one row of numbers per frame."
        raise UserError(f"{name} {reason}") from None


def read_action_file(path: Path) -> np.ndarray:
    """Read the rows of an action file other than a csv as they are, integers or floats, (R,) or (R, A).

    jsonl: per line a number, a list of numbers, or an object with the key ``action``. json: a list of these, or an
    object with it as ``actions``. npy: an array.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        text = path.read_text(encoding="utf-8-sig")
        values = _json_list(json.loads(text)) if ending == ".json" else _json_lines(text, path.name)
        rows: list[object] = [v["action"] if isinstance(v, dict) else v for v in values or []]
        array = np.array(rows)
    except UserError:
        raise
    except (ValueError, EOFError, OSError, KeyError) as error:
        if "allow_pickle" in str(error):
            raise UserError(f"{path.name} is a pickled object array; wanted an array of plain numbers.") from None
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path.name} cannot be read as actions ({reason}); wanted one row of numbers per frame."
        ) from None
    if array.dtype.kind not in "iufb" or not len(array):
        raise UserError(f"{path.name} holds {len(rows)} rows that are not all numbers; wanted one row per frame.")
    return array


def _json_lines(text: str, name: str) -> list[object]:
    lines = text.rstrip().splitlines()
    blank = next((i for i, line in enumerate(lines) if not line.strip()), None)
    if blank is not None:
        raise UserError(
            f"{name} cannot be read as actions: row {blank} is blank (line {blank + 1}), and every later action would "
            "be one frame early; wanted one row of numbers per frame."
        )
    return [json.loads(line) for line in lines]


def _json_list(value: object) -> list[object] | None:
    """Return the list of actions in a JSON value, None if there is none."""
    if isinstance(value, dict):
        value = next((value[k] for k in ("actions", "action") if isinstance(value.get(k), list)), None)
    if not isinstance(value, list) or not value:
        return None
    is_row = isinstance(value[0], (int, float, list)) or (isinstance(value[0], dict) and "action" in value[0])
    return value if is_row else None


def _holds_actions(path: Path) -> bool:
    """Return True for a JSON file with a list of actions; a broken one is reported when it is read."""
    try:
        return _json_list(json.loads(path.read_text(encoding="utf-8-sig"))) is not None
    except (ValueError, OSError, RecursionError):
        return False
