"""Scripted policies reach the events that random play does not; mixtures are read strictly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from minigrid.core.world_object import Wall

from reelworld.envs.policies import POLICIES, minigrid, parse_mixture, resolve_policy
from reelworld.envs.recorder import record_config
from reelworld.envs.simulator import Simulator
from reelworld.types import UserError


def door_events(policy: str, n_episodes: int) -> dict[str, float]:
    """Events per 1,000 steps of DoorKey; 'late' ones come after carrying the key for 25 and more steps."""
    simulator, counts = Simulator(record_config("MiniGrid-DoorKey-8x8-v0").simulator), Counter()
    for seed in range(n_episodes):
        simulator.reset(seed)
        env, held = simulator.env.unwrapped, 0
        door = next(cell for cell in env.grid.grid if cell and cell.type == "door")
        actions = resolve_policy(policy)(simulator, np.random.default_rng(seed))
        for action, _ in zip(actions, range(120), strict=False):
            carried, opened = env.carrying is not None, door.is_open
            _, terminated, _ = simulator.step(action)
            is_drop = carried and env.carrying is None
            is_toggle = opened != door.is_open
            counts.update(steps=1, goal=terminated, drop=is_drop, toggle=is_toggle)
            counts.update(pick_up=not carried and env.carrying is not None, late=held >= 25 and (is_drop or is_toggle))
            held = held + 1 if carried else 0
            if terminated:
                break
    return {name: 1000 * n / counts["steps"] for name, n in counts.items()}


def test_the_explorer_uses_keys_and_doors():
    explorer, chance = door_events("explorer", 40), door_events("random", 40)
    assert explorer["pick_up"] > 20 and explorer["drop"] > 14 and explorer["toggle"] > 30
    assert explorer["late"] > 5 and explorer["goal"] < 15
    assert chance["toggle"] < 3 and chance["pick_up"] < 12 and chance["late"] < explorer["late"] / 4


def test_the_solver_reaches_the_goal():
    assert door_events("solver", 20)["goal"] > 20


def walk(simulator: Simulator, seed: int) -> tuple[list[tuple[int, int]], bool]:
    """Follow the waypoints; return where the agent stood before each step, and whether it reached the goal."""
    simulator.reset(seed)
    env, cells, terminated = simulator.env.unwrapped, [], False
    for action in resolve_policy("waypoints")(simulator, np.random.default_rng(seed)):
        cells.append(tuple(map(int, env.agent_pos)))
        _, terminated, _ = simulator.step(action)
        if terminated or len(cells) == 120:
            break
    return cells, terminated


@pytest.mark.parametrize("env_id", ["MiniGrid-DoorKey-8x8-v0", "MiniGrid-DoorKey-5x5-v0", "MiniGrid-Empty-5x5-v0"])
def test_waypoints_make_episodes_of_forty_frames_that_reach_the_goal(env_id):
    simulator = Simulator(record_config(env_id).simulator)
    for seed in range(60):
        cells, reached_goal = walk(simulator, seed)
        assert reached_goal and 40 <= len(cells) + 1 <= 75


@pytest.mark.parametrize("env_id", ["MiniGrid-DoorKey-8x8-v0", "MiniGrid-FourRooms-v0"])
def test_waypoints_are_draw_waypoints_that_the_seed_draws(monkeypatch, env_id):
    drawn, n_on_own = [], 0
    draw = minigrid.Agent.draw_waypoints
    monkeypatch.setattr(minigrid.Agent, "draw_waypoints", lambda agent: drawn.append(draw(agent)) or drawn[-1])
    simulator = Simulator(record_config(env_id).simulator)
    for seed in range(40):
        cells, _ = walk(simulator, seed)
        (first, second), start = drawn[-1], cells[0]
        if second == start:  # a narrow room may have a single other cell, or none
            n_on_own += 1
            continue
        assert len({first, second, start}) == 3
        assert cells.index(first) < len(cells) - 1 - cells[::-1].index(second)  # the second is visited after the first
    assert n_on_own < 8
    walk(simulator, 0)
    assert drawn[-1] == drawn[0] and len({tuple(d) for d in drawn}) > 30


def test_doors_and_keys_are_used_once_by_waypoints():
    events = door_events("waypoints", 20)
    assert events["goal"] > 1000 / 75 and events["toggle"] == pytest.approx(events["goal"])


def test_an_agent_that_cannot_walk_turns_on_the_spot():
    simulator = Simulator(record_config("MiniGrid-DoorKey-8x8-v0").simulator)
    simulator.reset(0)
    env = simulator.env.unwrapped
    for x, y in minigrid.neighbours(tuple(map(int, env.agent_pos))):
        env.grid.set(x, y, Wall())
    actions = resolve_policy("waypoints")(simulator, np.random.default_rng(0))
    place = tuple(env.agent_pos)
    for action, _ in zip(actions, range(60), strict=False):
        simulator.step(action)
    assert tuple(env.agent_pos) == place


@pytest.mark.parametrize("env_id", ["MiniGrid-Empty-8x8-v0", "MiniGrid-FourRooms-v0", "MiniGrid-KeyCorridorS3R1-v0"])
@pytest.mark.parametrize("policy", ["explorer", "solver", "waypoints"])
def test_grid_policies_play_other_worlds_too(env_id, policy):
    simulator = Simulator(record_config(env_id).simulator)
    simulator.reset(0)
    frames = set()
    for action, _ in zip(resolve_policy(policy)(simulator, np.random.default_rng(0)), range(80), strict=False):
        _, terminated, truncated = simulator.step(action)
        frames.add(simulator.frame().tobytes())
        if terminated or truncated:
            break
    assert len(frames) > 10


@pytest.mark.parametrize("continuous", [True, False])
def test_the_driver_drives(continuous):
    """Moves, stays mostly on the road, brakes, leaves the road; the stock actions are driven as well."""
    settings = {} if continuous else {"env_kwargs": {"continuous": False}, "wrappers": ()}
    simulator = Simulator(record_config("CarRacing-v3", **settings).simulator)
    names, pressed, on_grass, speeds = simulator.action_spec.names, Counter(), [], []
    for seed in range(3):
        simulator.reset(seed)
        actions = resolve_policy("driver")(simulator, np.random.default_rng(seed))
        for action, _ in zip(actions, range(150), strict=False):
            simulator.step(action)
            car = simulator.env.unwrapped.car
            pressed.update(names[action].split("+"))
            on_grass.append(all(not wheel.tiles for wheel in car.wheels))
            speeds.append(np.hypot(*car.hull.linearVelocity))
    n_steps = len(speeds)
    assert np.median(speeds) > 10 and 0 < np.mean(on_grass) < 0.3
    assert pressed["brake"] > (0.05 if continuous else 0.03) * n_steps and pressed["gas"] > 0.2 * n_steps
    assert min(pressed["left"], pressed["right"]) > 0.1 * n_steps


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "CarRacing-v3"])
def test_random_actions_belong_to_the_space_and_follow_the_seed(env_id):
    simulator = Simulator(record_config(env_id).simulator)
    simulator.reset(0)
    twice = [
        [action for action, _ in zip(resolve_policy("random")(simulator, rng), range(200), strict=False)]
        for rng in (np.random.default_rng(1), np.random.default_rng(1))
    ]
    np.testing.assert_array_equal(*twice)
    spec = simulator.action_spec
    if spec.kind == "discrete":
        assert set(twice[0]) == set(range(spec.n))
    else:
        assert np.min(twice[0]) >= spec.low[0] and np.max(twice[0]) <= spec.high[0] and np.ptp(twice[0]) > 1


def test_mixtures_are_read_and_normalised():
    assert parse_mixture("explorer:3,random:1") == {"explorer": 0.75, "random": 0.25}
    assert parse_mixture("driver") == {"driver": 1.0}
    assert parse_mixture("my.module:play:1,random:1") == {"my.module:play": 0.5, "random": 0.5}
    assert parse_mixture("my.module:play") == {"my.module:play": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("explore:0.5,random:0.5", "unknown policy 'explore'; did you mean 'explorer'"),
        ("random:0", "share above 0"),
        ("random:1,random:1", "once each"),
        ("random:nan", "share above 0"),
        ("", "NAME:SHARE"),
    ],
)
def test_broken_mixtures_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_mixture(text)


def test_every_named_policy_exists_and_own_ones_are_checked():
    for name in POLICIES:
        assert callable(resolve_policy(name))
    with pytest.raises(UserError, match="cannot import"):
        resolve_policy("no_such_module:play")
    with pytest.raises(UserError, match="did you mean 'uniform'"):
        resolve_policy("reelworld.envs.policies.random:unifrm")


def test_glances_turn_away_wait_and_turn_back():
    simulator = Simulator(record_config("MiniGrid-Fetch-8x8-N3-v0").simulator)
    simulator.reset(0)
    env, waited, glances = simulator.env.unwrapped, 0, Counter()
    before = int(env.agent_dir)
    actions = resolve_policy("glancer")(simulator, np.random.default_rng(0))
    for action, _ in zip(actions, range(2000), strict=False):
        heading = int(env.agent_dir)
        simulator.step(action)
        if action == minigrid.DONE:
            waited += 1
        elif waited:  # what ends a wait is the turn back
            assert int(env.agent_dir) == before
            glances[waited], waited = glances[waited] + 1, 0
        if action != minigrid.DONE:
            before = heading
    assert glances.total() > 80 and min(glances) == 1 and max(glances) == 19
    assert env.carrying is None
