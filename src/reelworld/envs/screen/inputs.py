"""Log of keys and mouse movements, and the actions of the steps between frames.

Row t of the actions covers the time after frame t up to frame t + 1. A button counts if it was pressed in that time, so
that a short tap is not lost, or is held at its end.

Shapes: T frames, K buttons
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Press:
    """A button that goes down or up."""

    time: float
    name: str
    is_down: bool


@dataclass(frozen=True, kw_only=True)
class Move:
    """A movement of the pointer, in pixels of the screen."""

    time: float
    dx: float
    dy: float


class InputLog:
    """Log of presses and movements in the order of time; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._events: list[Press | Move] = []
        self._at_start: frozenset[str] = frozenset()
        self._is_on, self._confirmed = True, 0.0

    def press(self, time: float, name: str, is_down: bool) -> None:
        """Log a button; repeats of a held key are no events, and nothing is while the log is off."""
        with self._lock:
            if not self._is_on or is_down == (name in self._held):
                return
            (self._held.add if is_down else self._held.discard)(name)
            self._events.append(Press(time=time, name=name, is_down=is_down))

    def move(self, time: float, dx: float, dy: float) -> None:
        """Log a movement of the pointer."""
        with self._lock:
            if self._is_on and (dx or dy):
                self._events.append(Move(time=time, dx=dx, dy=dy))

    def switch(self, time: float, is_on: bool) -> None:
        """Turn the log on or off; called at every frame.

        Off forgets what came since the last call that was on, and releases all buttons at that time: they may have
        been meant for another window.
        """
        with self._lock:
            if is_on:
                self._is_on, self._confirmed = True, time
                return
            if self._is_on:
                self._events = [e for e in self._events if e.time <= self._confirmed]
                held = set(self._at_start)
                for event in self._events:
                    if isinstance(event, Press):
                        (held.add if event.is_down else held.discard)(event.name)
                self._events += [Press(time=self._confirmed, name=name, is_down=False) for name in sorted(held)]
            self._held.clear()
            self._is_on = False

    def start(self) -> None:
        """Forget what happened so far, but not which buttons are held."""
        with self._lock:
            self._at_start, self._events = frozenset(self._held), []

    def take(self) -> Inputs:
        """Return what happened since the start."""
        with self._lock:
            return Inputs(held=self._at_start, events=tuple(self._events))


@dataclass(frozen=True)
class Inputs:
    """Buttons and movements of one episode."""

    held: frozenset[str]
    """Buttons that were held at its start."""
    events: tuple[Press | Move, ...]

    def count(self) -> Counter[str]:
        """Count how often each button was pressed."""
        pressed = Counter(e.name for e in self.events if isinstance(e, Press) and e.is_down)
        return pressed + Counter(self.held)

    def buttons(self, times: Sequence[float], names: Sequence[str]) -> np.ndarray:
        """Return the buttons of each step.

        Args:
            times: Times of the T frames, rising.
            names: Names of the K buttons; others are left out.

        Returns:
            float32 (T, K) of zeros and ones; the last row is padding.
        """
        rows = np.zeros((len(times), len(names)), np.float32)
        column = {name: i for i, name in enumerate(names)}
        held, presses = set(self.held), [e for e in self.events if isinstance(e, Press)]
        at = 0
        while at < len(presses) and presses[at].time <= times[0]:
            (held.add if presses[at].is_down else held.discard)(presses[at].name)
            at += 1
        for t in range(len(times) - 1):
            pressed: set[str] = set()
            while at < len(presses) and presses[at].time <= times[t + 1]:
                event = presses[at]
                (held.add if event.is_down else held.discard)(event.name)
                if event.is_down:
                    pressed.add(event.name)
                at += 1
            for name in (held | pressed) & column.keys():
                rows[t, column[name]] = 1
        return rows

    def moves(self, times: Sequence[float], size: tuple[int, int]) -> np.ndarray:
        """Return how far the pointer moved in each step.

        Args:
            times: Times of the T frames, rising.
            size: Height and width of what is recorded, in pixels of the screen.

        Returns:
            float32 (T, 2): to the right and down, as fractions of the width and the height; the last row is padding.
        """
        rows = np.zeros((len(times), 2), np.float32)
        for event in self.events:
            if isinstance(event, Move) and times[0] < event.time <= times[-1]:
                t = int(np.searchsorted(times, event.time, side="left")) - 1
                rows[t] += (event.dx / size[1], event.dy / size[0])
        return rows
