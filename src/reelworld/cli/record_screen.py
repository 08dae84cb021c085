"""Record the screen, or a window of it, with the keys and the mouse of that time, losslessly, as a data set.

F9 starts an episode and ends it (--hotkey). Ctrl-C in this terminal ends the recording; the same command adds episodes.
Row t of the actions covers the time after frame t up to frame t + 1.

Examples:
  reelworld record --screen --out recordings/mine --window "Super Game" --size 64 --fps 15
  reelworld record --screen --out recordings/mine --region 100,80,640,480 --size 64 96 --keys w,a,s,d,space
  reelworld record --screen --out recordings/mine --window Shooter --size 64 --mouse --episodes 20
"""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from reelworld.types import Fit, UserError

if TYPE_CHECKING:
    from reelworld.envs.screen.devices import Box
    from reelworld.envs.screen.recorder import Recording, ScreenConfig
    from reelworld.envs.screen.windows import Focused

MAX_MEGABYTES = 4.0
"""Size of a frame above which it is said what an episode will take."""


@dataclass(frozen=True, kw_only=True)
class ScreenOptions:
    """Flags of `reelworld record --screen`."""

    screen: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Record the screen."""
    out: Path
    """Folder of the data set; episodes are added to those it has."""
    window: str = ""
    """Part of the title of a window: its picture is recorded, and keys count only while it has the focus."""
    region: str = ""
    """Part of the screen as LEFT,TOP,WIDTH,HEIGHT in pixels; empty records the window, or the whole screen."""
    fps: float = 15.0
    """Frames per second."""
    size: int | tuple[int, int] | None = None
    """Pixels to resize frames to: one number for squares, or height and width. Default: the screen's."""
    fit: Fit = "stretch"
    """Resizing of another shape: stretch, crop or pad."""
    keys: str = ""
    """Names of the keys and mouse buttons to keep, e.g. w,a,s,d,space,mouse left. Default: those that are pressed in
    the first episode."""
    mouse: bool = False
    """Also record how far the pointer moves in each step."""
    hotkey: str = "f9"
    """Key that starts and ends an episode."""
    episodes: int = 0
    """Episodes after which the recording ends; 0 records until Ctrl-C."""
    max_steps: int = 0
    """Steps after which an episode ends by itself; 0 has no limit."""


def run(options: ScreenOptions) -> None:
    """Record episodes until Ctrl-C or enough of them."""
    from reelworld.data.formats.episode_folder import INFO_FILE, read_info
    from reelworld.envs.screen.devices import PERMISSIONS, Screen, listening
    from reelworld.envs.screen.inputs import InputLog
    from reelworld.envs.screen.recorder import KEYS, EpisodeLoop, ScreenConfig
    from reelworld.envs.screen.windows import focus_reader

    for name, value, least in (
        ("fps", options.fps, 0.1),
        ("episodes", options.episodes, 0),
        ("max-steps", options.max_steps, 0),
    ):
        if value < least:
            raise UserError(f"--{name} is {value:g}; wanted {least:g} or more.")
    size = (options.size, options.size) if isinstance(options.size, int) else options.size
    config = ScreenConfig(
        fps=options.fps, size=size, fit=options.fit, window=options.window, max_steps=options.max_steps
    )
    region = _region(options.region)
    screen = Screen()
    focused = focus_reader()
    log, toggled, stopped = InputLog(), threading.Event(), threading.Event()
    names = tuple(name.strip() for name in options.keys.split(",") if name.strip())
    if not names and (options.out / INFO_FILE).is_file():
        actions = read_info(options.out)[0].actions
        names = actions[KEYS].names if KEYS in actions else ()
    print(PERMISSIONS.get(sys.platform, ""))
    print(f"{options.hotkey} starts and ends an episode; Ctrl-C here ends the recording", flush=True)
    saver = _Saver(options, names)
    try:
        with listening(log, toggled.set, options.hotkey):
            while not options.episodes or saver.n_episodes < options.episodes:
                _wait_for(toggled)
                box = _box(config, region, screen.whole, focused)
                if box is None:
                    continue
                print(f"recording {box.width}x{box.height} pixels at {box.left},{box.top} ...", flush=True)
                loop = EpisodeLoop(
                    config=config, screen=screen, log=log, focused=focused,
                    is_over=lambda: toggled.is_set() or stopped.is_set(), on_frame=saver.show,
                )  # fmt: skip
                try:
                    recording = loop.run(screen.clipped(box))
                except KeyboardInterrupt:
                    stopped.set()
                    raise
                toggled.clear()
                saver.save(recording)
    except KeyboardInterrupt:
        pass
    finally:
        screen.close()
    print(f"{saver.n_episodes} new episodes in {options.out}")


def _wait_for(event: threading.Event) -> None:
    """Wait for an event; Ctrl-C is heard meanwhile."""
    while not event.wait(0.2):
        pass
    event.clear()


def _box(config: ScreenConfig, region: Box | None, whole: Box, focused: Focused) -> Box | None:
    """Return what an episode shows; None if the wanted window has no focus, which is said."""
    from reelworld.envs.screen.devices import Box

    window = focused()
    if not config.is_wanted(window):
        found = f"{window.title!r} has" if window else "no window has"
        print(
            f"{found} the focus; wanted a window whose title contains {config.window!r}: click on it first", flush=True
        )
        return None
    if region is not None:
        return region
    if config.window and window is not None:
        return Box(left=window.left, top=window.top, width=window.width, height=window.height)
    return whole


def _region(text: str) -> Box | None:
    from reelworld.envs.screen.devices import Box

    if not text:
        return None
    if not re.fullmatch(r"-?\d+,-?\d+,\d+,\d+", text):
        raise UserError(f"--region is {text!r}; wanted LEFT,TOP,WIDTH,HEIGHT in pixels, e.g. 100,80,640,480.")
    left, top, width, height = map(int, text.split(","))
    return Box(left=left, top=top, width=width, height=height)


class _Saver:
    """Writes episodes, and says what is not kept."""

    def __init__(self, options: ScreenOptions, names: Sequence[str]) -> None:
        self.n_episodes = 0
        self._options, self._names = options, tuple(names)
        self._shown = 0

    def show(self, n_frames: int) -> None:
        """Show the length of the current episode about once a second."""
        if n_frames - self._shown >= self._options.fps and sys.stdout.isatty():
            self._shown = n_frames
            print(f"\r{n_frames} frames", end="", flush=True)

    def save(self, recording: Recording | None) -> None:
        """Write an episode."""
        from reelworld.data.episodes import DataInfo
        from reelworld.data.writers.played import EpisodeWriter
        from reelworld.envs.screen.recorder import action_specs

        self._shown = 0
        if recording is None:
            print("the episode has fewer than two frames and is dropped", flush=True)
            return
        pressed = recording.inputs.count()
        if not self._names:
            self._names = tuple(sorted(pressed))
            chosen = ", ".join(self._names) or "none"
            print(f"keys: {chosen} (those of the first episode; --keys chooses)", flush=True)
        info = DataInfo(
            fps=self._options.fps,
            height=recording.frames.shape[1],
            width=recording.frames.shape[2],
            actions=action_specs(self._names, self._options.mouse),
            provenance={"made_by": "reelworld record --screen", "window": self._options.window},
        )
        writer = EpisodeWriter(self._options.out, info, "screen", self._options.fps)
        saved = writer.save(recording.clip(self._names, self._options.mouse))
        self.n_episodes += 1
        seconds = recording.times[-1] - recording.times[0]
        print(
            f"{saved.episode}: {saved.n_frames} frames in {seconds:.1f} s, {_losses(recording, self._names, pressed)}",
            flush=True,
        )


def _losses(recording: Recording, names: Sequence[str], pressed: Counter[str]) -> str:
    """Say what an episode does not have."""
    others = {name: n for name, n in pressed.items() if name not in names}
    lines = []
    if recording.n_repeated:
        lines.append(f"{recording.n_repeated} frames came late and repeat the one before (lower --fps, or record less)")
    if others:
        lines.append(
            "not kept: "
            + ", ".join(f"{name} ({n} times)" for name, n in sorted(others.items()))
            + " (--keys names what is kept)"
        )
    return "; ".join(lines) or "nothing late, no key left out"
