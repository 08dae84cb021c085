"""Rows of buttons and movements from a log of events, without a screen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelworld.envs.screen.devices import Box, browser_code
from reelworld.envs.screen.inputs import InputLog
from reelworld.envs.screen.recorder import EpisodeLoop, ScreenConfig, action_specs
from reelworld.envs.screen.windows import Window

TIMES = [0.0, 1.0, 2.0, 3.0, 4.0]


def rows_of(events: list[tuple[float, str, bool]], names: list[str]) -> list[list[float]]:
    log = InputLog()
    for time, name, is_down in events:
        log.press(time, name, is_down)
    return log.take().buttons(TIMES, names).tolist()


def test_a_tap_between_two_frames_is_kept() -> None:
    assert rows_of([(1.2, "w", True), (1.4, "w", False)], ["w"]) == [[0], [1], [0], [0], [0]]


def test_a_button_is_held_until_the_frame_before_its_release() -> None:
    rows = rows_of([(0.5, "w", True), (1.5, "d", True), (2.5, "w", False), (3.5, "d", False)], ["w", "d"])
    assert rows == [[1, 0], [1, 1], [0, 1], [0, 0], [0, 0]]


def test_repeats_of_a_held_key_and_unknown_names_are_no_presses() -> None:
    log = InputLog()
    for time in (0.5, 0.6, 0.7):
        log.press(time, "w", True)
    log.press(0.8, "x", True)
    assert log.take().count() == {"w": 1, "x": 1}
    assert log.take().buttons(TIMES, ["w"])[:, 0].tolist() == [1, 1, 1, 1, 0]


def test_buttons_held_at_the_start_stay_held() -> None:
    log = InputLog()
    log.press(-1.0, "w", True)
    log.start()
    log.press(1.5, "w", False)
    assert log.take().buttons(TIMES, ["w"])[:, 0].tolist() == [1, 0, 0, 0, 0]


def test_without_the_focus_nothing_counts_and_buttons_are_released() -> None:
    log = InputLog()
    log.switch(0.0, True)
    log.press(0.5, "w", True)
    log.switch(1.0, True)
    log.press(1.5, "secret", True)  # the focus may be lost by now
    log.switch(2.0, False)
    log.press(2.5, "secret", True)
    log.switch(3.0, True)
    log.press(3.5, "d", True)
    inputs = log.take()
    assert inputs.count() == {"w": 1, "d": 1}
    # the focus was confirmed last at 1.0, where w is released
    assert inputs.buttons(TIMES, ["w", "d"]).tolist() == [[1, 0], [0, 0], [0, 0], [0, 1], [0, 0]]


@given(st.lists(st.tuples(st.floats(0.01, 3.99), st.integers(-50, 50), st.integers(-50, 50)), max_size=20))
def test_movements_add_up(moves: list[tuple[float, int, int]]) -> None:
    log = InputLog()
    for time, dx, dy in sorted(moves):
        log.move(time, dx, dy)
    rows = log.take().moves(TIMES, (50, 100))
    assert rows[-1].tolist() == [0, 0]
    wanted = [sum(dx for _, dx, _ in moves) / 100, sum(dy for _, _, dy in moves) / 50]
    np.testing.assert_allclose(rows.sum(0), wanted, atol=1e-4)


class Clock:
    """Time that passes when somebody sleeps or a picture is taken."""

    def __init__(self, costs: list[float]) -> None:
        self.now, self.costs, self.n = 10.0, costs, 0

    def grab(self, box: Box) -> np.ndarray:
        self.now += self.costs[self.n % len(self.costs)]
        self.n += 1
        return np.full((box.height, box.width, 3), self.n, np.uint8)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def record(costs: list[float], max_steps: int = 9, log: InputLog | None = None, n_frames: int = 10_000):
    clock = Clock(costs)
    loop = EpisodeLoop(
        config=ScreenConfig(fps=10.0, max_steps=max_steps),
        screen=clock,
        log=log or InputLog(),
        focused=lambda: Window(title="Game", left=0, top=0, width=8, height=8),
        is_over=lambda: clock.n >= n_frames,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    return loop.run(Box(left=0, top=0, width=8, height=8))


def test_frames_come_at_the_rate() -> None:
    made = record([0.01])
    assert made is not None and made.n_repeated == 0
    np.testing.assert_allclose(np.diff(made.times), 0.1, atol=1e-6)
    assert made.frames[:, 0, 0, 0].tolist() == list(range(1, 11))
    clip = made.clip(["w"], with_mouse=True)
    assert clip.actions["keys"].shape == (10, 1) and clip.actions["mouse"].shape == (10, 2)
    assert clip.truncated is not None and clip.truncated.nonzero()[0].tolist() == [8]


def test_late_frames_are_counted_and_time_is_not_stretched() -> None:
    made = record([0.01, 0.01, 0.35])  # the third picture is slow
    assert made is not None
    assert len(made.frames) == 10 and made.n_repeated > 0
    assert 0.9 - 1e-6 <= made.times[-1] - made.times[0] <= 0.9 + 0.35
    assert all(b > a for a, b in zip(made.times, made.times[1:], strict=False))
    values = made.frames[:, 0, 0, 0].tolist()
    assert values[2:5] == [3, 3, 3]


def test_an_episode_of_one_frame_is_none() -> None:
    assert record([0.01], n_frames=1) is None


def test_streams_name_their_keys_for_the_page() -> None:
    specs = action_specs(["a", "space", "up", "1", "mouse left"], with_mouse=True)
    assert specs["keys"].keys == {
        code: tuple(float(i == k) for k in range(5)) for i, code in enumerate(["KeyA", "Space", "ArrowUp", "Digit1"])
    }
    assert specs["mouse"].n == 2 and browser_code("f13") == ""


@pytest.mark.parametrize(("title", "wanted"), [("SUPER game 2", True), ("Browser", False), (None, False)])
def test_windows_are_chosen_by_a_part_of_their_title(title: str | None, wanted: bool) -> None:
    window = None if title is None else Window(title=title, left=0, top=0, width=1, height=1)
    assert ScreenConfig(fps=1.0, window="Super Game").is_wanted(window) == wanted
    assert ScreenConfig(fps=1.0).is_wanted(window)
