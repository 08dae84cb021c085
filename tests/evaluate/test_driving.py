"""Closed-loop driving on pixels: in the game, in a perfect world, and in worlds with known failures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluate import toy
from evaluate.test_road import picture
from reelworld.config import to_json
from reelworld.envs.policies.carracing import BRAKE, COAST, GAS
from reelworld.envs.recorder import record_config, record_episode
from reelworld.evaluate.games import carracing as driving
from reelworld.evaluate.games.carracing import (
    GAME,
    SECTIONS,
    Drives,
    Reactive,
    can_drive,
    drive_simulator,
    driving_metrics,
)
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.samples import EvalData
from reelworld.types import ActionSpec, ModelSpec, StepResult, UserError

SPEC = ActionSpec(kind="discrete", n=9)
CONFIG = record_config("CarRacing-v3", episodes=1, seed=70_000, max_steps=8)
STEPS = 150


# ------------------------------------------------------------------ the driver


def test_the_driver_steers_to_the_grey_ahead():
    driver = Reactive(4)
    frames = np.stack([picture(25, 39), picture(20, 34), picture(36, 50), picture(28, 42)])
    steering, pedal = driver.keys(frames)
    assert steering.tolist() == [0, -1, 1, 1] and pedal.tolist() == [GAS] * 4
    assert driver.keys(frames)[1].tolist() == [COAST, COAST, GAS, COAST], "5 and 11 columns off: straight, and a bend"
    assert [driver.keys(frames)[1][2] for _ in range(2)] == [COAST, BRAKE]


def test_a_driver_who_sees_no_road_turns_on():
    driver, grass = Reactive(2), np.stack([picture(0, 0)] * 2)
    assert driver.keys(grass)[0].tolist() == [0, 0]
    driver.keys(np.stack([picture(50, 60), picture(4, 14)]))
    assert driver.keys(grass)[0].tolist() == [1, -1]


# ------------------------------------------------------------------ figures


def scenes(n_steps, road=slice(25, 39)):
    """A straight road, and grass squares that pass by."""
    frames = np.stack([picture(road.start, road.stop)] * (n_steps + 1))
    for t, frame in enumerate(frames):
        for row in range((3 * t) % 16, 56, 16):
            frame[row : row + 8, 4:16] = (100, 230, 100)
    return frames


def figures(frames, game=None, seed=0):
    return {f.name: f for f in driving_metrics(Drives.of(frames), game and Drives.of(game), seed)}


def test_worlds_that_fail_are_found_out():
    game = np.stack([scenes(100), scenes(100)])
    good = figures(game, None)
    assert "driving_keeps_road" not in good and good["driving_moves"].value == 1 and good["driving_moves"].n == 4
    assert good["driving_connected"].value == 1 and good["driving_road"].value == pytest.approx(14 / 64)
    drives = {name: game.copy() for name in ("frozen", "flickers", "grass", "crumbles")}
    drives["frozen"][:] = game[:, :1]
    drives["flickers"][:, ::2, :56, 40:] = 255
    drives["grass"][:, :, :56, 25:39] = (100, 204, 100)
    drives["crumbles"][:, :, 0:56:4, 25:39] = (100, 204, 100)
    found = {
        name: {
            k.removeprefix("driving_"): f.value
            for k, f in ((f.name, f) for f in driving_metrics(Drives.of(v), Drives.of(game), 0))
            if f.unit == "share"
        }
        for name, v in drives.items()
    }
    assert found["frozen"] == {"road": pytest.approx(14 / 64), "moves": 0, "keeps_road": 1, "connected": 1}
    assert found["flickers"]["moves"] == 0 and found["flickers"]["keeps_road"] == 1
    assert found["grass"] == {"road": 0, "moves": 1, "keeps_road": 0, "connected": 0}
    assert found["crumbles"]["connected"] == 0 and found["crumbles"]["keeps_road"] == 1


def test_blocks_by_hand():
    values = np.arange(240, dtype=float).reshape(2, 120)
    drives = Drives(values, values, values > 0)
    assert drives.blocks(values).tolist() == [[24.5, 74.5], [144.5, 194.5]]
    assert drives.first(50).motion.shape == (2, 50)


# ------------------------------------------------------------------ the game itself


@pytest.fixture(scope="module")
def info():
    pytest.importorskip("Box2D", reason="the package box2d is not installed")
    provenance = {"simulator": to_json(CONFIG.simulator), "policy": {"driver": 1.0}}
    return SimpleNamespace(provenance=provenance, actions={"action": SPEC})


class GameWorld:
    """The simulator in the form of a world: begins on a track of its own whatever it is shown."""

    device = torch.device("cpu")
    spec = ModelSpec(height=64, width=64, actions={"action": SPEC}, context=(1, 2, None))

    def __init__(self, info, change=lambda frame: frame):
        self.game, self.change = info, change

    def session(self, n=1):
        world = self

        class Session:
            sampler = None

            def reset(self, context, actions, seed):
                self.opened = [driving.open_simulator(world.game) for _ in range(n)]
                self.simulators = [o.__enter__() for o in self.opened]
                for i, simulator in enumerate(self.simulators):
                    simulator.reset(seed + 500 + i)

            def step(self, action):
                frames = []
                for simulator, key in zip(self.simulators, action["action"], strict=True):
                    simulator.step(key)
                    frames.append(world.change(simulator.frame()))
                zero = np.zeros(n)
                return StepResult(frame=np.stack(frames), reward=zero, terminated=zero > 0, truncated=zero > 0)

        return Session()


@pytest.fixture(scope="module")
def clips(info):
    with driving.open_simulator(info) as simulator:
        return [record_episode(simulator, CONFIG, i) for i in range(2)]


def test_the_driver_stays_on_the_road(info):
    drives = Drives.of(drive_simulator(info, 2, STEPS, 0))
    assert drives.road.min() > 0.1 and drives.is_connected.mean() > 0.8, "a second road may come into sight"
    again = Drives.of(drive_simulator(info, 1, 20, 0))
    assert np.array_equal(again.road[0], drives.road[0, :20]), "the same seed drives the same way"


def driven(world, info, clips, n_runs, n_steps, seed):
    config = EvalConfig(stability_runs=n_runs, stability_steps=n_steps, seed=seed)
    return toy.measured(SECTIONS[0], toy.evaluation_of(world, clips, config, info))


def test_a_world_that_is_the_game_passes_and_a_fading_one_does_not(info, clips):
    def shares(world):
        metrics, section = driven(world, info, clips, 2, STEPS, 3)
        assert [c.name for c in section.series] == ["driving_motion", "driving_road", "driving_is_connected"]
        return metrics

    good = shares(GameWorld(info))
    assert good["driving_keeps_road"].value >= 0.8 and good["driving_connected"].value > 0.9
    assert set(good["driving_moves"].baselines) == {GAME}

    def faded(frame):
        frame = frame.copy()
        frame[:30] = (100, 204, 100)  # far road is never drawn
        return frame

    bad = shares(GameWorld(info, faded))
    assert bad["driving_keeps_road"].value <= 0.2 < bad["driving_keeps_road"].baselines[GAME]


def test_without_the_simulator_the_rows_say_what_is_missing(info, clips, monkeypatch):
    world = GameWorld(info)
    monkeypatch.setattr(
        driving, "drive_simulator", lambda *_: (_ for _ in ()).throw(UserError("pip install 'reelworld[envs]'"))
    )
    found, _ = driven(world, info, clips, 1, 50, 0)
    assert found["driving_game_missing"].n == 0 and "reelworld[envs]" in found["driving_game_missing"].description
    assert found["driving_connected"].baselines == {} and "driving_keeps_road" not in found


def test_recordings_without_a_road_are_said(info):
    grass = SimpleNamespace(frames=np.stack([picture(0, 0)] * 5), actions={"action": np.zeros(5, int)})
    (figure,) = driven(GameWorld(info), info, [grass], 2, 50, 0)[0].values()
    assert figure.n == 0 and "no recorded frame shows the road" in figure.description


def test_which_worlds_can_be_driven(info):
    spec, other = GameWorld.spec, SimpleNamespace(provenance={"simulator": {"env_id": "MiniGrid-Empty-8x8-v0"}})
    assert can_drive(spec, EvalData(info))
    assert not can_drive(spec, EvalData(other))
    assert not can_drive(replace(spec, height=32), EvalData(info))
    assert not SECTIONS[0].applies(spec, EvalData(info), EvalConfig(stability_steps=0))
