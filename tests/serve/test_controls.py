"""Keys of several action streams, and their actions."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from reelworld.envs.action_spaces import leaves, member, split
from reelworld.serve.controls import Controls
from reelworld.types import ActionSpec

DISCRETE = ActionSpec(kind="discrete", n=12, null=0)
BUTTONS = ActionSpec(kind="buttons", n=4)
MOUSE = ActionSpec(kind="continuous", n=2, low=(-1.0, -1.0), high=(1.0, 1.0), null=(0.0, 0.0))


def single_keys(controls: Controls) -> list[str]:
    return [key for spec in controls.specs.values() for keys in spec.keys for key in keys.split("+")]


def test_streams_without_key_maps_share_no_key():
    controls = Controls({"a": DISCRETE, "b": BUTTONS, "c": MOUSE, "d": DISCRETE, "e": MOUSE})
    keys = single_keys(controls)
    assert len(keys) == len(set(keys))
    assert all(spec.keys for spec in controls.specs.values())


def test_keys_that_a_later_stream_names_are_not_given_to_an_earlier_one():
    named = ActionSpec(kind="buttons", n=2, keys={"Digit1": (1.0, 0.0), "ArrowLeft+KeyE": (0.0, 1.0)})
    controls = Controls({"free": DISCRETE, "mouse": MOUSE, "named": named})
    assert controls.specs["named"].keys == named.keys
    assert {"Digit1", "ArrowLeft", "KeyE"}.isdisjoint({*controls.specs["free"].keys, *controls.specs["mouse"].keys})
    assert set(controls.specs["free"].keys.values()) == set(range(12))


def test_split_is_the_inverse_of_member():
    space = gym.spaces.Dict(
        keys=gym.spaces.MultiBinary((2, 2)),
        pair=gym.spaces.Tuple((gym.spaces.Discrete(3, start=4), gym.spaces.MultiDiscrete([2, 5]))),
        camera=gym.spaces.Box(-180, 180, (2,), np.float32),
    )
    space.seed(0)
    for _ in range(20):
        action = space.sample()
        streams = split(space, action)
        assert list(streams) == [name for name, _ in leaves(space)]
        again = member(space, {k: np.asarray(v) for k, v in streams.items()}, "Game")
        assert np.array_equal(again["keys"], action["keys"]) and np.allclose(again["camera"], action["camera"])
        assert again["pair"][0] == action["pair"][0] and np.array_equal(again["pair"][1], action["pair"][1])
