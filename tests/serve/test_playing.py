"""Rewinding, single steps, sampling settings and action previews."""

from __future__ import annotations

import base64
import io
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.serve.client import Client
from tests.serve.squares import SIZE, TILE, film_world, running, time_world, turn_world

from reelworld.serve.action_previews import MAX_PREVIEWS, _windows
from reelworld.serve.config import Limits
from reelworld.serve.rewind_buffer import EpisodeState, RewindBuffer, count_bytes
from reelworld.types import ActionSpec


def walk(client: Client, n: int) -> None:
    """Go right n times in a turn-based world; ids count from 1."""
    for id in range(1, n + 1):
        client.send(type="act", id=id, actions={"action": 0})
        assert client.frame()["step"] == id


def test_going_back_brings_frame_step_and_reward_back(turns):
    with Client(turns) as client:
        client.frame()
        walk(client, 4)
        client.send(type="rewind", id=5, steps=3)
        frame = client.frame()
        assert (frame["step"], frame["input"], frame["cell"], frame["total"]) == (1, 5, (1, 0), 0.5)
        client.send(type="act", id=6, actions={"action": 1})  # another way on from there
        frame = client.frame()
        assert (frame["step"], frame["cell"], frame["total"]) == (2, (1, 1), 1.0)
        client.send(type="rewind", id=7, steps=100)
        frame = client.frame()
        assert (frame["step"], frame["cell"]) == (0, (0, 0))


def test_an_ended_episode_can_be_taken_back(turns):
    with Client(turns) as client:
        client.frame()
        client.send(type="reset", id=1, seed=7)
        client.frame()
        for id in range(2, 9):
            client.send(type="act", id=id, actions={"action": 1})
            frame = client.frame()
        assert frame["flags"] == 1
        client.send(type="rewind", id=9, steps=1)
        assert (frame := client.frame())["flags"] == 0 and frame["cell"] == (7, 6)
        client.send(type="act", id=10, actions={"action": 2})
        assert client.frame()["cell"] == (6, 6)


def test_going_back_stops_a_real_time_world():
    world = time_world(fps=50)
    with running(world) as address, Client(address) as client:
        client.send(type="pause", paused=False)
        while client.frame()["step"] < 10:
            pass
        client.send(type="rewind", id=1, steps=2)
        client.send(type="rewind", id=2, steps=2)  # asked for before the first is done, or after: four in all
        while client.frame()["input"] != 2:
            pass
        n_taken = len(world.taken)
        client.send(type="step", id=3)
        while (frame := client.frame())["input"] != 3:
            pass
        assert frame["step"] == n_taken - 4 + 1
        time.sleep(0.1)
        assert len(world.taken) == n_taken + 1


def test_single_steps_of_a_paused_world_take_the_held_action():
    world = time_world(fps=50)
    with running(world) as address, Client(address) as client:
        client.frame()
        client.send(type="act", id=1, actions={"action": [0.0, 1.0]})
        for id in (2, 3):
            client.send(type="step", id=id)
            frame = client.frame()
            assert (frame["step"], frame["input"], frame["cell"]) == (id - 1, id, (0, id - 1))
        client.send(type="pause", paused=False)
        client.send(type="step", id=4)  # means nothing while it runs
        assert client.frame()["input"] == 1


def test_temperature_and_passes_hold_for_the_next_step():
    world = turn_world()
    with running(world) as address, Client(address) as client:
        assert client.hello["sampler"] == {"temperature": 1.0, "steps": 1}
        client.frame()
        client.send(type="sample", temperature=0.25, steps=3)
        walk(client, 1)
        client.send(type="sample", temperature=0, steps=1)
        walk_on = {"type": "act", "id": 2, "actions": {"action": 0}}
        client.send(**walk_on)
        client.frame()
    assert world.temperatures == [0.25, 0.0]


def test_pictures_show_what_each_action_does_and_change_nothing():
    world = turn_world()
    with running(world) as address, Client(address) as client:
        client.frame()
        walk(client, 3)
        client.send(type="action_previews")
        client.send(type="action_previews")
        told = client.told("action_previews")
        assert told["step"] == 3 and world.forks == [3] and len(world.taken) == 3
        ends = []
        for i, effect in enumerate(told["previews"]):
            assert (effect["stream"], effect["value"], effect["frames"]) == ("action", i, 5)
            strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(effect["image"]))))
            first, last = (np.argwhere((p == (255, 0, 0)).all(-1)).min(0) for p in np.split(strip, 5, 1)[::4])
            ends.append(tuple(((last - first)[::-1] // TILE).tolist()))
        assert ends == [(4, 0), (0, 4), (-3, 0)]  # from column 3
        client.send(type="act", id=9, actions={"action": 0})
        assert client.frame()["cell"] == (4, 0)


def test_pictures_look_at_the_part_that_moves(turns):
    with Client(turns) as client:
        client.frame()
        client.send(type="reset", id=1, seed=2)
        client.frame()
        client.send(type="action_previews")
        sizes = set()
        for effect in client.told("action_previews")["previews"]:
            strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(effect["image"]))))
            sizes.add(strip.shape)
            assert (strip == (255, 0, 0)).all(-1).sum() == 5 * TILE * TILE  # the square is in every picture
        side = round(1.2 * 5 * TILE)  # two actions move four tiles, one two: five tiles are seen, and a margin
        assert sizes == {(side, 5 * side, 3)}


def test_pictures_are_drawn_at_most_once_a_second():
    world = turn_world()
    with running(world) as address, Client(address) as client:
        client.frame()
        for _ in range(20):
            client.send(type="action_previews")
            time.sleep(0.01)
        walk(client, 1)
    assert len(world.forks) == 1


def test_pictures_of_many_actions_are_a_few():
    world = turn_world()
    world.spec = replace(world.spec, actions={"action": ActionSpec(kind="discrete", n=40)})
    with running(world) as address, Client(address) as client:
        client.send(type="action_previews")
        assert len(client.told("action_previews")["previews"]) == MAX_PREVIEWS
    assert world.forks == [MAX_PREVIEWS]


def test_a_world_without_actions_has_no_pictures_of_them():
    with running(film_world()) as address, Client(address) as client:
        client.send(type="action_previews")
        assert client.told("action_previews")["previews"] == []


def test_a_world_without_actions_goes_back_too():
    with running(film_world()) as address, Client(address) as client:
        client.send(type="pause", paused=False)
        while client.frame()["step"] < 5:
            pass
        client.send(type="rewind", id=1, steps=100)
        while (frame := client.frame())["input"] != 1:
            pass
        assert frame["step"] == 0


def test_frames_say_how_many_moves_wait():
    with running(turn_world(step_seconds=0.2)) as address, Client(address) as client:
        client.frame()
        for id in range(1, 4):
            client.send(type="act", id=id, actions={"action": 0})
        assert [client.frame()["reserved"] for _ in range(3)] == [2, 1, 0]


def test_small_movements_are_shown_large_each_where_it_is():
    """Four actions: one that does nothing, two small ones far from each other, one that changes the whole picture."""
    strips = np.zeros((4, 3, 60, 90, 3), np.uint8)
    strips[0, 2, 0, 80] = 10  # a decoder's noise
    strips[1, 1:, 50:58, 4:10] = 255
    strips[2, 2, 20:24, 60:64] = 255
    strips[3, 1:] = 255
    still, corner, far, all_over = _windows(strips)
    assert corner == (slice(39, 59), slice(2, 32))  # in the middle of those that hold it: from 38 to 40, 0 to 4
    assert far == (slice(12, 32), slice(47, 77))  # its middle, row 22, column 62, is the window's
    assert [s.stop - s.start for s in (*still, *all_over)] == [20, 30, 20, 30]
    assert still[0].start <= 50 and still[0].stop >= 58  # where the others do most
    assert _windows(strips[:1]) == [(slice(0, 60), slice(0, 90))]
    assert _windows(strips[3:]) == [(slice(0, 60), slice(0, 90))]


def state_at(step: int, size: int = 1000) -> EpisodeState:
    return EpisodeState(snapshot=torch.zeros(size, dtype=torch.uint8), frame=np.zeros((0,)), step=step)


def test_history_holds_no_more_than_its_room():
    history = RewindBuffer(max_bytes=3500)
    for step in range(100):
        history.append(state_at(step))
        assert history.n_bytes <= 3500
    assert len(history) == 3
    assert history.rewind(1).step == 98 and history.n_bytes == 2000
    assert history.rewind(50).step == 97 and len(history) == 1
    history.append(state_at(98, size=9999))  # the present moment has a place whatever its size
    assert len(history) == 1 and history.rewind(1).step == 98


def test_bytes_are_counted_once_wherever_they_are_held():
    tensor, array = torch.zeros(10, dtype=torch.float32), np.zeros(7, np.uint8)
    assert count_bytes([tensor, tensor[:5], {"a": (array, array)}, "text", 3, None]) == 40 + 7


THREE_MOMENTS = 3 * (SIZE * SIZE * 3 + 16)


@pytest.mark.parametrize(
    "limits",
    [Limits(rewind_bytes=THREE_MOMENTS), Limits(sessions=100, total_rewind_bytes=100 * THREE_MOMENTS)],
    ids=["of one", "of all"],
)
def test_memory_for_going_back_is_a_limit_of_the_server(limits):
    with running(turn_world(), limits) as address, Client(address) as client:
        client.frame()
        walk(client, 6)
        client.send(type="rewind", id=9, steps=6)
        assert client.frame()["step"] == 4


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "rewind", "id": 1, "steps": 0}, "from 1 to 10000"),
        ({"type": "sample", "temperature": -1, "steps": 1}, "from 0 to 10"),
        ({"type": "sample", "temperature": 1, "steps": 65}, "from 1 to 64"),
        ({"type": "sample", "temperature": "hot", "steps": 1}, "from 0 to 10"),
        ({"type": "step"}, "id must be"),
        ({"type": "action_previews", "path": "/etc"}, "unknown fields"),
    ],
)
def test_wishes_out_of_range_are_refused(turns, message, reason):
    with Client(turns) as client:
        client.socket.send(json.dumps(message))
        code, said = client.closing()
        assert code == 1008 and reason in said
