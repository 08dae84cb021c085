"""Real servers and WebSockets: playing, limits, hostile clients, ports."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from tests.serve import asgi
from tests.serve.client import Client, get, refusal
from tests.serve.squares import SIZE, WindowWorld, film_world, running, time_world, turn_world, window_world
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from reelworld.serve.config import Limits
from reelworld.serve.server import find_port, serve
from reelworld.types import UserError


def test_turn_based_world_takes_one_step_per_act(turns):
    with Client(turns) as client:
        assert client.hello["protocol"] == 4 and client.hello["turn_based"] and not client.hello["paused"]
        first = client.frame()
        assert (first["step"], first["input"], first["cell"], first["shape"]) == (0, 0, (0, 0), (SIZE, SIZE, 3))
        for id, action, cell in ((1, 0, (1, 0)), (2, 1, (1, 1)), (3, 2, (0, 1))):
            client.send(type="act", id=id, actions={"action": action})
            frame = client.frame()
            assert (frame["step"], frame["input"], frame["cell"]) == (id, id, cell)
        assert frame["reward"] == 0.5 and frame["total"] == 1.5
        client.send(type="reset", id=9, seed=3)
        frame = client.frame()
        assert (frame["step"], frame["input"], frame["cell"], frame["total"]) == (0, 9, (3, 0), 0.0)


def test_an_ended_episode_waits_for_a_reset(turns):
    with Client(turns) as client:
        client.frame()
        client.send(type="reset", id=1, seed=7)
        assert client.frame()["cell"] == (7, 0)
        for id in range(2, 9):
            client.send(type="act", id=id, actions={"action": 1})
            frame = client.frame()
        assert frame["flags"] == 1 and frame["cell"] == (7, 7)
        client.send(type="act", id=20, actions={"action": 2})
        client.send(type="reset", id=21)
        frame = client.frame()
        assert (frame["flags"], frame["input"], frame["step"]) == (0, 21, 0)


def test_the_client_in_the_documentation_works(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    with running(time_world(fps=60)) as address:
        assert "127.0.0.1:8000" in code
        exec(code.replace("127.0.0.1:8000", address), {})
    assert capsys.readouterr().out == "Square\n"
    with Image.open("frame.png") as image:
        assert image.size == (SIZE, SIZE)


def test_two_tabs_play_their_own_games(turns):
    with Client(turns) as one, Client(turns) as two:
        one.frame(), two.frame()
        one.send(type="act", id=1, actions={"action": 1})
        two.send(type="act", id=1, actions={"action": 0})
        assert (one.frame()["cell"], two.frame()["cell"]) == ((0, 1), (1, 0))


def test_real_time_world_keeps_its_pace_and_the_held_action():
    world = time_world(fps=20)
    with running(world) as address, Client(address) as client:
        assert client.hello["paused"] and client.frame()["step"] == 0
        client.send(type="act", id=1, actions={"action": [1.0, 0.0]})
        time.sleep(0.1)
        assert world.taken == []  # paused until the player starts
        client.send(type="pause", paused=False)
        start = time.perf_counter()
        frames = [client.frame() for _ in range(10)]
        seconds = time.perf_counter() - start
        client.send(type="pause", paused=True)
    assert [frame["step"] for frame in frames] == list(range(1, 11))
    assert {frame["input"] for frame in frames} == {1}
    assert frames[3]["cell"] == (4, 0)
    assert seconds >= 0.4  # 9 or 10 periods of 50 ms: never faster than the world's pace, however fast the model


def test_a_tap_between_two_steps_counts_for_one_step():
    world = time_world(fps=5)
    with running(world) as address, Client(address) as client:
        client.send(type="pause", paused=False)
        while not world.taken:
            client.frame()
        client.send(type="act", id=1, actions={"action": [1.0, 0.0]})
        client.send(type="act", id=2, actions={})
        frames = [client.frame() for _ in range(4)]
    taken = [action["action"][0, 0] for action in world.taken]
    assert taken.count(1.0) == 1
    assert [frame["input"] for frame in frames][-1] == 2


def test_world_without_actions_streams():
    world = film_world()
    with running(world) as address, Client(address) as client:
        assert client.hello["actions"] == {} and not client.hello["turn_based"]
        client.send(type="pause", paused=False)
        assert [client.frame()["step"] for _ in range(3)] == [0, 1, 2]
    assert set(world.taken) == {None}


@pytest.fixture
def often(monkeypatch) -> None:
    """Report progress more often."""
    monkeypatch.setattr("reelworld.serve.player.PROGRESS_SECONDS", 0.05)


def let_draw(world: WindowWorld, n: int) -> None:
    """Let a world make tokens, slowly enough for a message about its progress."""
    for _ in range(n):
        time.sleep(0.08 / n)
        world.tokens.release()


def test_a_world_that_takes_long_says_how_far_it_is(often):
    world = window_world()
    with running(world) as address, Client(address) as client:
        client.frame()
        client.send(type="pause", paused=False)
        told = []
        for _ in range(4):
            let_draw(world, 9)
            told.append(json.loads(client.socket.recv(timeout=10)))
        world.tokens.release(4)
        assert [client.frame()["step"] for _ in range(3)] == [1, 2, 3]
        world.tokens.release(40)
        assert client.frame()["step"] == 4
    assert {(t["type"], t["frames"]) for t in told} == {("progress", 3)}
    shares = [t["fraction"] for t in told]
    assert shares == sorted(set(shares)) and shares[0] > 0 and shares[-1] < 1


def test_a_reset_does_not_wait_for_frames_that_nobody_wants(often):
    world = window_world()
    with running(world) as address, Client(address) as client:
        client.frame()
        client.send(type="pause", paused=False)
        let_draw(world, 3)
        client.send(type="reset", id=1, seed=5)
        while not world.given_up.is_set():
            world.tokens.release()
            time.sleep(0.01)
        frame = client.frame()
        assert (frame["step"], frame["input"], frame["cell"]) == (0, 1, (5, 0))


def test_a_client_that_leaves_gives_up_its_frames(often):
    """Else its tab would hold up everybody else, and the end of the server, for the rest of the window."""
    world = window_world()
    with running(world) as address:
        with Client(address) as client:
            client.frame()
            client.send(type="pause", paused=False)
            let_draw(world, 3)
        for _ in range(30):  # of 40
            if not world.given_up.wait(0.02):
                world.tokens.release()
        assert world.given_up.wait(10)
        with Client(address) as other:
            assert other.frame()["step"] == 0


def test_a_slow_client_skips_frames_and_never_holds_up_others():
    with running(time_world(fps=50)) as address, Client(address) as slow, Client(address) as quick:
        for client in (slow, quick):
            client.send(type="pause", paused=False)
        first = [slow.frame(ack=False) for _ in range(2)]
        steps = [quick.frame()["step"] for _ in range(30)]
        assert steps[-1] >= 29
        with pytest.raises(TimeoutError):  # two frames are in flight, so nothing more comes
            slow.socket.recv(timeout=0.1)
        slow.send(type="ack", sequence=first[-1]["sequence"])
        newest = slow.frame(ack=False)
        assert newest["sequence"] > first[-1]["sequence"] + 10
        assert newest["step"] >= 20


def test_acknowledging_frames_of_the_future_opens_nothing():
    with running(time_world(fps=50)) as address, Client(address) as client:
        client.frame(ack=False)
        client.send(type="ack", sequence=2**32 - 1)
        client.send(type="pause", paused=False)
        for _ in range(2):
            client.frame(ack=False)
        with pytest.raises(TimeoutError):
            client.socket.recv(timeout=0.1)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{", "one JSON object"),
        ('{"type":"dance"}', "act, reset, pause, step"),
        ('{"type":"act","id":1,"actions":{"action":99}}', "from 0 to 2"),
        ('{"type":"act","id":1,"actions":{"../../x":1}}', "this world's actions are action"),
        (b"\x00\xff", "text"),
    ],
)
def test_nonsense_ends_its_own_connection_with_a_reason(turns, message, reason):
    with Client(turns) as good, Client(turns) as bad:
        good.frame(), bad.frame()
        bad.socket.send(message)
        code, given = bad.closing()
        assert code == 1008 and reason in given
        good.send(type="act", id=1, actions={"action": 0})
        assert good.frame()["cell"] == (1, 0)


def test_huge_messages_are_refused_before_they_are_read(turns):
    with Client(turns) as client:
        client.frame()
        client.socket.send("x" * 5000)
        assert client.closing()[0] == 1009  # 1008 would mean that it was read
    with Client(turns) as client:
        assert client.frame()["step"] == 0


def test_noise_instead_of_a_handshake_leaves_the_server_standing(turns):
    draw = random.Random(0)
    host, port = turns.split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"GET /api/play HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" + draw.randbytes(200))
    with Client(turns) as client:
        assert client.frame()["step"] == 0


def test_a_flood_is_cut_off():
    with running(turn_world(), Limits(messages_per_second=50, burst=100)) as address, Client(address) as client:
        with pytest.raises(ConnectionClosed):
            for _ in range(5000):
                client.send(type="ack", sequence=0)
            client.closing()
            raise AssertionError("the server kept listening")
        assert client.socket.close_code == 4002


def test_idle_players_are_sent_away_and_acknowledging_is_not_playing():
    limits = Limits(idle_seconds=0.6)
    with running(time_world(fps=20), limits) as address, Client(address) as idle, Client(address) as awake:
        for client in (idle, awake):
            client.send(type="pause", paused=False)
        stop = time.monotonic() + 1.2
        stopped: list[int] = []

        def watch() -> None:
            try:
                while True:
                    idle.frame()
            except ConnectionClosed as closed:
                stopped.append(closed.rcvd.code)

        watcher = threading.Thread(target=watch)
        watcher.start()
        while time.monotonic() < stop:
            awake.send(type="act", id=1, actions={})
            awake.frame()
        watcher.join(timeout=10)
    assert stopped == [4001]


def test_who_never_says_anything_is_sent_away_too():
    with running(turn_world(), Limits(idle_seconds=0.3)) as address, Client(address) as client:
        assert client.closing() == (4001, "no input for 0.3 seconds")


def test_places_are_limited_and_come_free_again():
    with running(turn_world(), Limits(sessions=2)) as address, Client(address) as one, Client(address):
        with connect(f"ws://{address}/api/play") as third:
            with pytest.raises(ConnectionClosed) as closed:
                third.recv(timeout=10)
            assert closed.value.rcvd.code == 4000 and "2 places" in closed.value.rcvd.reason
        one.socket.close()
        deadline = time.monotonic() + 10
        while json.load(get(address, "/api/world"))["players"] > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        with Client(address) as again:
            assert again.frame()["step"] == 0


@pytest.mark.parametrize("how", ["left", "nonsense", "broken"])
def test_a_closed_tab_frees_its_session(how, monkeypatch):
    # pytest keeps log records, their tracebacks and all that those passed through
    monkeypatch.setattr("reelworld.serve.websocket.logger", logging.Logger("apart"))
    world = time_world(fps=50)
    with running(world) as address:
        for _ in range(5):
            with Client(address) as client:
                client.send(type="pause", paused=False)
                client.frame(), client.frame()
                assert len(world.sessions) >= 1
                if how == "nonsense":
                    client.socket.send("?")
                world.fails = how == "broken"
                if how != "left":
                    client.closing()
            world.fails = False
        deadline = time.monotonic() + 5
        while len(world.sessions) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.05)
        assert len(world.sessions) == 0


def test_a_broken_world_ends_its_session_only(caplog):
    world = turn_world()
    with running(world) as address:
        with Client(address) as client:
            client.frame()
            world.fails = True
            client.send(type="act", id=1, actions={"action": 0})
            code, reason = client.closing()
        assert code == 1011 and "log" in reason
        assert "the model is broken" in caplog.text
        world.fails = False
        with Client(address) as client:
            assert client.frame()["step"] == 0


def test_a_slow_world_does_not_stop_the_page_from_answering():
    world, answered, was_answered = turn_world(), threading.Event(), []

    def move(action: object) -> np.ndarray:
        """Let the step last until the page has its answer; a blocked page would never have it."""
        was_answered.append(answered.wait(8))
        return np.array([1, 0])

    world.move = move
    with running(world) as address, Client(address) as client:
        client.frame()
        client.send(type="act", id=1, actions={"action": 0})
        while not world.taken:  # the step is under way
            time.sleep(0.01)
        with get(address, "/api/world") as answer:
            assert json.load(answer)["players"] == 1
        answered.set()
        assert client.frame()["step"] == 1
    assert was_answered == [True]


def test_turns_that_pile_up_are_dropped():
    world = turn_world(step_seconds=0.1)
    with running(world) as address, Client(address) as client:
        client.frame()
        for id in range(1, 51):
            client.send(type="act", id=id, actions={"action": 0})
        while client.frame()["input"] != 50:
            pass
    assert len(world.taken) <= 6


def test_single_steps_that_pile_up_are_dropped():
    world = time_world(step_seconds=0.1)
    with running(world) as address, Client(address) as client:
        client.frame()
        for id in range(1, 51):
            client.send(type="step", id=id)
        while client.frame()["input"] != 50:
            pass
    assert len(world.taken) <= 6


def test_world_is_described(turns):
    with get(turns, "/api/world") as answer:
        world = json.load(answer)
    assert (world["name"], world["width"], world["height"], world["card"]) == ("Square", SIZE, SIZE, "# Square")
    assert world["actions"]["action"]["keys"] == {"ArrowRight": 0, "ArrowDown": 1, "Space": 2}


@pytest.mark.parametrize("path", ["/", "/style.css", "/play.js", "/connection.js", "/keyboard.js", "/icon.svg"])
def test_page_files_carry_the_safety_headers(turns, path):
    with get(turns, path) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "http" not in answer.headers["Content-Security-Policy"]
        assert len(answer.read()) > 100


@pytest.mark.parametrize("path", ["/protocol.py", "/../app.py", "/%2e%2e/app.py", "/page/", "//etc/passwd", "/api"])
def test_other_files_do_not_exist(turns, path):
    assert refusal(turns, path) == 404


def test_foreign_hosts_and_origins_are_turned_away(turns):
    port = turns.split(":")[1]
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "[", ""):
        assert refusal(turns, "/api/world", Host=host) == 403, host
    for host in (f"localhost:{port}", "127.0.0.1:9", f"[::1]:{port}"):
        with get(turns, "/api/world", Host=host) as answer:
            assert answer.status == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert refusal(turns, "/", Origin=origin) == 403
        with pytest.raises(InvalidStatus) as refused, Client(turns, origin=origin):
            pass
        assert refused.value.response.status_code == 403
    with Client(turns, origin=f"http://{turns}") as client:
        assert client.frame()["step"] == 0


def test_token_is_wanted_where_one_is_set():
    with running(turn_world(), token="secret") as address:
        assert get(address, "/").status == 200
        assert refusal(address, "/api/world") == 403
        assert refusal(address, "/api/world?token=secreT") == 403
        assert get(address, "/api/world?token=secret").status == 200
        with pytest.raises(InvalidStatus), Client(address):
            pass
        with Client(address, "/api/play?token=secret") as client:
            assert client.frame()["step"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_server_for_other_machines_wants_a_token_that_its_address_carries(host, monkeypatch):
    apps, urls = [], []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: apps.append(self.config.app))
    for _ in range(2):
        serve(turn_world(), announce=lambda page: urls.append(page.url), host=host, port=0, open_browser=False)

    def asked(query: str) -> int:
        return asyncio.run(asgi.request(apps[0], "GET", "/api/world", query))[0]

    tokens = [url.partition("?")[2] for url in urls]
    if host == "127.0.0.1":
        assert tokens == ["", ""] and asked("") == 200
    else:
        assert tokens[0] != tokens[1] and all(len(token) > len("token=") + 16 for token in tokens)
        assert asked(tokens[0]) == 200
        assert asked("") == asked(tokens[1]) == 403


def test_a_busy_port_gives_the_next_free_one():
    with find_port("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with find_port("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] < port + 50


def test_a_foreign_address_is_one_clear_line():
    with pytest.raises(UserError, match=r"cannot listen on 203\.0\.113\.1"):
        find_port("203.0.113.1", 8000)
