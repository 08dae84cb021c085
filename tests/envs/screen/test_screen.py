"""The recorder on a real X display: a window that flips its colour at a key press, keys from XTEST."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reelworld.data.dataset import Dataset

NEEDED = ("pynput", "mss", "tkinter")
"""Found, not imported: pynput connects to a display when it is."""
pytestmark = [
    pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no Xvfb: install it to test the screen recorder"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}"
    ),
]

WINDOW = """
import sys, tkinter
root = tkinter.Tk()
root.title(sys.argv[1])
root.geometry(sys.argv[2])
colours = ["#c02020", "#2020c0"]
root.configure(background=colours[0])
def flip(event):
    colours.reverse()
    root.configure(background=colours[0])
    root.update_idletasks()
root.bind("<KeyPress-space>", flip)
def listen():
    root.focus_force()
    print("ready", flush=True)
root.after(300, listen)
root.mainloop()
"""


class Keyboard:
    """Keys sent to a display as if they were pressed."""

    def __init__(self, name: str) -> None:
        from Xlib import XK, X, display
        from Xlib.ext import xtest

        self.display, self._x, self._xk, self._xtest = display.Display(name), X, XK, xtest

    def send(self, key: str, is_down: bool) -> None:
        code = self.display.keysym_to_keycode(self._xk.string_to_keysym(key))
        self._xtest.fake_input(self.display, self._x.KeyPress if is_down else self._x.KeyRelease, code)
        self.display.sync()

    def tap(self, key: str, seconds: float = 0.06) -> None:
        self.send(key, True)
        time.sleep(seconds)
        self.send(key, False)

    def close(self) -> None:
        self.display.close()

    def point(self, x: int, y: int) -> None:
        self._xtest.fake_input(self.display, self._x.MotionNotify, x=x, y=y)
        self.display.sync()


class Programs:
    """A display, its keyboard, and the programs on it; all end with the test."""

    def __init__(self, name: str) -> None:
        self.keyboard = Keyboard(name)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._started.append(process)
        return process

    def close(self) -> None:
        self.keyboard.close()
        for process in self._started:
            process.kill()
            process.communicate()

    def open_window(self, title: str, place: str) -> subprocess.Popen[str]:
        process = self.start(sys.executable, "-c", WINDOW, title, place)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    def start_recorder(self, out: Path, *flags: str) -> subprocess.Popen[str]:
        process = self.start(sys.executable, "-m", "reelworld", "record", "--screen", "--out", str(out), *flags)
        read_until(process, "starts and ends an episode")
        time.sleep(0.3)
        return process


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "400x300x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        name = f":{pipe.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    programs = Programs(name)
    yield programs
    programs.close()
    server.terminate()
    server.wait()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(seen)


def colours(frames: np.ndarray) -> np.ndarray:
    """True where the window is blue."""
    middle = frames[:, 8:24, 8:24].astype(int).mean((1, 2))
    out: np.ndarray = middle[:, 2] > middle[:, 0]
    return out


def test_the_colour_flips_where_the_file_says(desktop: Programs, tmp_path: Path) -> None:
    keyboard = desktop.keyboard
    desktop.open_window("Flip Game", "160x120+40+30")
    flags = ["--window", "flip game", "--fps", "20", "--size", "32", "--keys", "space,a", "--episodes", "1", "--mouse"]
    recorder = desktop.start_recorder(tmp_path / "out", *flags)
    keyboard.tap("F9")
    assert "160x120 pixels at 40,30" in read_until(recorder, "recording 160x120")
    keyboard.point(100, 100)
    for pause in (0.31, 0.47, 0.39, 0.53, 0.28, 0.42):
        time.sleep(pause)
        keyboard.tap("space", 0.03)
        keyboard.point(120, 90)
    time.sleep(0.3)
    keyboard.tap("F9")
    assert recorder.wait(20) == 0
    dataset = Dataset.open(tmp_path / "out")
    parts = [dataset.read(i) for i in range(len(dataset.episodes))]  # one recording is cut into stretches
    frames, keys, mouse = (
        np.concatenate(rows)
        for rows in zip(*((p.frames, p.actions["keys"], p.actions["mouse"]) for p in parts), strict=True)
    )
    assert dataset.info.actions["keys"].names == ("space", "a") and dataset.info.fps == 20
    held = keys[:, 0]
    presses = np.flatnonzero((held[1:] > 0) & (held[:-1] == 0)) + 1
    flips = np.flatnonzero(np.diff(colours(frames))) + 1
    assert len(presses) == len(flips) == 6
    assert np.abs(flips - (presses + 1)).max() <= 1  # row t leads to frame t + 1
    assert not keys[:, 1].any()
    assert mouse[:, 0].max() <= 1.0


def test_keys_for_another_window_are_not_kept(desktop: Programs, tmp_path: Path) -> None:
    keyboard = desktop.keyboard
    desktop.open_window("Flip Game", "120x120+20+20")
    flags = ["--window", "Flip", "--fps", "20", "--size", "16", "--episodes", "1"]
    recorder = desktop.start_recorder(tmp_path / "out", *flags)
    keyboard.tap("F9")
    read_until(recorder, "recording 120x120")
    time.sleep(0.3)
    keyboard.tap("space")
    time.sleep(0.3)
    other = desktop.open_window("Letter", "100x100+200+150")  # it takes the focus
    time.sleep(0.3)
    for key in "password":
        keyboard.tap(key, 0.02)
    other.kill()
    time.sleep(0.3)
    keyboard.tap("F9")
    assert "not kept" not in read_until(recorder, ".npz")
    assert recorder.wait(20) == 0
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.info.actions["keys"].names == ("space",)
    assert sum(dataset.read(i).actions["keys"].sum() for i in range(len(dataset.episodes))) >= 1


def test_ctrl_c_keeps_finished_episodes_and_the_same_command_adds_more(desktop: Programs, tmp_path: Path) -> None:
    keyboard = desktop.keyboard
    desktop.open_window("Flip Game", "80x80+0+0")
    for n in (1, 2):
        recorder = desktop.start_recorder(tmp_path / "out", "--region", "0,0,80,80", "--fps", "20", "--size", "16")
        keyboard.tap("F9")
        read_until(recorder, "recording 80x80")
        time.sleep(0.2)
        keyboard.tap("space")
        time.sleep(0.3)
        keyboard.tap("F9")
        read_until(recorder, ".npz")
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(20) == 0
        assert len(list((tmp_path / "out").glob("*.npz"))) == n


def test_a_missing_display_and_a_wrong_region_are_one_line(desktop: Programs, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "reelworld", "record", "--screen", "--out", str(tmp_path / "out")]
    env = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    lost = subprocess.run(words, env=env, capture_output=True, text=True)
    assert lost.returncode == 2 and lost.stderr.startswith("error: ") and lost.stderr.count("\n") == 1
    wrong = subprocess.run([*words, "--region", "1,2,3"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "wanted LEFT,TOP,WIDTH,HEIGHT" in wrong.stderr
