"""The window that has the focus: its title and where it is on the screen. X11, Windows and macOS."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reelworld.types import UserError

Focused = Callable[[], "Window | None"]
"""Returns the window with the focus; None when there is none."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window on the screen."""

    title: str
    left: int
    top: int
    width: int
    height: int


def focus_reader() -> Focused:
    """Return the function that finds the focused window on this system.

    Raises:
        UserError: If there is no display.
    """
    if sys.platform == "win32":
        return _focused_windows
    if sys.platform == "darwin":
        return _focused_macos
    return _x11()


def _x11() -> Focused:
    from Xlib import X, display, error

    try:
        screen = display.Display()
    except (error.DisplayError, OSError) as problem:
        raise UserError(
            f"the X display cannot be opened ({problem}); run this in a desktop session (X11; Wayland shows programs "
            "neither the screen nor the keys)."
        ) from None
    root = screen.screen().root
    active = screen.intern_atom("_NET_ACTIVE_WINDOW")
    utf8_title = screen.intern_atom("_NET_WM_NAME")

    def title_of(window: Any) -> str:
        found = window.get_full_property(utf8_title, X.AnyPropertyType)
        text = found.value if found else window.get_wm_name()
        return text.decode(errors="replace") if isinstance(text, bytes) else text or ""

    def focused() -> Window | None:
        try:
            named = root.get_full_property(active, X.AnyPropertyType)
            window = screen.create_resource_object("window", named.value[0]) if named and named.value[0] else None
            window = window or screen.get_input_focus().focus  # without a window manager
            if isinstance(window, int) or window.id in (X.NONE, root.id):
                return None
            while not (title := title_of(window)):  # the focus of a toolkit can be on a child
                window = window.query_tree().parent
                if isinstance(window, int) or window.id == root.id:
                    return None
            place, corner = window.get_geometry(), window.translate_coords(root, 0, 0)
        except (error.XError, error.ConnectionClosedError):  # it was closed just now
            return None
        return Window(title=title, left=-corner.x, top=-corner.y, width=place.width, height=place.height)

    return focused


def _focused_windows() -> Window | None:
    from ctypes import wintypes

    user = ctypes.windll.user32  # type: ignore[attr-defined,unused-ignore]
    handle = user.GetForegroundWindow()
    if not handle:
        return None
    text = ctypes.create_unicode_buffer(512)
    user.GetWindowTextW(handle, text, 512)
    box, corner = wintypes.RECT(), wintypes.POINT(0, 0)
    user.GetClientRect(handle, ctypes.byref(box))  # without title bar and borders
    user.ClientToScreen(handle, ctypes.byref(corner))
    return Window(title=text.value, left=corner.x, top=corner.y, width=box.right, height=box.bottom)


def _focused_macos() -> Window | None:
    import Quartz

    shown = Quartz.kCGWindowListOptionOnScreenOnly | Quartz.kCGWindowListExcludeDesktopElements
    for found in Quartz.CGWindowListCopyWindowInfo(shown, Quartz.kCGNullWindowID):  # the frontmost first
        if found.get("kCGWindowLayer") == 0:
            box = found["kCGWindowBounds"]
            title = f"{found.get('kCGWindowOwnerName', '')} {found.get('kCGWindowName', '')}".strip()
            left, top, width, height = (int(box[k]) for k in ("X", "Y", "Width", "Height"))
            return Window(title=title, left=left, top=top, width=width, height=height)
    return None
