"""A world side by side with its environment: same start, same actions, comparison."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.serve.client import Client, get
from tests.serve.game import ID, MODULE, learned_world
from tests.serve.squares import SIZE, TILE, SquareWorld, film_world, picture, running, turn_world
from tests.tiny import tiny_world

from reelworld.envs.recorder import record_config
from reelworld.envs.simulator import Simulator
from reelworld.serve.reference_env import SideBySide, find_reference_env, psnr
from reelworld.worlds.provenance import game_of

BESIDE = "/api/play?reference_env=1"


class Beside(Client):
    """A client that looks at both pictures."""

    def frames(self) -> tuple[dict, tuple[int, int], tuple[int, int]]:
        """Return what is told of the next frame, and the cells in the world and in the game."""
        news = self.told("comparison")
        data = self.socket.recv(timeout=10)
        self.send(type="ack", sequence=int.from_bytes(data[4:8], "little"))
        pixels = np.asarray(Image.open(io.BytesIO(data[28:])))
        assert pixels.shape == (SIZE, 2 * SIZE, 3)
        halves = pixels[:, :SIZE], pixels[:, SIZE:]
        world, game = (np.argwhere((half == (255, 0, 0)).all(-1))[0][::-1] // TILE for half in halves)
        return news | {"flags": data[2]}, tuple(world.tolist()), tuple(game.tolist())


def together(world: SquareWorld) -> Any:
    return running(world, allow_code=(MODULE,))


def test_both_begin_with_what_the_game_showed():
    world = learned_world(least_context=3)
    with together(world) as address, Beside(address, BESIDE) as client:
        assert client.hello["views"] == ["world", "env"] and client.hello["width"] == SIZE
        client.frames()
        client.send(type="reset", id=1, seed=5)
        news, imagined, seen = client.frames()
    assert imagined == seen and news["psnr"] is None and news["step"] == 0
    frames, actions = world.contexts[-1]
    # What the simulator shows when the same actions are replayed in it.
    simulator = Simulator(game_of(world.info.provenance, (MODULE,)).simulator)
    replayed = [simulator.reset(5)]
    for action in actions["action"]:
        simulator.step(int(action))
        replayed.append(simulator.frame())
    assert len(replayed) == world.spec.context[1] and np.array_equal(frames, np.stack(replayed))


def test_the_same_keys_move_both_and_how_far_apart_they_are_is_told():
    world = learned_world()
    world.move = lambda action: np.array([0, 0])  # a world that does nothing
    with together(world) as address, Beside(address, BESIDE) as client:
        client.frames()
        client.send(type="reset", id=1, seed=0)
        _, start, _ = client.frames()
        client.send(type="act", id=2, actions={"action": 1})
        news, imagined, seen = client.frames()
    assert imagined == start and seen == (start[0], start[1] + 1)
    # Two tiles of a frame differ, red (255, 0, 0) against grey (90, 90, 90).
    error = 2 * TILE**2 * (165**2 + 90**2 + 90**2) / (SIZE**2 * 3)
    assert news["psnr"] == pytest.approx(10 * math.log10(255**2 / error), abs=0.01)
    assert (news["step"], news["world_ended"]) == (1, False)


def test_the_end_of_the_game_ends_both_and_both_begin_anew():
    world = learned_world(simulator={"env_kwargs": {"length": 4}})  # two of them are the world's context
    with together(world) as address, Beside(address, BESIDE) as client:
        client.frames()
        flags = []
        for id in range(1, 3):
            client.send(type="act", id=id, actions={"action": 0})
            flags.append(client.frames()[0]["flags"])
        assert flags == [0, 1]
        client.send(type="act", id=3, actions={"action": 0})  # nothing moves after the end
        client.send(type="reset", id=4, seed=2)
        news, imagined, seen = client.frames()
    assert (news["step"], news["flags"]) == (0, 0) and imagined == seen
    assert len(world.taken) == 2 and len(world.contexts) == 2


def test_a_world_that_skips_frames_takes_as_many_steps_of_the_game():
    world = learned_world(stride=3)
    with together(world) as address, Beside(address, BESIDE) as client:
        client.frames()
        client.send(type="reset", id=1, seed=0)
        _, _, before = client.frames()
        client.send(type="act", id=2, actions={"action": 1})
        _, imagined, seen = client.frames()
    assert seen[1] == min(7, before[1] + 3) and imagined[1] == before[1] + 1


def test_rewards_are_the_games():
    world = learned_world(stride=2)
    with together(world) as address, Client(address, BESIDE) as client:
        client.frame()
        client.send(type="act", id=1, actions={"action": 0})
        assert client.frame()["reward"] == 0.5  # two steps of 0.25; the world itself says 0.5 for every one
        client.send(type="act", id=2, actions={"action": 0})
        assert client.frame()["total"] == 1.0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "rewind", "id": 1, "steps": 1}, "cannot be rewound"),
        ({"type": "action_previews"}, "has no action previews"),
        ({"type": "record", "on": True}, "nothing is recorded here"),
        ({"type": "reset", "id": 1, "initial_context": 0}, "initial_context must be less than 0"),
    ],
)
def test_what_the_game_cannot_do_is_refused(message, reason, tmp_path):
    with (
        running(learned_world(), allow_code=(MODULE,), record=tmp_path) as address,
        Client(address, BESIDE) as client,
    ):
        assert [
            client.hello[k] for k in ("rewind", "action_previews", "image_upload", "record", "initial_contexts")
        ] == [False] * 4 + [0]
        client.send(**message)
        code, told = client.closing()
    assert code == 1008 and reason in told


def test_a_world_says_whether_its_game_can_be_played():
    def told(world: SquareWorld, **kwargs: Any) -> Any:
        with running(world, **kwargs) as address, get(address, "/api/world") as answer:
            return json.load(answer)["reference_env"]

    assert told(turn_world()) is None and told(film_world()) is None
    assert told(learned_world(), allow_code=(MODULE,)) == {"name": ID, "problem": ""}
    assert "--allow-code tests.serve.game" in told(learned_world())["problem"]


@pytest.mark.parametrize(
    ("simulator", "problem"),
    [
        ({"env_id": "NoSuchGame-v3"}, "unknown environment 'NoSuchGame-v3'"),
        ({"env_kwargs": {"height": 8}}, "8x32"),
        ({"env_id": "CartPole-v1"}, "CartPole-v1 takes 2 discrete actions, this world 3 discrete actions"),
        ({"env_id": 7}, "simulator.env_id"),
        ({"wrappers": [{"path": "os:system"}]}, "runs code of the module 'os'"),
        ({"env_id": "os:Anything-v0"}, "runs code of the module 'os'"),
    ],
)
def test_a_game_that_cannot_be_played_is_one_line(simulator, problem):
    world = learned_world(simulator=simulator)
    env = find_reference_env(world, (MODULE,))
    assert env.side_by_side is None and problem in env.problem and "\n" not in env.problem
    with together(world) as address, pytest.raises(Exception), Client(address, BESIDE) as client:  # noqa: B017
        client.frame()


def test_a_world_without_a_game_cannot_be_played_beside_one(turns):
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with connect(f"ws://{turns}{BESIDE}") as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    assert closed.value.rcvd.code == 4003 and "not trained on a known environment" in closed.value.rcvd.reason


def test_a_picture_cannot_be_brought_to_the_game():
    import urllib.error
    import urllib.request

    with together(learned_world()) as address, Client(address, BESIDE) as client:
        query = f"player={client.hello['player']}&id=1"
        request = urllib.request.Request(f"http://{address}/api/image?{query}", data=b"x", method="POST")
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request, timeout=10)
        with error.value:
            assert error.value.code == 409


def test_psnr_of_what_is_equal_is_none():
    assert psnr(picture(1, 1), picture(1, 1)) is None
    black, white = (np.full((4, 4, 3), value, np.uint8) for value in (0, 255))
    assert psnr(black, white) == 0.0


@pytest.mark.parametrize("env_id", ["MiniGrid-DoorKey-8x8-v0", "CarRacing-v3"])
def test_published_games_begin_as_their_worlds_do(env_id):
    """With an untrained world of the real size: what it is given is what the game shows, replayed."""
    pytest.importorskip("minigrid" if env_id.startswith("Mini") else "Box2D")
    from reelworld.envs.recorder import describe_simulator

    config = record_config(env_id).simulator
    info = describe_simulator(Simulator(config), 0)
    world = tiny_world("pocket", info, seed=0)
    env = find_reference_env(world)
    assert env is not None and env.problem == ""
    session = SideBySide(world, game_of(world.info.provenance)).session()
    result = session.reset(seed=3)
    left, right = np.split(result.frame[0], 2, axis=1)
    assert np.array_equal(left, right) and result.info["message"]["psnr"] is None
    action = {"action": np.array([2])}
    replay = Simulator(config)
    replay.reset(3)
    if env_id.startswith("CarRacing"):  # rests for the context; MiniGrid has no rest, its context is drawn
        for rest in [4] * (world.spec.context[1] - 1):
            replay.step(rest)
        for _ in range(3):
            seen = session.step(action).frame[0][:, 64:]
            replay.step(2)
            assert np.array_equal(seen, replay.frame())
