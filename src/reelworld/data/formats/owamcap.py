"""OWAMcap recordings of the desktop: an .mcap of events beside the video that its screen messages point into.

A ``ScreenCaptured`` message names a time in the video and the moment of its capture; key and mouse events carry their
moment too. The action of frame t is what happened between the captures of frames t and t + 1. Needs mcap, the extra
``owa``.
Source: the documentation of OWAMcap, and the message definitions of owa-msgs 0.6.

Shapes: T frames
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelworld.data.array_store import Unreadable
from reelworld.data.cache import Decoded
from reelworld.data.formats import video
from reelworld.data.formats.input_events import KEY_NAMES, Events, event_actions
from reelworld.data.formats.reader import Contents, FileRequest, decoded_episode, find_files
from reelworld.types import UserError

ENDINGS = (".mcap",)
SCREEN, KEYS, KEY_STATE = "desktop/ScreenCaptured", "desktop/KeyboardEvent", "desktop/KeyboardState"
MOUSE, RAW_MOUSE = "desktop/MouseEvent", "desktop/RawMouseEvent"
TAKEN = (SCREEN, KEYS, KEY_STATE, MOUSE, RAW_MOUSE)
RAW_BUTTONS = {0x1: ("left", True), 0x2: ("left", False), 0x4: ("right", True), 0x8: ("right", False)} | {
    0x10: ("middle", True),
    0x20: ("middle", False),
}
"""Flag of a raw mouse event -> button, and whether it went down."""
NANO = 1e-9


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Content of one .mcap."""

    film: Path
    captured: np.ndarray
    """Seconds of the capture of each frame from the first, float64 (T,), rising."""
    shown: np.ndarray
    """Seconds of each frame in the video, float64 (T,)."""
    events: Events


def hides(path: Path) -> bool:
    """Return True for a video that belongs to an .mcap beside it."""
    return path.suffix.lower() in video.ENDINGS and path.with_suffix(".mcap").is_file()


def read(request: FileRequest) -> Contents:
    """Read a recording as one episode, decoded into the cache.

    Raises:
        Unreadable: If the file is damaged, or the video is missing.
        UserError: If mcap is missing.
    """
    recording = _load(request.path)
    if "owa buttons" not in request.memo:
        request.memo["owa buttons"] = tuple(sorted(_used_below(request.root)))
    used = tuple(sorted({*request.memo["owa buttons"], *recording.events.used}))
    part = "buttons: " + " ".join(used)
    return decoded_episode(request, lambda: _decode(request, recording, used), [recording.film], part)


def _used_below(root: Path) -> set[str]:
    """Return the buttons of all recordings below a folder; damaged ones are reported when they are read."""
    used: set[str] = set()
    for path in find_files(root, ENDINGS):
        with suppress(Unreadable):
            used |= _load(path).events.used
    return used


def _decode(request: FileRequest, recording: Recording, used: tuple[str, ...]) -> Decoded:
    options, times = request.options, recording.captured
    timeline = video.make_timeline(times, options.fps, 0.0)
    ticks = times[0] + np.arange(len(timeline.picks)) / timeline.fps
    shown = recording.shown[timeline.picks]
    step = float(np.median(np.diff(recording.shown)))
    frames = video.frames_at(recording.film, shown, max(0.5 * step, 1e-3), options)
    given = event_actions(recording.events, used, ticks)
    notes = [*given.notes, *([timeline.note] if timeline.note else [])]
    if options.action_shift:
        raise UserError(f"{request.name} says when each event happened; leave --action-shift out.")
    return {"frames": frames, **given.rows}, {"fps": timeline.fps, "actions": given.specs, "notes": notes}


def _load(path: Path) -> Recording:
    """Read the messages of a file."""
    frames: list[tuple[int, float, str]] = []
    messages: list[tuple[int, str, dict[str, Any]]] = []
    for kind, logged, message in _messages(path):
        try:
            if kind == SCREEN:
                place = message.get("media_ref") or {"uri": message.get("path"), "pts_ns": message.get("pts")}
                frames.append((int(message.get("utc_ns") or logged), int(place["pts_ns"]) * NANO, str(place["uri"])))
            else:
                messages.append((int(message.get("timestamp") or logged), kind, message))
        except (KeyError, TypeError, ValueError):
            raise Unreadable(f"{path.name} has a {kind} without a place in a video; only videos are read") from None
    frames.sort()
    if len(frames) < 2:
        raise Unreadable(f"{path.name} holds {len(frames)} screens; wanted two at least")
    films = {uri for _, _, uri in frames}
    if len(films) > 1:
        raise Unreadable(f"{path.name} points into {len(films)} videos; one is read")
    film = path.parent / films.pop()
    if not film.is_file():
        raise Unreadable(f"{film.name}, which {path.name} points into, is missing; put it beside the file")
    start = frames[0][0]
    return Recording(
        film=film,
        captured=np.array([(moment - start) * NANO for moment, _, _ in frames]),
        shown=np.array([shown for _, shown, _ in frames]),
        events=_events(path.name, sorted(messages, key=lambda m: m[0]), start),
    )


def _events(name: str, messages: list[tuple[int, str, dict[str, Any]]], start: int) -> Events:
    """Sort messages into presses and movements."""
    kinds = {kind for _, kind, _ in messages}
    has_clicks = any(kind == MOUSE and m.get("event_type") == "click" for _, kind, m in messages)
    presses: list[tuple[float, str, bool]] = []
    moves: list[tuple[float, float, float]] = []
    place: tuple[float, float] | None = None
    notes = set()
    is_first_state = True
    for moment, kind, m in messages:
        second = (moment - start) * NANO
        if kind == KEYS:
            presses.append((second, _key(m["vk"]), m["event_type"] == "press"))
        elif kind == KEY_STATE and is_first_state:
            presses += [(second, _key(code), True) for code in m["buttons"]]
            is_first_state = False
        elif kind == MOUSE and m["event_type"] == "click":
            presses.append((second, f"mouse-{m['button']}", bool(m["pressed"])))
        elif kind == MOUSE and m["event_type"] == "move" and RAW_MOUSE not in kinds:
            if place is not None:
                moves.append((second, m["x"] - place[0], m["y"] - place[1]))
            place = m["x"], m["y"]
        elif kind == MOUSE and m["event_type"] == "scroll":
            notes.add("scrolling of OWAMcap files is not read")
        elif kind == RAW_MOUSE:
            if int(m.get("us_flags", 0)) & 1:
                notes.add("absolute movements of the mouse are not read")
            elif m["last_x"] or m["last_y"]:
                moves.append((second, m["last_x"], m["last_y"]))
            if not has_clicks:
                flags = int(m.get("button_flags", 0))
                presses += [(second, f"mouse-{b}", down) for flag, (b, down) in RAW_BUTTONS.items() if flags & flag]
    # what was held or moved before the first frame is no action; a key that is still held then is
    early = [i for i, (second, _, _) in enumerate(presses) if second < 0]
    held: dict[str, bool] = {presses[i][1]: presses[i][2] for i in early}
    later = [p for p in presses if p[0] >= 0]
    presses = [*((0.0, button, True) for button, is_down in held.items() if is_down), *later]
    return Events(
        name=name,
        presses=tuple(presses),
        moves=np.array([m for m in moves if m[0] >= 0], np.float64).reshape(-1, 3),
        notes=tuple(sorted(notes)),
    )


def _key(code: int) -> str:
    return KEY_NAMES.get(int(code), f"key-{int(code)}")


def _messages(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """List the messages that are read: kind, time of logging in nanoseconds, content."""
    try:
        from mcap.exceptions import McapError
        from mcap.reader import make_reader
    except ImportError:
        raise UserError(f"{path.name} is an .mcap file; reading it needs mcap: pip install 'reelworld[owa]'.") from None
    try:
        with path.open("rb") as file:
            for schema, _, message in make_reader(file).iter_messages():
                if schema is not None and schema.name in TAKEN:
                    yield schema.name, message.log_time, json.loads(message.data)
    except (McapError, OSError, ValueError, KeyError, TypeError, struct.error, zlib.error) as error:
        if isinstance(error, UserError):
            raise
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise Unreadable(f"{path.name} is truncated, corrupt or no OWAMcap file ({said})") from None
