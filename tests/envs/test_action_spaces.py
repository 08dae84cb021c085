"""Action spaces: every kind is recorded as named streams, learned, and played again."""

from __future__ import annotations

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset
from reelworld.envs.action_spaces import member, stream_specs
from reelworld.envs.presets import SimulatorConfig
from reelworld.envs.recorder import record, record_config
from reelworld.envs.simulator import Simulator
from reelworld.rollout.actions import null_action, random_actions
from reelworld.serve.controls import Controls
from reelworld.serve.protocol import ProtocolError
from reelworld.serve.reference_env import PlayableEnv
from reelworld.types import UserError
from reelworld.worlds.world import World

SPACES = {
    "Keys": spaces.MultiBinary(4),
    "KeyGrid": spaces.MultiBinary((2, 2)),
    "Two": spaces.MultiDiscrete([3, 2], start=[0, 1]),
    "Mixed": spaces.Tuple((spaces.Discrete(3, start=1), spaces.Box(-1, 1, (2,)))),
    "Named": spaces.Dict(camera=spaces.Box(-180, 180, (2,)), keys=spaces.MultiBinary(3)),
    "Nested": spaces.Dict(hand=spaces.Dict(grip=spaces.Discrete(2), move=spaces.Box(-1, 1, (2, 2)))),
    "Whole": spaces.Box(0, 5, (1,), np.int64),
    "Single": spaces.Box(-1, 1, ()),
}
SPECS = {
    "Keys": {"action": ("buttons", 4)},
    "KeyGrid": {"action": ("buttons", 4)},
    "Two": {"action_0": ("discrete", 3), "action_1": ("discrete", 2)},
    "Mixed": {"action_0": ("discrete", 3), "action_1": ("continuous", 2)},
    "Named": {"camera": ("continuous", 2), "keys": ("buttons", 3)},
    "Nested": {"hand_grip": ("discrete", 2), "hand_move": ("continuous", 4)},
    "Whole": {"action": ("continuous", 1)},
    "Single": {"action": ("continuous", 1)},
}


class Echo(gym.Env):
    """Shows the action that came: one bright column per number of it."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = spaces.Box(0, 1, (1,))

    def __init__(self, space: str, render_mode: str | None = None) -> None:
        self.action_space, self.render_mode, self.seen = SPACES[space], render_mode, np.zeros(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.seen = 0, np.zeros(0)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.seen = spaces.flatten(self.action_space, action).astype(np.float64)
        self.t += 1
        return np.zeros(1, np.float32), 0.0, False, self.t == 12, {}

    def render(self):
        picture = np.zeros((16, 32, 3), np.uint8)
        picture[:, : len(self.seen)] = np.clip(128 + 60 * self.seen, 0, 255).astype(np.uint8)[:, None]
        return picture


for key in SPACES:
    gym.register(f"{key}Echo-v0", Echo, kwargs={"space": key})


@pytest.mark.parametrize("name", SPACES)
def test_streams_make_members_of_the_space(name: str) -> None:
    space, rng = SPACES[name], np.random.default_rng(0)
    specs = stream_specs(space, name)
    assert {k: (s.kind, s.n) for k, s in specs.items()} == SPECS[name]
    for _ in range(20):
        actions = {k: random_actions(s, 1, rng)[0] for k, s in specs.items()}
        built = member(space, actions, name)
        assert space.contains(built)
        flat = spaces.flatten(space, built)
        if name == "Named":  # in the order of the names, as gymnasium sorts them
            assert np.allclose(flat, np.concatenate([actions["camera"], actions["keys"]]))
    assert space.contains(member(space, {k: null_action(s) for k, s in specs.items()}, name))


@pytest.mark.parametrize("name", ["Keys", "Named", "Mixed"])
def test_recorded_learned_and_played(name: str, tmp_path) -> None:
    """The recorded rows rebuild the very frames; a world learns them and is stepped with the same streams."""
    data, out = tmp_path / "data", tmp_path / "run"
    config = record_config(f"{name}Echo-v0", episodes=5)
    record(config, data)
    dataset = Dataset.open(data)
    assert {k: (s.kind, s.n) for k, s in dataset.info.actions.items()} == SPECS[name]
    clip = dataset.read(0)
    simulator = Simulator(SimulatorConfig(env_id=f"{name}Echo-v0"))
    frames = [simulator.reset(config.seed)]
    for t in range(len(clip.frames) - 1):
        simulator.step({stream: rows[t] for stream, rows in clip.actions.items()})
        frames.append(simulator.frame())
    assert np.array_equal(np.stack(frames), clip.frames)
    if "keys" in clip.actions:
        assert set(np.unique(clip.actions["keys"])) == {0.0, 1.0}

    words = ["--data", str(data), "--out", str(out), "--tokenizer.steps", "2", "--dynamics.steps", "2"]
    assert main(["train", "pocket:tiny", *words]) == 0
    world, rng = World.load(out / "world"), np.random.default_rng(0)
    assert world.spec.actions == dataset.info.actions
    session = world.session(2, seed=0)
    session.reset()
    actions = {k: np.stack([random_actions(s, 2, rng) for _ in range(2)]) for k, s in world.spec.actions.items()}
    assert session.step({k: v[:, 0] for k, v in actions.items()}).frame.shape == (2, 16, 32, 3)
    game = PlayableEnv(SimulatorConfig(env_id=f"{name}Echo-v0")).session()
    game.reset(seed=0)
    assert game.step(Controls(world.spec.actions).null()).frame.shape == (1, 16, 32, 3)


def test_buttons_of_a_client_and_of_a_program() -> None:
    (spec,) = stream_specs(SPACES["Keys"], "Keys").values()
    controls = Controls({"action": spec})
    assert len(controls.specs["action"].keys) == 4 and not controls.is_turn_based
    assert controls.parse({"action": [1, 0, 0, 1]})["action"].tolist() == [[1, 0, 0, 1]]
    assert controls.null()["action"].tolist() == [[0, 0, 0, 0]]
    for wrong in ([1, 0, 0], [1, 0, 0, 0.5], [1, 0, 0, 2], 1, ["1", 0, 0, 0], [float("nan"), 0, 0, 0]):
        with pytest.raises(ProtocolError, match="4 zeros and ones"):
            controls.parse({"action": wrong})


def test_two_streams_of_one_name_are_refused() -> None:
    space = spaces.Dict({"a": spaces.Tuple((spaces.Discrete(2),)), "a_0": spaces.Discrete(2)})
    with pytest.raises(UserError, match="two action streams of the name 'a_0'"):
        stream_specs(space, "Twice")
