"""Several worlds on one server: list, previews, loading and unloading, shared weights."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.client import Client, get, refusal
from tests.serve.squares import running, time_world, turn_world

from reelworld.serve.config import Limits
from reelworld.serve.library import WorldEntry, WorldLibrary, find_worlds, read_entry
from reelworld.types import UserError


def fail() -> Any:
    raise UserError("the weights are damaged; restore the world.")


def library() -> WorldLibrary:
    return WorldLibrary(
        [
            WorldEntry(name="Turns", load=turn_world, preview=b"GIF89a...", card="# Turns", fingerprint="a"),
            WorldEntry(name="Time", load=time_world),
            WorldEntry(name="Broken", load=fail),
            WorldEntry(name="Turns again", load=turn_world, fingerprint="a"),
        ]
    )


@pytest.fixture(scope="module")
def gallery() -> Iterator[str]:
    with running(library()) as address:
        yield address


def test_worlds_are_listed_and_played_by_number(tmp_path):
    with running(library(), record=tmp_path) as address:
        with get(address, "/api/worlds") as answer:
            listed = json.load(answer)["worlds"]
        assert [(w["id"], w["name"], w["preview"]) for w in listed] == [
            (0, "Turns", True),
            (1, "Time", False),
            (2, "Broken", False),
            (3, "Turns again", False),
        ]
        with get(address, "/api/preview?world=0") as answer:
            assert answer.read() == b"GIF89a..." and answer.headers["Content-Type"] == "image/gif"
        for number, is_turn_based in ((0, True), (1, False)):
            with Client(address, f"/api/play?world={number}") as client:
                assert client.hello["turn_based"] is is_turn_based and client.hello["gallery"] is True
                assert client.frame()["step"] == 0
        with get(address) as page, get(address, "/play?world=0") as player:
            assert b"Choose a world" in page.read() and b'id="stage"' in player.read()


@pytest.mark.parametrize("name", ["9", "-1", "x", "../runs", "%2e%2e", "1e1", "99999999999"])
def test_worlds_that_are_not_there(gallery, name):
    assert refusal(gallery, f"/api/world?world={name}") == refusal(gallery, f"/api/preview?world={name}") == 404
    with pytest.raises(Exception), Client(gallery, f"/api/play?world={name}") as client:  # noqa: B017
        client.frame()


def test_a_world_that_cannot_be_loaded_says_why_and_the_others_go_on():
    with running(library()) as address:
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        with connect(f"ws://{address}/api/play?world=2") as socket, pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd.code == 4003 and "weights are damaged" in closed.value.rcvd.reason
        assert refusal(address, "/api/world?world=2") == 503
        with Client(address, "/api/play?world=0") as client:
            assert client.frame()["step"] == 0


def test_equal_worlds_share_weights_and_the_rest_does_not():
    worlds = library()
    first = worlds.load(0)
    assert worlds.load(3) is first and worlds.load(1) is not worlds.load(1)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None  # nobody plays it any more


def test_worlds_nobody_plays_are_unloaded_when_there_are_many(monkeypatch):
    monkeypatch.setattr("reelworld.serve.world_pool.MAX_LOADED", 2)
    made: list[Any] = []

    def load() -> Any:
        world = turn_world()
        made.append(weakref.ref(world))
        return world

    many = WorldLibrary([WorldEntry(name=str(i), load=load) for i in range(6)])
    with running(many) as address, Client(address, "/api/play?world=0") as client:
        for number in range(1, 6):
            get(address, f"/api/world?world={number}").close()
        gc.collect()
        assert made[0]() is not None  # somebody plays there
        assert sum(world() is not None for world in made) <= 3
        get(address, "/api/world?world=0").close()
        assert len(made) == 6  # it is still the world that is played
        client.frame()
        client.send(type="act", id=1, actions={"action": 0})
        assert client.frame()["cell"] == (1, 0)


def test_each_world_records_into_a_folder_of_its_own(tmp_path):
    with running(library(), record=tmp_path) as address:
        for number in (0, 1, 3):
            with Client(address, f"/api/play?world={number}") as client:
                client.frame()
                client.send(type="record", on=True)
                client.send(type="pause", paused=False)
                client.send(type="act", id=1, actions={})
                client.frame()
                client.send(type="record", on=False)
                client.told("recorded")
    found = {path.name: len(list(path.glob("*.npz"))) for path in tmp_path.iterdir()}
    assert found == {"turns-a": 1, "time": 1, "turns-again-a": 1}


def test_places_are_counted_over_all_worlds():
    with (
        running(library(), Limits(sessions=1)) as address,
        Client(address, "/api/play?world=0"),
        get(address, "/api/world?world=1") as answer,
    ):
        assert json.load(answer)["players"] == 1


def test_entries_are_read_without_loading_the_worlds(tmp_path):
    def world(folder: Path, **info: Any) -> None:
        folder.mkdir(parents=True)
        (folder / "world.json").write_text(json.dumps(info))

    spec = {"width": 64, "height": 32, "actions": {"action": {"kind": "discrete", "n": 7}}}
    world(tmp_path / "a" / "world", name="A", system="pocket", spec=spec)
    world(tmp_path / "b", name="B")
    (tmp_path / "b" / "README.md").write_text("# B")
    (tmp_path / "b" / "preview.gif").write_bytes(b"GIF")
    assert {path.relative_to(tmp_path).as_posix() for path in find_worlds(tmp_path)} == {"a/world", "b"}
    a, b = (read_entry(tmp_path / name, lambda _: turn_world()) for name in ("a", "b"))
    assert (a.name, a.system, a.width, a.height, a.n_actions) == ("A", "pocket", 64, 32, 7)
    assert (a.run, b.run) == ("a", "b")
    assert (b.name, b.card, b.preview, b.n_actions) == ("B", "# B", b"GIF", 0)
    assert a.fingerprint != b.fingerprint == read_entry(tmp_path / "b", lambda _: turn_world()).fingerprint
    with pytest.raises(UserError, match="is not a world"):
        read_entry(tmp_path / "c", lambda _: turn_world())
