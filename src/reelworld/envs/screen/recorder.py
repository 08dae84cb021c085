"""Records episodes of the screen at a constant rate, with the buttons and the pointer between two frames.

Shapes: T frames, H W pixel rows and columns, K buttons
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reelworld.data.cache import scratch_file
from reelworld.data.resize import check_fit, fit_frame
from reelworld.envs.screen.devices import Box, browser_code
from reelworld.envs.screen.inputs import InputLog, Inputs
from reelworld.envs.screen.windows import Focused, Window
from reelworld.types import ActionSpec, Clip, Fit, UserError

KEYS, MOUSE = "keys", "mouse"
"""Names of the action streams."""


class Grabber(Protocol):
    """Takes pictures of a part of the screen."""

    def grab(self, box: Box) -> np.ndarray:
        """Return the picture in a box, uint8 (H, W, 3)."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScreenConfig:
    """Settings of a recording of the screen."""

    fps: float
    """Frames per second."""
    size: tuple[int, int] | None = None
    """Height and width of the frames; None keeps the screen's."""
    fit: Fit = "stretch"
    """Resizing of another shape."""
    window: str = ""
    """Part of the title of the window whose focus keys need; empty takes all keys."""
    max_steps: int = 0
    """Steps after which an episode ends; 0 has no limit."""

    def is_wanted(self, window: Window | None) -> bool:
        """Return whether keys count while this window has the focus."""
        return not self.window or (window is not None and self.window.lower() in window.title.lower())


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One episode as it was seen."""

    frames: np.ndarray
    """uint8 (T, H, W, 3), a memory map."""
    times: Sequence[float]
    """Time of each frame, seconds."""
    inputs: Inputs
    box: Box
    n_repeated: int = 0
    """Frames that came so late that the one before stands for them."""

    def clip(self, names: Sequence[str], with_mouse: bool) -> Clip:
        """Return the episode with the buttons of these names, and with the movements of the pointer."""
        actions = {KEYS: self.inputs.buttons(self.times, names)} if names else {}
        if with_mouse:
            actions[MOUSE] = self.inputs.moves(self.times, (self.box.height, self.box.width))
        truncated = np.zeros(len(self.frames), bool)
        truncated[-2] = True
        return Clip(frames=self.frames, actions=actions, truncated=truncated)


def action_specs(names: Sequence[str], with_mouse: bool) -> dict[str, ActionSpec]:
    """Describe the streams: buttons with their keys in a browser, and the pointer."""
    specs = {}
    if names:
        single = np.eye(len(names)).tolist()
        keys = {code: tuple(single[i]) for i, name in enumerate(names) if (code := browser_code(name))}
        specs[KEYS] = ActionSpec(kind="buttons", n=len(names), names=tuple(names), keys=keys)
    if with_mouse:
        specs[MOUSE] = ActionSpec(kind="continuous", n=2, names=("right", "down"), null=(0.0, 0.0))
    return specs


@dataclass(kw_only=True)
class EpisodeLoop:
    """Takes one picture per tick until it is told to stop."""

    config: ScreenConfig
    screen: Grabber
    log: InputLog
    focused: Focused
    is_over: Callable[[], bool]
    """Asked at every tick."""
    on_frame: Callable[[int], None] = lambda n: None
    """Told the number of frames so far."""
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep

    def run(self, box: Box) -> Recording | None:
        """Record until the end; None when there are fewer than two frames.

        A tick at which the picture before is not finished yet gets a copy of that picture: time is never stretched.

        Raises:
            UserError: If the picture has another shape than wanted, or the disk is full.
        """
        times: list[float] = []
        n_repeated, frame = 0, np.zeros(0, np.uint8)
        with scratch_file() as file:
            try:
                start = self.clock()
                self.log.switch(start, self.config.is_wanted(self.focused()))
                self.log.start()
                while not self.is_over():
                    due = start + len(times) / self.config.fps
                    if (wait := due - self.clock()) > 0:
                        self.sleep(wait)
                    now = self.clock()
                    missed = min(int((now - due) * self.config.fps), self._room(times) - 1) if times else 0
                    for _ in range(missed):
                        file.write(frame.data)
                        times.append(start + len(times) / self.config.fps)
                    n_repeated += missed
                    self.log.switch(now, self.config.is_wanted(self.focused()))
                    frame = self._resized(self.screen.grab(box))
                    file.write(frame.data)
                    times.append(max(now, times[-1] + 1e-6) if times else now)
                    self.on_frame(len(times))
                    if self._room(times) <= 0:
                        break
                file.flush()
            except OSError as error:
                raise UserError(f"the episode cannot be kept ({error.strerror}); free some space.") from None
            if len(times) < 2:
                return None
            frames = np.memmap(file, np.uint8, "r", shape=(len(times), *frame.shape))
        return Recording(frames=frames, times=times, inputs=self.log.take(), box=box, n_repeated=n_repeated)

    def _room(self, times: Sequence[float]) -> int:
        """Return how many more frames an episode may have."""
        return self.config.max_steps + 1 - len(times) if self.config.max_steps else 1 << 30

    def _resized(self, picture: np.ndarray) -> np.ndarray:
        if self.config.size is None:
            return np.ascontiguousarray(picture)
        check_fit(picture.shape[:2], self.config.size, self.config.fit, "the screen")
        return np.ascontiguousarray(fit_frame(picture, self.config.size, self.config.fit))
