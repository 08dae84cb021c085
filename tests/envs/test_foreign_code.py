"""Environments and policies of other people: old interfaces are adapted, errors are one line with their own message."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reelworld.data.dataset import Dataset
from reelworld.data.formats.episode_folder import read_info

GAMES = """
import gymnasium as gym, numpy as np

class Base(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space, action_space = gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2)
    def __init__(self, render_mode=None):
        self.render_mode = render_mode
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.shade = 0, int(self.np_random.integers(256))
        return np.zeros(1, np.float32), {}
    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), self.reward(), False, self.t == 6, {}
    def reward(self):
        return 0.5
    def render(self):
        return np.stack([np.full((8, 8), x, np.uint8) for x in (self.t, self.shade, 0)], -1)

class Old(Base):
    def reset(self):
        return Base.reset(self)[0]
    def step(self, action):
        observation, reward, _, done, info = Base.step(self, action)
        return observation, reward, done, info

class Crash(Base):
    def step(self, action):
        return Base.step(self, action) if self.t < 3 else 1 / 0

class NoReward(Base):
    def reward(self):
        return None

class SomeNan(Base):
    def reward(self):
        return float("nan") if self.t == 4 and self.np_random.random() < 0.5 else 0.0

class AllNan(Base):
    def reward(self):
        return float("nan")

for kind in (Base, Old, Crash, NoReward, SomeNan, AllNan):
    gym.register(f"{kind.__name__}-v0", kind)

def no_generator(simulator, rng):
    return 1

def one_argument(simulator):
    yield 0

def breaks(simulator, rng):
    yield 0
    raise KeyError("lost")
"""
Record = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Record:
    """Record with the installed script, in a folder that has a module of environments."""
    (tmp_path / "foreign_games.py").write_text(GAMES)

    def record(env: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("reelworld")), "record", env, *words]
        command += ["--processes", "1", "--out", "data"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return record


def test_the_script_finds_modules_of_the_current_folder_and_old_environments(run: Record, tmp_path: Path) -> None:
    done = run("foreign_games:Old-v0", "--episodes", "4")
    assert done.returncode == 0, done.stderr
    assert "takes no seed: its episodes cannot be reproduced" in done.stderr and "gym before 0.26" in done.stderr
    clip = Dataset.open(tmp_path / "data").read(0)
    assert clip.frames[:, 0, 0, 0].tolist() == list(range(7))
    assert clip.terminated is not None and np.flatnonzero(clip.terminated).tolist() == [5]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("Crash",), "failed in its step(): ZeroDivisionError: division by zero (foreign_games.py, line "),
        (("NoReward",), "gave the reward None; wanted a number"),
        (("AllNan",), "no episode could be kept: "),
        (("Base", "--policy", "foreign_games:no_generator"), "returned int; wanted a generator function policy("),
        (("Base", "--policy", "foreign_games:one_argument"), "takes 1 positional argument but 2 were given"),
        (("Base", "--policy", "foreign_games:breaks"), "failed: KeyError: 'lost' (foreign_games.py, line "),
    ],
)
def test_errors_of_other_peoples_code_are_one_line(run: Record, words: tuple[str, ...], line: str) -> None:
    failed = run(f"foreign_games:{words[0]}-v0", *words[1:], "--episodes", "2")
    assert failed.returncode == 2 and line in failed.stderr
    assert "Traceback" not in failed.stderr and failed.stderr.strip().splitlines()[-1].startswith("error: ")


def test_episodes_with_a_reward_of_nan_are_left_out_and_named(run: Record, tmp_path: Path) -> None:
    done = run("foreign_games:SomeNan-v0", "--episodes", "8")
    assert done.returncode == 0, done.stderr
    n_left_out = done.stderr.count("its reward in step 3 is nan, wanted finite numbers")
    assert 0 < n_left_out < 8 and len(read_info(tmp_path / "data")[1]) == 8 - n_left_out
    assert f"{8 - n_left_out} episodes" in done.stdout


@pytest.mark.parametrize(
    ("words", "fps", "is_said"),
    [((), 15.0, True), (("--env-kwargs", '{"frameskip": 1, "repeat_action_probability": 0}'), 60.0, False)],
)
def test_atari_games_say_that_they_repeat_actions_and_have_their_true_rate(
    run: Record, tmp_path: Path, words: tuple[str, ...], fps: float, is_said: bool
) -> None:
    pytest.importorskip("ale_py")
    done = run("ALE/Breakout-v5", "--episodes", "3", "--max-steps", "4", "--size", "32", *words)
    assert done.returncode == 0, done.stderr
    assert ("itself repeats each action 4 times" in done.stderr) == is_said
    assert read_info(tmp_path / "data")[0].fps == fps
