"""Recordings are reproducible, resumable and true: checked against the simulators themselves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import minigrid  # noqa: F401 (registers its environments)
import numpy as np
import pytest

from reelworld.data.dataset import Dataset
from reelworld.data.formats.episode_folder import read_info
from reelworld.envs.presets import WrapperConfig
from reelworld.envs.recorder import RecordedEpisode, record, record_config, record_episode, recorded_simulator
from reelworld.envs.simulator import Simulator
from reelworld.files import LOCK_FILE, FolderLock
from reelworld.types import UserError

DOORKEY = "MiniGrid-DoorKey-8x8-v0"


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def doorkey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings") / "doorkey"
    record(record_config(DOORKEY, episodes=12, seed=5), folder)
    return folder


def test_files_do_not_depend_on_the_number_of_processes(doorkey, tmp_path):
    record(record_config(DOORKEY, episodes=12, seed=5), tmp_path / "two", n_processes=2)
    assert hashes(tmp_path / "two") == hashes(doorkey)


class Resets(gym.Wrapper):
    """Shows how often it was reset: state that must not reach another episode."""

    n_resets = 0

    def reset(self, **kwargs):
        self.n_resets += 1
        return self.env.reset(**kwargs)

    def render(self):
        return np.full((8, 8, 3), self.n_resets, np.uint8)


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [("CarRacing-v3", {}), ("CartPole-v1", {"wrappers": (WrapperConfig(path=f"{__name__}:Resets"),)})],
)
def test_an_episode_does_not_depend_on_the_ones_before_it(env_id, settings):
    config = record_config(env_id, episodes=2, max_steps=25, **settings)
    simulator = Simulator(config.simulator)
    record_episode(simulator, config, 0)
    after, alone = record_episode(simulator, config, 1), record_episode(Simulator(config.simulator), config, 1)
    np.testing.assert_array_equal(after.frames, alone.frames)
    np.testing.assert_array_equal(after.action, alone.action)


def test_another_seed_gives_other_episodes(doorkey, tmp_path):
    record(record_config(DOORKEY, episodes=2, seed=100), tmp_path / "other")
    assert not set(hashes(tmp_path / "other").values()) & set(hashes(doorkey).values())


def test_recorded_actions_replayed_in_the_plain_environment_give_the_recorded_frames(doorkey):
    """The alignment, the rewards, the ends and the fast rendering, all against MiniGrid's own rendering."""
    n_ends = 0
    for path in sorted(doorkey.glob("*.npz")):
        episode = np.load(path)
        env = gym.make(DOORKEY, render_mode="rgb_array", highlight=False, tile_size=8)
        env.reset(seed=int(path.stem.rsplit("-", 1)[1]))
        np.testing.assert_array_equal(episode["frames"][0], env.render())
        n_steps = len(episode["frames"]) - 1
        for t in range(n_steps):
            _, reward, terminated, truncated, _ = env.step(int(episode["actions"][t]))
            np.testing.assert_array_equal(episode["frames"][t + 1], env.render())
            assert episode["rewards"][t] == np.float32(reward)
            assert episode["terminated"][t] == terminated
            assert episode["truncated"][t] == (not terminated and t == n_steps - 1) and not truncated
            assert not terminated or t == n_steps - 1  # nothing is recorded past the end
        n_ends += int(episode["terminated"].any())
        assert n_steps == 120 or episode["terminated"][n_steps - 1]
    assert n_ends >= 2


def test_action_repeat_holds_the_action_and_sums_the_rewards():
    config = record_config("Pendulum-v1", size=(32, 24), action_repeat=3, warmup_steps=2, max_steps=6)
    clip = record_episode(Simulator(config.simulator), config, 4)
    assert clip.frames.shape == (7, 32, 24, 3) and clip.action.dtype == np.float32
    assert clip.fps == pytest.approx(10)
    env = gym.make("Pendulum-v1")
    env.reset(seed=4)
    for _ in range(2):
        env.step(np.zeros(1, np.float32))
    for t in range(6):
        rewards = [env.step(clip.action[t])[1] for _ in range(3)]
        assert clip.rewards[t] == pytest.approx(sum(rewards), rel=1e-5)


def test_the_reader_opens_what_the_recorder_writes(doorkey):
    data = Dataset.open(doorkey)
    assert len(data.episodes) == 12 and not data.problems
    assert (data.info.height, data.info.width, data.info.fps) == (64, 64, 10)
    spec = data.info.actions["action"]
    assert spec.n == 7 and spec.names[spec.keys["KeyP"]] == "pick up" and "done" not in map(str, spec.keys)
    simulator = recorded_simulator(data.info)
    seed = int(data.episodes[3].source.rsplit("-", 1)[1])
    np.testing.assert_array_equal(simulator.reset(seed), data.read(3).frames[0])


def test_running_again_adds_only_what_is_missing(doorkey, tmp_path):
    config, folder, seen = record_config(DOORKEY, episodes=12, seed=5), tmp_path / "again", []
    record(dataclasses.replace(config, episodes=4), folder)
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}
    record(config, folder, on_episode=seen.append)
    assert [r.is_new for r in seen] == [False] * 4 + [True] * 8
    assert all((folder / name).stat().st_mtime_ns == time for name, time in before.items())
    assert hashes(folder) == hashes(doorkey)


def _start(out: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "reelworld", "record", DOORKEY, "--out", str(out), "--processes", "2", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _wait_for_episodes(out: Path, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.npz"))) < n:
        assert time.monotonic() < deadline, "no episodes within a minute"
        time.sleep(0.01)


@pytest.mark.slow
def test_kill_9_keeps_finished_episodes_and_the_same_command_goes_on(tmp_path):
    out, whole, flags = tmp_path / "killed", tmp_path / "whole", ("--episodes", "120")
    for n in (5, 40):  # the second kill hits a resumed recording
        process = _start(out, *flags)
        _wait_for_episodes(out, n)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        for path in out.glob("*.npz"):
            episode = np.load(path)
            assert len(episode["frames"]) == len(episode["actions"])
    time.sleep(0.5)
    n_left = len(list(out.glob("*.npz")))
    time.sleep(0.5)
    assert n_left == len(list(out.glob("*.npz"))) < 120, "workers outlived the process that was killed"
    last = _start(out, *flags)
    last.communicate()
    assert last.returncode == 0
    record(record_config(DOORKEY, episodes=120), whole, n_processes=2)
    assert hashes(out) == hashes(whole)


@pytest.mark.parametrize("n_episodes", [0, 3])
@pytest.mark.parametrize("how", [pytest.param("SIGTERM", marks=pytest.mark.slow), "Ctrl-C"])
def test_stopping_ends_cleanly_and_says_what_is_kept(tmp_path, how, n_episodes):
    out = tmp_path / "out"
    process = _start(out, "--episodes", "3000")
    while not out.exists():  # workers are being started
        time.sleep(0.01)
    _wait_for_episodes(out, n_episodes)
    if how == "SIGTERM":
        process.terminate()
    else:  # a terminal sends it to the whole group
        os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert "of 3000 episodes are kept; the same command goes on" in output
    assert not list(out.glob("*.tmp"))
    assert n_episodes == 0 or len(read_info(out)[1]) > 0


def test_other_settings_and_foreign_folders_are_refused_and_left_alone(doorkey, tmp_path):
    before = hashes(doorkey)
    with pytest.raises(UserError, match=r"other settings \(max_steps\)"):
        record(record_config(DOORKEY, episodes=12, seed=5, max_steps=50), doorkey)
    assert hashes(doorkey) == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("mine")
    with pytest.raises(UserError, match="is no recording"):
        record(record_config(DOORKEY), tmp_path / "letters")
    assert hashes(tmp_path / "letters").keys() == {"dear.txt"}


def test_dataset_json_says_how_it_was_made(doorkey):
    provenance = json.loads((doorkey / "dataset.json").read_text())["provenance"]
    assert provenance["simulator"]["env_kwargs"] == {"highlight": False, "tile_size": 8}
    assert provenance["policy"] == {"explorer": 0.6, "solver": 0.2, "random": 0.2}
    assert provenance["seed"] == 5 and provenance["versions"]["minigrid"]


def failing(simulator, rng):
    """A policy with a defect, for the test below."""
    yield 0
    raise RuntimeError("left is not right")


def test_a_defect_in_a_worker_reaches_the_caller(tmp_path):
    config = record_config(DOORKEY, episodes=4, policy=f"{__name__}:failing")
    with pytest.raises(UserError, match=r"failing failed: RuntimeError: left is not right \(test_recorder"):
        record(config, tmp_path / "out", n_processes=2)
    assert not list((tmp_path / "out").glob("*.npz"))


def short(simulator, rng):
    """A policy that stops after three actions."""
    assert simulator.observation["image"].shape == (7, 7, 3)
    yield from (1, 1, 2)


def test_an_own_policy_may_end_the_episode(tmp_path):
    seen: list[RecordedEpisode] = []
    record(record_config(DOORKEY, episodes=1, policy=f"{__name__}:short"), tmp_path / "out", on_episode=seen.append)
    (path,) = (tmp_path / "out").glob("*.npz")
    episode = np.load(path)
    assert episode["actions"].tolist() == [1, 1, 2, 0] and seen[0].n_frames == 4
    assert episode["truncated"].tolist() == [False, False, True, False]


def test_one_process_at_a_time_records_into_a_folder(tmp_path):
    config = record_config(DOORKEY, episodes=2, max_steps=5)
    (tmp_path / "a").mkdir()
    held = FolderLock(tmp_path / "a", "recording into")
    with pytest.raises(UserError, match="another process is recording into"):
        record(config, tmp_path / "a")
    assert [p.name for p in (tmp_path / "a").iterdir()] == [LOCK_FILE]
    held.close()
    record(config, tmp_path / "a")
    assert len(list((tmp_path / "a").glob("*.npz"))) == 2
    assert not (tmp_path / "a" / LOCK_FILE).exists()
    # a kill leaves the file, but nobody holds it
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / LOCK_FILE).touch()
    record(config, tmp_path / "b")
    assert hashes(tmp_path / "b") == hashes(tmp_path / "a")
