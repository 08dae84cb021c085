"""Recording: episodes and videos in the folder of the server."""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np
import pytest
from tests.serve.client import Client
from tests.serve.squares import SIZE, TILE, film_world, running, time_world, turn_world

from reelworld.data.dataset import Dataset
from reelworld.serve.config import Limits
from reelworld.serve.recording import writer_of
from reelworld.types import UserError


def cells(frames: np.ndarray) -> list[tuple[int, int]]:
    found = []
    for frame in frames:
        rows, columns = np.nonzero((frame == (255, 0, 0)).all(-1))
        found.append((int(columns.min()) // TILE, int(rows.min()) // TILE))
    return found


def act(client: Client, id: int, action: int) -> None:
    client.send(type="act", id=id, actions={"action": action})
    assert client.frame()["input"] == id


def episode(folder: Path, index: int = 0) -> dict[str, np.ndarray]:
    data = Dataset.open(folder)
    return data.arrays(index, 0, data.episodes[index].n_frames)


def test_what_is_played_becomes_an_episode_and_a_film(tmp_path):
    with running(turn_world(), record=tmp_path / "mine") as address, Client(address) as client:
        assert client.hello["record"] is True
        client.frame()
        act(client, 1, 0)
        client.send(type="record", on=True)
        assert client.told("recording")["on"] is True
        for id, action in enumerate([0, 0, 1], 2):
            act(client, id, action)
        client.send(type="record", on=False)
        told = client.told("recorded")
    assert told["frames"] == 4
    arrays = episode(tmp_path / "mine")
    assert cells(arrays["frames"]) == [(1, 0), (2, 0), (3, 0), (3, 1)]
    assert arrays["actions/action"].tolist()[:3] == [0, 0, 1] and arrays["rewards"].tolist() == [0.5, 0.5, 0.5, 0.0]
    assert not arrays["terminated"].any()
    film = (tmp_path / "mine" / told["video"]).resolve()
    assert film.parent == tmp_path / "mine" / "videos" and film.suffix == ".mp4"
    with av.open(str(film)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 4 and pictures[0].shape == (8 * SIZE, 8 * SIZE, 3)


def test_going_back_takes_steps_off_the_recording(tmp_path):
    with running(turn_world(), record=tmp_path) as address, Client(address) as client:
        client.frame()
        client.send(type="record", on=True)
        for id, action in enumerate([0, 0, 0], 1):
            act(client, id, action)
        client.send(type="rewind", id=4, steps=2)
        assert client.frame()["step"] == 1
        act(client, 5, 1)
        client.send(type="record", on=False)
        client.told("recorded")
    arrays = episode(tmp_path)
    assert cells(arrays["frames"]) == [(0, 0), (1, 0), (1, 1)] and arrays["actions/action"].tolist()[:2] == [0, 1]


def test_going_back_before_the_recording_began_starts_it_there(tmp_path):
    with running(turn_world(), record=tmp_path) as address, Client(address) as client:
        client.frame()
        act(client, 1, 0), act(client, 2, 0)
        client.send(type="record", on=True)
        act(client, 3, 0)
        client.send(type="rewind", id=4, steps=2)
        client.frame()
        act(client, 5, 1)
        client.send(type="record", on=False)
        client.told("recorded")
    assert cells(episode(tmp_path)["frames"]) == [(1, 0), (1, 1)]


def test_every_episode_is_one_of_its_own_also_the_last_of_a_tab_that_closes(tmp_path):
    with running(turn_world(), record=tmp_path) as address:
        with Client(address) as client:
            client.frame()
            client.send(type="record", on=True)
            act(client, 1, 1)
            client.send(type="reset", id=2, seed=7)
            client.frame()
            for id in range(3, 10):
                act(client, id, 1)  # the seventh step ends the episode
            client.send(type="reset", id=10, seed=2)
            client.frame()
            act(client, 11, 1), act(client, 12, 1)
        deadline = time.monotonic() + 10
        while len(list(tmp_path.glob("*.npz"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    data = Dataset.open(tmp_path)
    ends = {e.n_frames: bool(data.arrays(i, 0, e.n_frames)["terminated"][-2]) for i, e in enumerate(data.episodes)}
    assert ends == {2: False, 8: True, 3: False}
    assert len({e.source for e in data.episodes}) == 3 == len(list((tmp_path / "videos").glob("*.mp4")))


def test_continuous_actions_and_worlds_without_any_are_recorded(tmp_path):
    for name, world in (("steered", time_world(fps=50)), ("film", film_world())):
        with running(world, record=tmp_path / name) as address, Client(address) as client:
            client.frame()
            if name == "steered":
                client.send(type="act", id=1, actions={"action": [1.0, 0.0]})
            client.send(type="record", on=True)
            client.send(type="step", id=2)
            client.frame()
            client.send(type="record", on=False)
            client.told("recorded")
        arrays = episode(tmp_path / name)
        assert cells(arrays["frames"]) == [(0, 0), (1, 0)]
        assert name == "film" or arrays["actions/action"].tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_nobody_records_where_no_folder_was_given(turns):
    with Client(turns) as client:
        assert client.hello["record"] is False
        client.send(type="record", on=True)
        code, reason = client.closing()
        assert code == 1008 and "--record" in reason


def test_a_full_tape_is_written_and_recording_ends(tmp_path):
    limits = Limits(episode_bytes=3 * SIZE * SIZE * 3)
    with running(turn_world(), limits, record=tmp_path) as address, Client(address) as client:
        client.frame()
        client.send(type="record", on=True)
        assert client.told("recording")["on"]
        for id in range(1, 3):
            client.send(type="act", id=id, actions={"action": 0})
        assert client.told("recording")["on"] is False
        assert client.told("recorded")["frames"] == 3


def test_a_folder_of_another_recording_is_left_alone(tmp_path):
    writer_of(tmp_path, turn_world())
    with running(turn_world(), record=tmp_path) as address, Client(address) as client:
        client.frame()
        client.send(type="record", on=True)
        act(client, 1, 0)
        client.send(type="record", on=False)
        client.told("recorded")
    writer_of(tmp_path, turn_world())  # the same world may go on
    with pytest.raises(UserError, match="another recording"):
        writer_of(tmp_path, time_world())
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="cannot record into"):
        writer_of(file, turn_world())


def test_a_disk_that_refuses_ends_the_recording_not_the_game(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise UserError("the disk is full.")

    monkeypatch.setattr("reelworld.data.writers.played.write_episode", refuse)
    with running(turn_world(), record=tmp_path) as address, Client(address) as client:
        client.frame()
        client.send(type="record", on=True)
        act(client, 1, 0)
        client.send(type="record", on=False)
        while "problem" not in (told := client.told("recording")):
            pass
        assert told["problem"] == "the disk is full."
        act(client, 2, 0)
