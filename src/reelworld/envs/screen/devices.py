"""Screen, keyboard and mouse, through mss and pynput.

Keys have the names that people give them ("w", "space", "left", "mouse left").
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelworld.envs.screen.inputs import InputLog
from reelworld.types import UserError

CODES = {"space": "Space", "enter": "Enter", "tab": "Tab", "esc": "Escape", "backspace": "Backspace"} | {
    "left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown",
    "shift": "ShiftLeft", "shift_r": "ShiftRight", "ctrl": "ControlLeft", "ctrl_r": "ControlRight",
    "alt": "AltLeft", "alt_r": "AltRight",
}  # fmt: skip
"""Name of a key -> KeyboardEvent.code of browsers; letters and digits follow a rule."""
PERMISSIONS = {
    "darwin": "macOS: allow this terminal under Privacy & Security, Screen Recording, Accessibility and Input "
    "Monitoring, then start it again; without it pictures show the desktop only and keys are missing",
    "win32": "Windows: keys of programs that run as administrator are seen only if this runs as administrator too",
    "linux": "Linux: X11 is recorded; under Wayland start the game and this in an X11 session",
}
MISSING = "pip install 'reelworld[screen]'"


@dataclass(frozen=True, kw_only=True)
class Box:
    """A part of the screen, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise UserError(f"the region is {self.width}x{self.height} pixels; both must be at least 1.")


def browser_code(name: str) -> str:
    """Return the KeyboardEvent.code of a key; empty when there is none."""
    if len(name) == 1 and name.isascii() and name.isalpha():
        return f"Key{name.upper()}"
    return f"Digit{name}" if len(name) == 1 and name.isdigit() else CODES.get(name, "")


class Screen:
    """Takes pictures of the screen."""

    def __init__(self) -> None:
        """Open the display.

        Raises:
            UserError: If mss is not installed or there is no display.
        """
        try:
            import mss
            import mss.exception
        except ImportError:
            raise UserError(f"--screen needs the package mss, which is not installed; run {MISSING}.") from None
        try:
            self._mss = mss.mss()
            whole = self._mss.monitors[0]
        except (mss.exception.ScreenShotError, OSError) as error:
            raise UserError(f"the screen cannot be recorded ({error}); {PERMISSIONS.get(sys.platform, '')}.") from None
        self.whole = Box(left=whole["left"], top=whole["top"], width=whole["width"], height=whole["height"])

    def clipped(self, box: Box) -> Box:
        """Return the part of a box that is on the screen.

        Raises:
            UserError: If nothing of it is.
        """
        whole = self.whole
        left, top = max(box.left, whole.left), max(box.top, whole.top)
        right = min(box.left + box.width, whole.left + whole.width)
        bottom = min(box.top + box.height, whole.top + whole.height)
        if right <= left or bottom <= top:
            raise UserError(
                f"the region {box.left},{box.top},{box.width},{box.height} is not on the screen, which is "
                f"{whole.width}x{whole.height} from {whole.left},{whole.top}."
            )
        return Box(left=left, top=top, width=right - left, height=bottom - top)

    def grab(self, box: Box) -> np.ndarray:
        """Return the picture in a box, uint8 (H, W, 3)."""
        picture = self._mss.grab({"left": box.left, "top": box.top, "width": box.width, "height": box.height})
        rgb: np.ndarray = np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, 3)
        return rgb

    def close(self) -> None:
        """Close the display."""
        self._mss.close()


@contextmanager
def listening(log: InputLog, on_hotkey: Callable[[], None], hotkey: str) -> Iterator[None]:
    """Log keys and mouse until the end of the block.

    Args:
        log: Receives them.
        on_hotkey: Called when the hotkey goes down, which is not logged.
        hotkey: Name of a key.

    Raises:
        UserError: If pynput is not installed or cannot listen here.
    """
    try:
        from pynput import keyboard, mouse
    except ImportError as error:  # pynput connects to the display when it is imported
        reason = f"is not installed; run {MISSING}" if isinstance(error, ModuleNotFoundError) else f"fails ({error})"
        raise UserError(f"--screen needs the package pynput, which {' '.join(reason.split())}.") from None
    last: list[tuple[float, float]] = []

    def key(code: Any, is_down: bool) -> None:
        name = key_name(code)
        if name == hotkey:
            if is_down:
                on_hotkey()
        elif name:
            log.press(time.perf_counter(), name, is_down)

    def moved(x: float, y: float) -> None:
        if last:
            log.move(time.perf_counter(), x - last[0][0], y - last[0][1])
        last[:] = [(x, y)]

    def clicked(x: float, y: float, button: Any, is_down: bool) -> None:
        log.press(time.perf_counter(), f"mouse {button.name}", is_down)

    keys = keyboard.Listener(on_press=lambda c: key(c, True), on_release=lambda c: key(c, False))
    pointer = mouse.Listener(on_move=moved, on_click=clicked)
    for listener in (keys, pointer):
        listener.start()
        listener.wait()
    try:
        yield
    finally:
        for listener in (keys, pointer):
            listener.stop()


def key_name(code: Any) -> str:
    """Return the name of a key of pynput: its character in lower case, or its name; empty when it has neither."""
    name = getattr(code, "name", None)
    if name:
        return {"cmd": "meta", "ctrl_l": "ctrl", "shift_l": "shift", "alt_l": "alt"}.get(str(name), str(name))
    character = getattr(code, "char", None)
    return str(character).lower() if character else ""
