"""Logs of keyboard and mouse beside a video: owl-control's events with times, and the steps of VPT's contractors.

owl-control: ``inputs.csv`` in the folder of the video, or a .csv of its stem, with the columns ``timestamp``,
``event_type`` and ``event_args``; the last START of the first thousand rows is the time of the first frame. The action
of frame t is what happened between frames t and t + 1: keys that were down at any time, the sum of mouse movements.
VPT: a .jsonl of the video's stem, an object with ``keyboard`` and ``mouse`` per frame, 20 per second.
Source: owl-control's own extraction of buttons; VPT's data loader (arXiv:2206.11795).

Shapes: T frames, A buttons
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelworld.data.action_alignment import describe_actions
from reelworld.data.array_store import Unreadable
from reelworld.data.formats.action_file import FrameActions
from reelworld.data.formats.buttons import CODES, button_stream
from reelworld.types import ActionSpec

COLUMNS = ["timestamp", "event_type", "event_args"]
MAX_START_ROW = 1000
"""owl-control looks for START in this many rows."""
SLACK = 1e-3
"""Seconds by which an event may precede its frame and still belong to it: times are rounded."""
MOVES = "mouse-moves"
"""Stands for movements of the mouse among the names of buttons."""
MOUSE_BUTTONS = {1: "mouse-left", 2: "mouse-right", 3: "mouse-middle"}
KEY_NAMES = {
    **{8: "backspace", 9: "tab", 13: "enter", 16: "shift", 17: "ctrl", 18: "alt", 20: "caps-lock", 27: "escape"},
    **{32: "space", 37: "left", 38: "up", 39: "right", 40: "down", 160: "left-shift", 161: "right-shift"},
    **{162: "left-ctrl", 163: "right-ctrl", 164: "left-alt", 165: "right-alt"},
    **{code: chr(code).lower() for code in (*range(48, 58), *range(65, 91))},
    **{111 + n: f"f{n}" for n in range(1, 13)},
}
"""Windows virtual key code -> name."""
VPT_KEYS = {
    **{f"key.keyboard.{k}": name for k, name in (("w", "forward"), ("s", "back"), ("a", "left"), ("d", "right"))},
    **{"key.keyboard.space": "jump", "key.keyboard.left.shift": "sneak", "key.keyboard.left.control": "sprint"},
    **{"key.keyboard.e": "inventory", "key.keyboard.q": "drop", "key.keyboard.f": "swapHands"},
    "key.keyboard.escape": "ESC",
    **{f"key.keyboard.{n}": f"hotbar.{n}" for n in range(1, 10)},
}
MAX_EXTRA = 10
"""Frames or steps of VPT that may be left over, or 2%."""
VPT_MOUSE = ("attack", "use", "pickItem")
VPT_BUTTONS = (*VPT_KEYS.values(), *VPT_MOUSE)
VPT_CODES = tuple(
    CODES.get(key.removeprefix("key.keyboard.").replace("left.shift", "shift").replace("left.control", "ctrl"), "")
    for key in VPT_KEYS
)
"""KeyboardEvent.code of each of ``VPT_KEYS``."""


# ------------------------------------------------------------------ owl-control


@dataclass(frozen=True, kw_only=True)
class Events:
    """Input events of one recording, in the order of time."""

    name: str
    presses: tuple[tuple[float, str, bool], ...]
    """Seconds from the first frame, button, and whether it went down."""
    moves: np.ndarray
    """Seconds, dx, dy of each mouse movement, float64 (n, 3)."""
    notes: tuple[str, ...]

    @property
    def used(self) -> set[str]:
        """Names of all buttons that were used; ``MOVES`` if the mouse was moved."""
        return {button for _, button, _ in self.presses} | ({MOVES} if len(self.moves) else set())


def event_log(video: Path) -> Path | None:
    """Return the log of events of a video, or None."""
    places = [video.with_name(video.stem + ending) for ending in (".csv", ".CSV")]
    alone = video.with_name("inputs.csv")
    if alone.is_file() and sum(p.suffix.lower() == video.suffix.lower() for p in video.parent.iterdir()) == 1:
        places.append(alone)
    return next((p for p in places if is_event_log(p)), None)


def is_event_log(path: Path) -> bool:
    """Return True for a file that begins with the columns of owl-control."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(200).decode("utf-8-sig", "replace")
    return [cell.strip().strip('"') for cell in head.partition("\n")[0].split(",")] == COLUMNS


def read_events(path: Path) -> Events:
    """Read a log.

    Raises:
        Unreadable: If a row cannot be read.
    """
    name = f"{path.parent.name}/{path.name}"
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))[1:]
    parsed: list[tuple[float, str, Any]] = []
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            time, kind, said = row[0], row[1].strip(), row[2] if len(row) == 3 else ",".join(row[2:])
            parsed.append((float(time), kind, json.loads(said.strip() or "[]")))
        except (IndexError, ValueError):
            raise Unreadable(
                f"{name} has {','.join(row)[:60]!r} in line {number}; wanted a time, an event and a list of arguments."
            ) from None
    starts = [time for time, kind, _ in parsed[:MAX_START_ROW] if kind == "START"]
    notes = []
    if not starts:
        notes.append(f"{name} has no START; its first event is taken as the first frame of the video")
    zero = starts[-1] if starts else (parsed[0][0] if parsed else 0.0)
    stops = [time for time, kind, _ in parsed if kind == "END"]
    events = [(time - zero, kind, args) for time, kind, args in parsed if zero <= time <= min([*stops, np.inf])]
    presses, moves, other = [], [], set()
    for seconds, kind, args in sorted(events, key=lambda e: e[0]):
        try:
            if kind == "KEYBOARD":
                presses.append((seconds, KEY_NAMES.get(int(args[0]), f"key-{int(args[0])}"), bool(args[1])))
            elif kind == "MOUSE_BUTTON":
                presses.append((seconds, MOUSE_BUTTONS.get(int(args[0]), f"mouse-{int(args[0])}"), bool(args[1])))
            elif kind == "MOUSE_MOVE":
                moves.append((seconds, float(args[0]), float(args[1])))
            elif kind not in ("START", "END"):
                other.add(kind)
        except (IndexError, TypeError, ValueError):
            raise Unreadable(
                f"{name} has the arguments {args!r} of {kind}; wanted two numbers or a key and a state."
            ) from None
    if other:
        notes.append(f"events {', '.join(sorted(other))} of owl-control are not read")
    return Events(
        name=name, presses=tuple(presses), moves=np.array(moves, np.float64).reshape(-1, 3), notes=tuple(notes)
    )


def event_actions(events: Events, used: Sequence[str], seconds: np.ndarray) -> FrameActions:
    """Lay events on the frames of a video.

    Args:
        events: The log.
        used: Names of the buttons of all recordings, with ``MOVES`` if any has movements of the mouse.
        seconds: Time of each frame, float64 (T,), rising.
    """
    times = seconds - seconds[0]
    n = len(times)
    step = float(np.median(np.diff(times))) if n > 1 else 1.0
    slack = min(SLACK, 0.1 * step)
    buttons = [name for name in used if name != MOVES]
    place = {name: i for i, name in enumerate(buttons)}
    pressed = np.zeros((n, len(buttons)), bool)
    held: dict[str, int] = {}
    end = times[-1] + step

    def frame_of(second: float) -> int:
        return max(0, int(np.searchsorted(times, second + slack, side="right")) - 1) if second < end else n

    for second, button, is_down in events.presses:
        t = frame_of(second)
        if is_down:
            held.setdefault(button, t)
        elif (since := held.pop(button, None)) is not None:
            pressed[since : max(t, since + 1), place[button]] = True  # a tap within a frame counts
    for button, since in held.items():
        pressed[since:, place[button]] = True
    notes = list(events.notes)
    if held:
        notes.append(f"keys that are never released are held to the end ({', '.join(sorted(held)[:4])})")
    rows: dict[str, np.ndarray] = {}
    specs: dict[str, ActionSpec] = {}
    if buttons:
        rows["actions/keys"], specs["keys"] = button_stream(pressed, buttons)
    if MOVES in used:
        mouse = np.zeros((n + 1, 2), np.float32)
        for second, dx, dy in events.moves.tolist():
            mouse[frame_of(second)] += (dx, dy)
        rows["actions/mouse"], specs["mouse"] = mouse[:n], mouse_spec(mouse[:n])
    if not rows:
        raise Unreadable(f"{events.name} holds no event of a key or of the mouse; take it away to read the video.")
    return FrameActions(rows=rows, specs=specs, notes=tuple(notes))


def mouse_spec(moves: np.ndarray) -> ActionSpec:
    """Describe movements of the mouse in pixels, float32 (T, 2)."""
    about = describe_actions(moves)
    return ActionSpec(kind="continuous", n=2, names=("dx", "dy"), low=about.low, high=about.high, null=(0.0, 0.0))


# ------------------------------------------------------------------ VPT


def is_vpt(path: Path) -> bool:
    """Return True for a .jsonl whose first line has ``keyboard`` and ``mouse``."""
    if path.suffix.lower() != ".jsonl":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline()
    try:
        value = json.loads(first)
    except ValueError:
        return False
    return isinstance(value, dict) and {"keyboard", "mouse"} <= value.keys()


def vpt_actions(path: Path, n_frames: int) -> FrameActions:
    """Read the steps of a VPT recording; frames and steps are paired from the start, what is left over goes.

    Raises:
        Unreadable: If a line cannot be read, or the steps are another video's.
    """
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    pressed = np.zeros((len(lines), len(VPT_BUTTONS)), bool)
    mouse = np.zeros((len(lines), 2), np.float32)
    place = {name: i for i, name in enumerate(VPT_BUTTONS)}
    unknown_keys: set[str] = set()
    is_stuck, slot = False, None
    for t, line in enumerate(lines):
        try:
            step = json.loads(line)
            buttons, new = set(step["mouse"].get("buttons", ())), list(step["mouse"].get("newButtons", ()))
            mouse[t] = float(step["mouse"].get("dx", 0)), float(step["mouse"].get("dy", 0))
            keys = _names(step["keyboard"].get("keys", ()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unreadable(
                f"{path.name} cannot be read in step {t}: {line[:60]!r}; wanted VPT's mouse and keyboard."
            ) from None
        is_stuck = new == [0] if t == 0 else is_stuck and 0 not in new
        down = {VPT_MOUSE[b] for b in buttons if b in range(len(VPT_MOUSE)) and not (b == 0 and is_stuck)}
        for key in keys:
            if key in VPT_KEYS:
                down.add(VPT_KEYS[key])
            else:
                unknown_keys.add(key)
        if slot is not None and step.get("hotbar", slot) != slot:
            down.add(f"hotbar.{int(step['hotbar']) + 1}")
        slot = step.get("hotbar", slot)
        pressed[t, [place[name] for name in down if name in place]] = True
    notes = []
    if unknown_keys:
        notes.append(f"keys that VPT does not use are left out: {', '.join(sorted(unknown_keys)[:4])}")
    if abs(len(lines) - n_frames) > max(MAX_EXTRA, 0.02 * n_frames):
        raise Unreadable(f"{path.name} has {len(lines)} steps for a video of {n_frames} frames; they do not fit")
    if len(lines) not in (n_frames, n_frames - 1):
        notes.append("frames and steps of VPT are paired from the start, as in its loader; the rest is left out")
    rows, spec = button_stream(pressed[:n_frames], VPT_BUTTONS, (*VPT_CODES, "", "", ""))
    mouse = mouse[:n_frames]
    return FrameActions(
        rows={"actions/keys": rows, "actions/mouse": mouse},
        specs={"keys": spec, "mouse": mouse_spec(mouse)},
        n_frames=min(n_frames, len(lines) + 1),
        notes=tuple(notes),
    )


def _names(keys: Iterable[object]) -> list[str]:
    return [str(key) for key in keys]
