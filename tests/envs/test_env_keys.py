"""Keys of an environment in gymnasium's form: pygame's codes become the browser's."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest

from reelworld.envs.env_keys import environment_hints


class Game(gym.Env):
    def __init__(self, space: gym.Space, keys: Any, meanings: list[str] | None = None) -> None:
        self.action_space = space
        self.get_keys_to_action = lambda: keys
        if meanings:
            self.get_action_meanings = lambda: meanings


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({(pygame.K_UP,): 1, (pygame.K_UP, pygame.K_LEFT): 2}, {"ArrowUp": 1, "ArrowUp+ArrowLeft": 2}),
        ({"d": 1, "ad": 2}, {"KeyD": 1, "KeyA+KeyD": 2}),
        ({pygame.K_SPACE: 1, ("w", " "): 2}, {"Space": 1, "KeyW+Space": 2}),
        ({pygame.K_RIGHT: 1, pygame.K_DOWN: 2, pygame.K_3: 0}, {"ArrowRight": 1, "ArrowDown": 2, "Digit3": 0}),
        ({pygame.K_F5: 1, "é": 2, (): 0, "x": 7, (pygame.K_RETURN,): 2}, {"Enter": 2}),
    ],
)
def test_keys_are_named_as_browsers_do(keys, expected):
    hints = environment_hints(Game(gym.spaces.Discrete(3), keys))["action"]
    assert hints["keys"] == expected
    assert hints.get("null") == (None if 0 in expected.values() else 0)


def test_ids_count_from_zero_wherever_the_space_begins():
    game = Game(gym.spaces.Discrete(3, start=5), {"a": 5, "b": 7, "c": 2})
    assert environment_hints(game)["action"]["keys"] == {"KeyA": 0, "KeyB": 2}


def test_vectors_and_names():
    box = gym.spaces.Box(-1, 1, (2,), np.float32)
    vectors = Game(box, {"a": np.array([0.5, -1], np.float32)})
    assert environment_hints(vectors) == {"action": {"keys": {"KeyA": (0.5, -1.0)}}}
    named = Game(gym.spaces.Discrete(2), {"a": 1}, ["NOOP", "FIRE"])
    assert environment_hints(named)["action"] == {"keys": {"KeyA": 1}, "null": 0, "names": ("noop", "fire")}
    assert "names" not in environment_hints(Game(gym.spaces.Discrete(3), {"a": 1}, ["NOOP", "FIRE"]))["action"]


def test_buttons_have_their_names_and_keys():
    game = Game(gym.spaces.MultiBinary(2), {"d": [1, 0], " ": np.array([0, 1], np.int8), "x": [2, 0]}, ["RUN", "JUMP"])
    assert environment_hints(game)["action"] == {
        "keys": {"KeyD": (1.0, 0.0), "Space": (0.0, 1.0)},
        "names": ("run", "jump"),
    }


def test_a_key_of_several_streams_belongs_to_those_it_changes():
    space = gym.spaces.Dict(move=gym.spaces.Discrete(3), fire=gym.spaces.MultiBinary(1))
    keys = {"a": {"move": 1, "fire": [0]}, "d": {"move": 2, "fire": [0]}, " ": {"move": 0, "fire": [1]}}
    keys = {key: {"move": a["move"], "fire": np.array(a["fire"], np.int8)} for key, a in keys.items()}
    hints = environment_hints(Game(space, keys))
    assert hints["move"] == {"keys": {"KeyA": 1, "KeyD": 2}, "null": 0}
    assert hints["fire"] == {"keys": {"Space": (1.0,)}}


def test_what_is_no_table_is_passed_over():
    assert environment_hints(Game(gym.spaces.Discrete(2), ["a"])) == {"action": {}}
