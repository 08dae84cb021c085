"""``reelworld record --play``: a user plays the real game, and the episodes become a data set."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.serve.client import Client

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset
from reelworld.envs.recorder import recorded_simulator

EMPTY = "MiniGrid-Empty-5x5-v0"
GAME = "tests.serve.game:Square-v0"


@contextmanager
def playing(folder: Path, *flags: str, env_id: str = EMPTY) -> Iterator[str]:
    """Run the verb as a person does; afterwards Ctrl-C, and nothing may be complained about."""
    words = ["record", "--play", env_id, "--out", str(folder), "--no-browser", "--port", "0", *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", "reelworld", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        found = re.search(r"http://(127\.0\.0\.1:\d+)/", process.stdout.readline())
        assert found, process.communicate(timeout=30)[1]
        urllib.request.urlopen(f"http://{found[1]}/", timeout=30).close()  # Ctrl-C before it serves is another test
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert f"frames in {folder}" in out.splitlines()[-1]


def walk(client: Client, *actions: int, seed: int) -> None:
    client.frame()
    client.send(type="reset", id=1, seed=seed)
    client.frame()
    for id, action in enumerate(actions, 2):
        client.send(type="act", id=id, actions={"action": action})
        assert client.frame()["input"] == id


def check_episode(folder: Path, n_frames: int, seed: int) -> None:
    """Compare with the simulator that the data set names, replayed with the recorded actions."""
    data = Dataset.open(folder)
    (index,) = (i for i, e in enumerate(data.episodes) if e.n_frames == n_frames)
    arrays = data.arrays(index, 0, n_frames)
    simulator = recorded_simulator(data.info)
    frames, rewards = [simulator.reset(seed)], []
    for action in arrays["actions/action"][:-1]:
        rewards.append(simulator.step(int(action))[0])
        frames.append(simulator.frame())
    assert np.array_equal(arrays["frames"], np.stack(frames))
    assert np.allclose(arrays["rewards"][:-1], rewards)


@pytest.mark.slow
def test_what_is_played_is_the_game_replayed_and_more_is_added(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "mine"
    with playing(folder) as address, Client(address) as client:
        assert client.hello["views"] == ["env"] and client.hello["record"] is True
        assert client.hello["sampler"] is None
        assert client.told("recording")["on"] is True
        walk(client, 1, 2, 2, seed=5)  # Ctrl-C comes while the tab is open
    check_episode(folder, 4, seed=5)
    with playing(folder) as address:
        with Client(address) as client:
            walk(client, 2, 2, 1, 2, 2, seed=6)  # the goal: the episode ends by itself
            client.send(type="reset", id=9, seed=7)
            client.frame()
            client.send(type="act", id=10, actions={"action": 0})
            client.frame()
            client.send(type="reset", id=11)
            assert client.told("recorded")["frames"] == 6 and client.told("recorded")["frames"] == 2
        # the tab is closed; another one takes its place
        with Client(address) as client:
            walk(client, 0, 0, seed=8)
    data = Dataset.open(folder)
    assert sorted(e.n_frames for e in data.episodes) == [2, 3, 4, 6]
    for n_frames, seed in ((6, 6), (2, 7), (3, 8)):
        check_episode(folder, n_frames, seed)
    ends = {e.n_frames: bool(data.arrays(i, 0, e.n_frames)["terminated"][-2]) for i, e in enumerate(data.episodes)}
    assert ends == {6: True, 2: False, 3: False, 4: False}
    assert not list(folder.glob("*.tmp")) and len(list((folder / "videos").glob("*.mp4"))) == 4
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "mine"]) == 0
    assert "4 of 2 to 6 frames" in re.sub(r"\s+", " ", capsys.readouterr().out)
    small = [
        "--dynamics.steps",
        "2",
        "--tokenizer.steps",
        "2",
        "--clip-frames",
        "2",
        "--context-frames",
        "1",
        "--out",
        "run",
    ]
    assert main(["train", "pocket:tiny", "--data", "mine", *small]) == 0


def test_folders_of_something_else_are_left_alone(tmp_path, capsys):
    with playing(tmp_path / "played") as address, Client(address) as client:
        walk(client, 1, seed=0)
    assert main(["record", EMPTY, "--out", str(tmp_path / "policy"), "--episodes", "1", "--processes", "1"]) == 0
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "letter.txt").write_text("dear")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*") if p.is_file()}
    capsys.readouterr()
    for env_id, name, problem in (
        (GAME, "played", "holds another recording"),
        (EMPTY, "policy", "holds another recording"),
        (EMPTY, "else", "exists and is no recording"),
        (EMPTY, "else/letter.txt", "exists and is no recording"),
    ):
        assert main(["record", "--play", env_id, "--out", str(tmp_path / name), "--no-browser", "--port", "0"]) == 2
        error = capsys.readouterr().err
        assert problem in error and error.count("\n") == 1, error
    assert main(["record", EMPTY, "--out", str(tmp_path / "played"), "--episodes", "1"]) == 2
    assert "other settings" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*.*") if p.is_file()}


def test_nothing_played_leaves_nothing(tmp_path):
    with playing(tmp_path / "none", env_id=GAME):
        pass
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MiniGrid-DoorKey-8x9-v0"], "did you mean 'MiniGrid-DoorKey-8x8-v0'"),
        (["tests.serve.game:Blind-v0"], "cannot render 'rgb_array'"),
        ([GAME, "--policy", "random"], "--policy and --max-steps are for recordings without a person"),
        ([GAME, "--port", "70000"], "--port is 70000"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, words, message):
    assert main(["record", "--play", *words, "--out", str(tmp_path / "out"), "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_game_that_is_not_installed_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", None)
    assert main(["record", "--play", EMPTY, "--out", str(tmp_path / "out"), "--no-browser"]) == 2
    assert "pip install 'reelworld[envs]'" in capsys.readouterr().err
