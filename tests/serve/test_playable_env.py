"""A real environment alone: features, refusals, and complete recordings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.serve.client import Client
from tests.serve.game import ID
from tests.serve.squares import SIZE, TILE, running, time_world

from reelworld.data.dataset import Dataset
from reelworld.envs.presets import SimulatorConfig
from reelworld.serve.config import Limits
from reelworld.serve.reference_env import PlayableEnv, SideBySideSession
from reelworld.types import StepResult
from reelworld.worlds.provenance import Game, game_of


def game(**config: Any) -> PlayableEnv:
    return PlayableEnv(SimulatorConfig(env_id=ID, **config))


def test_a_full_tape_goes_on_as_another_episode(tmp_path):
    limits = Limits(episode_bytes=3 * SIZE * SIZE * 3)
    with running(game(), limits, record=tmp_path) as address, Client(address) as client:
        assert client.told("recording")["on"] is True
        client.frame()
        client.send(type="reset", id=1, seed=0)
        client.frame()
        for id in range(2, 7):
            client.send(type="act", id=id, actions={"action": (id + 1) % 2})
            assert client.frame()["input"] == id
        client.send(type="record", on=False)
        assert client.told("recording")["on"] is False
        client.told("recorded")
    data = Dataset.open(tmp_path)
    found = []
    for i, e in enumerate(data.episodes):
        arrays = data.arrays(i, 0, e.n_frames)
        cells = [tuple(np.argwhere((f == (255, 0, 0)).all(-1))[0][::-1] // TILE) for f in arrays["frames"]]
        found.append((cells, arrays["actions/action"][:-1].tolist()))
    # Down and right in turn; each episode begins where the one before it was cut.
    assert sorted(found) == [
        ([(0, 3), (0, 4), (1, 4)], [1, 0]),
        ([(1, 4), (1, 5), (2, 5)], [1, 0]),
        ([(2, 5), (2, 6)], [1]),
    ]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "rewind", "id": 1, "steps": 1}, "cannot be rewound"),
        ({"type": "action_previews"}, "has no action previews"),
        ({"type": "sample", "temperature": 1.0, "steps": 1}, "has no sampling settings"),
        ({"type": "act", "id": 1, "actions": {"action": 3}}, "from 0 to 2"),
    ],
)
def test_what_the_game_has_not_is_refused(message, reason):
    with running(game()) as address, Client(address) as client:
        assert client.hello["record"] is False and client.hello["sampler"] is None
        client.send(**message)
        code, told = client.closing()
    assert code == 1008 and reason in told


def test_actions_are_held_as_the_simulator_says():
    with running(game(action_repeat=3)) as address, Client(address) as client:
        assert client.hello["action_repeat"] == 3 and client.hello["fps"] == pytest.approx(10 / 3)
        client.frame()
        client.send(type="reset", id=1, seed=1)
        assert client.frame()["cell"] == (1, 3)
        client.send(type="act", id=2, actions={"action": 0})
        frame = client.frame()
        assert (frame["cell"], frame["reward"]) == ((4, 3), 0.75)


def test_summed_actions_are_shared_among_the_steps_they_were_summed_over():
    """A world of summed actions is told the sum; the game takes its share in every step."""
    world, taken = time_world(), []

    class Pushed:
        def reset(self, **_: Any) -> StepResult:
            return self.step({})

        def step(self, action: Any) -> StepResult:
            taken.append({name: rows.tolist() for name, rows in action.items()})
            no = np.zeros(1, bool)
            frame = np.zeros((1, SIZE, SIZE, 3), np.uint8)
            return StepResult(frame=frame, reward=np.ones(1, np.float32), terminated=no, truncated=no)

    session = SideBySideSession(
        world, world.session(), Pushed(), Game(simulator=SimulatorConfig(env_id=ID), stride=4, merge="sum")
    )
    session.reset(seed=0)
    taken.clear()
    result = session.step({"action": np.array([[1.0, -0.5]], np.float32)})
    assert taken == [{"action": [[0.25, -0.125]]}] * 4 and result.reward.tolist() == [4.0]


def test_what_a_recipe_remembers_of_its_recordings_is_kept():
    provenance = {
        "data": {"simulator": {"env_id": "CartPole-v1"}},
        "config": {"frame_stride": 2, "merge": "last", "fit": "crop"},
    }
    found = game_of(provenance)
    assert (found.stride, found.merge, found.fit, found.simulator.env_id) == (2, "last", "crop", "CartPole-v1")
    assert game_of({}) is None and game_of({"data": {"files": 3}}) is None
