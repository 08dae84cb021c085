"""Tables of actions, one row per frame: which columns are actions, what kind they are, what their names are.

A column that counts frames or time is no action. Columns of zeros and ones are buttons, or the ids of one-hot rows.
What is assumed is a note.

Shapes: R rows, A columns of actions
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelworld.config import unknown
from reelworld.data.action_alignment import check_actions, describe_actions, one_hot_ids
from reelworld.types import ActionSpec, UserError

COUNTERS = {
    *("frame", "frames", "frame_id", "frame_idx", "frame_index", "frame_no", "frame_num", "frame_number", "frameid"),
    *("index", "idx", "i", "n", "no", "row", "row_id", "id", "step", "steps", "step_id", "tick", "ticks", "unnamed: 0"),
    *("t", "time", "times", "timestamp", "timestamps", "timestamp_ms", "timestamp_s", "time_s", "time_ms", "time_sec"),
    *("ts", "ms", "sec", "secs", "second", "seconds", "datetime", "date", "episode", "episode_id", "episode_index"),
    *("pts", "frame_time", "elapsed", "elapsed_ms", "elapsed_s"),
}
"""Names of columns that count frames or time, in lower case."""
EVEN = 0.05
"""Greatest deviation of a step between two times from the median step, as a fraction of it."""
WORDS = {"true": 1, "false": 0, "yes": 1, "no": 0, "on": 1, "off": 0}
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Actions of one recording."""

    rows: np.ndarray
    """int64 (R,) or float32 (R, A)."""
    spec: ActionSpec
    notes: tuple[str, ...] = ()


def table_of_csv(text: str, name: str, chosen: str = "", period: float = 0.0) -> Table:
    """Read the text of a csv.

    Args:
        text: Rows of numbers, separated by commas, semicolons or tabs; a line of names may come first.
        name: File, for errors.
        chosen: Names of the columns of the actions, separated by commas; "" finds them.
        period: Seconds between two frames; 0 when unknown.

    Raises:
        UserError: If a row is blank or has another number of cells than the first, a cell is no number, or a chosen
            column does not exist.
    """
    lines = list(csv.reader(io.StringIO(text), delimiter=_delimiter(text)))
    cells = [[cell.strip() for cell in line] for line in lines]
    while cells and not any(cells[-1]):
        cells.pop()
    has_names = bool(cells) and not any(_number(cell) is not None for cell in cells[0]) and len(cells) > 1
    names = cells[0] if has_names else []
    first = 1 if has_names else 0
    rows = []
    for i, line in enumerate(cells[first:]):
        numbers = [_number(cell) for cell in line]
        problem = ""
        if not any(line):
            problem = f"row {i} is blank (line {i + first + 1}), and every later action would be one frame early"
        elif len(line) != len(cells[first]):
            problem = f"row {i} has {len(line)} cells, row 0 has {len(cells[first])}"
        elif None in numbers:
            column = numbers.index(None)
            what = f"{line[column]!r}" if line[column] else "an empty cell"
            problem = f"row {i} holds {what} in column {_called(names, column)}"
        if problem:
            raise UserError(f"{name} cannot be read as actions: {problem}; wanted one row of numbers per frame.")
        rows.append(numbers)
    if not rows:
        raise UserError(f"{name} holds no row of actions; wanted one row per frame.")
    is_whole = [all(isinstance(row[c], int) for row in rows) for c in range(len(rows[0]))]
    values = np.array(rows, np.float64)
    return _table_of_columns(values, is_whole, names if len(names) == len(rows[0]) else [], name, chosen, period)


def _table_of_columns(
    values: np.ndarray, is_whole: Sequence[bool], names: Sequence[str], name: str, chosen: str, period: float
) -> Table:
    """Choose the columns of actions and describe them.

    Args:
        values: Numbers, (R, columns).
        is_whole: Columns that hold whole numbers only.
        names: Of the columns; empty when unknown.
        name: File, for errors.
        chosen: Names of the columns to take, separated by commas; "" leaves out those that count.
        period: Seconds between two frames; 0 when unknown.
    """
    notes: list[str] = []
    columns = list(range(values.shape[1]))
    if chosen:
        wanted = [word.strip() for word in chosen.split(",")]
        if missing := [word for word in wanted if word not in names]:
            raise unknown(f"column of {name}", missing[0], names)
        columns = [list(names).index(word) for word in wanted]
    elif len(columns) > 1:
        counting = [c for c in columns if _counts(values[:, c], names[c] if names else "", period)]
        if counting and len(counting) < len(columns):
            columns = [c for c in columns if c not in counting]
            left_out = ", ".join(_called(names, c) for c in counting)
            notes.append(
                f"columns that count frames or time are no actions and are left out: {left_out} "
                "(--action COLUMN chooses others)"
            )
    kept_names = tuple(names[c] for c in columns) if names else ()
    raw = values[:, columns]
    if len(columns) == 1 and np.isfinite(raw).all() and is_whole[columns[0]]:
        raw = raw[:, 0].astype(np.int64)
    rows = check_actions(raw, name)
    return described(rows, kept_names, notes)


def described(rows: np.ndarray, names: Sequence[str] = (), notes: Sequence[str] = ()) -> Table:
    """Describe rows of actions: int64 (R,) or float32 (R, A), with the names of their columns.

    Columns of zeros and ones of which each row has exactly one 1 become ids; the last row may be padding.
    """
    needed = np.arange(len(rows)) < max(1, len(rows) - 1)
    ids = one_hot_ids(rows, needed) if rows.ndim == 2 else None
    if ids is not None:
        spec = ActionSpec(kind="discrete", n=rows.shape[1], names=tuple(names))
        return Table(rows=ids, spec=spec, notes=(*notes, ONE_HOT))
    spec = describe_actions(rows, names)
    said = (BUTTONS,) if spec.kind == "buttons" else ()
    return Table(rows=rows, spec=spec, notes=(*notes, *said))


ONE_HOT = "actions have exactly one 1 in each row: they are read as ids, the number of the column"
BUTTONS = "actions are 0 or 1 everywhere: they are read as buttons, several at once"


def _delimiter(text: str) -> str:
    """Return the separator of the first line: the first of the usual ones that it holds."""
    first = text.lstrip().partition("\n")[0]
    return next((d for d in DELIMITERS if d in first), ",")


def _number(cell: str) -> int | float | None:
    """Read a number, or a word for on or off; None for anything else."""
    if cell.lstrip("+-").isdecimal():
        return int(cell)
    try:
        return float(cell)
    except ValueError:
        return WORDS.get(cell.lower())


def _called(names: Sequence[str], column: int) -> str:
    return repr(names[column]) if column < len(names) else f"{column}"


def _counts(values: np.ndarray, name: str, period: float) -> bool:
    """Return True for a column that counts frames or time: by its name, or because it rises evenly.

    Without a name, fractions must rise by the time between two frames, in seconds or parts of it.
    """
    steps = np.diff(values)
    if len(steps) < 2 or not np.isfinite(values).all():
        return False
    if name.strip().lower() in COUNTERS and (steps >= 0).all():
        return True
    step = float(np.median(steps))
    is_even = bool((steps > 0).all() and np.abs(steps - step).max() <= EVEN * step)
    if not is_even or name or not period or (values == np.rint(values)).all():
        return is_even
    return any(abs(step - unit * period) <= EVEN * unit * period for unit in (1, 1e3, 1e6, 1e9))
