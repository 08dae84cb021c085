"""Fast rendering equals the environments' own; bad environments are refused in one line."""

from __future__ import annotations

import sys

import gymnasium as gym
import minigrid  # noqa: F401 (registers its environments)
import numpy as np
import pytest

from reelworld.envs.presets import CAR_PEDALS, CAR_STEERINGS, SimulatorConfig, WrapperConfig
from reelworld.envs.recorder import record_config
from reelworld.envs.simulator import Simulator, resize
from reelworld.types import UserError


@pytest.mark.parametrize(
    "env_id",
    [
        "MiniGrid-DoorKey-8x8-v0",
        "MiniGrid-ObstructedMaze-1Dlhb-v0",
        "MiniGrid-Dynamic-Obstacles-8x8-v0",
        "MiniGrid-LavaGapS7-v0",
        "BabyAI-GoToObj-v0",
    ],
)
@pytest.mark.parametrize("tile_size", [8, 11])
def test_atlas_frames_equal_the_library_bit_for_bit(env_id, tile_size):
    simulator = Simulator(
        SimulatorConfig(env_id=env_id, env_kwargs={"highlight": False, "tile_size": tile_size}, drawing="fast")
    )
    rng = np.random.default_rng(0)
    for seed in range(3):
        frame, over = simulator.reset(seed), False
        env = simulator.env.unwrapped
        for _ in range(60):
            np.testing.assert_array_equal(frame, env.get_frame(highlight=False, tile_size=tile_size))
            if over:
                break
            _, terminated, truncated = simulator.step(rng.integers(simulator.action_spec.n))
            frame, over = simulator.frame(), terminated or truncated
    assert frame.dtype == np.uint8


def test_highlighted_frames_come_from_the_library_itself():
    config = record_config("MiniGrid-DoorKey-8x8-v0", env_kwargs={"highlight": True}).simulator
    simulator = Simulator(config)
    frame = simulator.reset(0)
    np.testing.assert_array_equal(frame, simulator.env.unwrapped.get_frame(highlight=True, tile_size=8))
    assert not np.array_equal(frame, simulator.env.unwrapped.get_frame(highlight=False, tile_size=8))


def test_a_wrapper_and_its_observation_are_recorded():
    wrapper = WrapperConfig(path="minigrid.wrappers:RGBImgObsWrapper", kwargs={"tile_size": 6})
    config = record_config("MiniGrid-DoorKey-8x8-v0", wrappers=(wrapper,), frames="observation").simulator
    simulator = Simulator(config)
    frame = simulator.reset(3)
    np.testing.assert_array_equal(frame, simulator.env.unwrapped.get_frame(highlight=False, tile_size=6))
    assert frame.shape == (48, 48, 3)


def test_fast_car_racing_equals_the_stock_one_in_physics_and_nearly_in_pixels():
    simulator = Simulator(record_config("CarRacing-v3").simulator)
    fast, stock = [simulator.reset(3)], []
    env = gym.make("CarRacing-v3", max_episode_steps=-1)
    env.reset(seed=3)
    for _ in range(50):
        observation = env.step(np.zeros(3, np.float32))[0]
    stock.append(resize(observation, 64, 64, "area"))
    for action in [3] * 12 + [0] * 4 + [6] * 4 + [5] * 3:
        reward, *_ = simulator.step(action)
        fast.append(simulator.frame())
        keys = np.array([CAR_STEERINGS[action // 3], *CAR_PEDALS[action % 3]], np.float32)
        steps = [env.step(keys) for _ in range(3)]
        stock.append(resize(steps[-1][0], 64, 64, "area"))
        assert reward == sum(step[1] for step in steps)
    real, ours = np.stack(stock).astype(float), np.stack(fast).astype(float)
    real[:, 56:, :8] = 0  # the score, which we leave out
    assert (ours[:, 56:, :8] == 0).all()
    psnr = 10 * np.log10(255**2 / np.square(real - ours).mean((1, 2, 3)))
    assert psnr.min() > 35, psnr


def test_car_keys_name_the_actions_they_press():
    spec = Simulator(record_config("CarRacing-v3").simulator).action_spec
    assert spec.names[spec.null] == "straight+coast"
    for up, down, left, right in (
        ("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"),
        ("KeyW", "KeyS", "KeyA", "KeyD"),
    ):
        pedals, sides = {up: "gas", down: "brake"}, {left: "left", right: "right"}
        for pedal, pedal_name in pedals.items():
            assert spec.names[spec.keys[pedal]] == f"straight+{pedal_name}"
            for side, side_name in sides.items():
                assert spec.names[spec.keys[f"{pedal}+{side}"]] == f"{side_name}+{pedal_name}"
                assert spec.names[spec.keys[side]] == f"{side_name}+coast"


@pytest.mark.parametrize("shape", [(64, 64), (40, 72), (200, 30)])
def test_area_resize_is_the_mean_over_the_covered_area(shape):
    frame = np.random.default_rng(0).integers(0, 256, (96, 60, 3), dtype=np.uint8)
    # Every input pixel blown up so that output cells cover whole blown-up pixels: then the mean is plain.
    fine = frame.repeat(shape[0], 0).repeat(shape[1], 1)
    boxes = fine.reshape(shape[0], 96, shape[1], 60, 3).mean((1, 3))
    np.testing.assert_allclose(resize(frame, *shape, "area"), boxes, atol=0.5 + 1e-6)


def test_nearest_resize_invents_no_colour():
    frame = np.random.default_rng(0).integers(0, 256, (10, 7, 3), dtype=np.uint8)
    big = resize(frame, 30, 21, "nearest")
    np.testing.assert_array_equal(big, frame.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize(
    ("env_id", "settings", "message"),
    [
        ("CartPol-v1", {}, "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
        ("MiniGrid-DoorKy-8x8-v0", {}, "did you mean 'MiniGrid-DoorKey-8x8-v0'"),
        ("no_such_module:Env-v0", {}, "cannot import the module"),
        ("CartPole-v1", {"frames": "observation"}, "wanted an image"),
        ("CartPole-v1", {"drawing": "fast"}, "exists for MiniGrid, CarRacing and MuJoCo"),
        ("CartPole-v1", {"env_kwargs": {"tile_size": 8}}, "refuses the arguments"),
        ("CartPole-v1", {"action_repeat": 0}, "action_repeat is 0"),
        (
            "CartPole-v1",
            {"wrappers": (WrapperConfig(path="gymnasium.wrappers:Grey"),)},
            "has no .Grey.*wanted a wrapper class",
        ),
        ("CarRacing-v3", {"env_kwargs": {"continuous": False}}, "nine joint actions"),
        ("CarRacing-v3", {"size": (64, 32)}, "square frames"),
    ],
)
def test_mistakes_are_named_in_one_line(env_id, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        Simulator(record_config(env_id, **settings).simulator).reset(0)
    assert "\n" not in str(caught.value)


class Text(gym.ActionWrapper):
    """Gives CartPole an action space that cannot be recorded."""

    def __init__(self, env):
        super().__init__(env)
        self.action_space = gym.spaces.Text(3)


def test_other_action_spaces_are_refused():
    wrapper = WrapperConfig(path=f"{__name__}:Text")
    with pytest.raises(UserError, match=r"action space Text.*; Discrete, Box, MultiBinary"):
        Simulator(SimulatorConfig(env_id="CartPole-v1", wrappers=(wrapper,)))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(UserError, match=r"pip install 'reelworld\[envs\]'"):
        Simulator(SimulatorConfig(env_id="MiniGrid-DoorKey-8x8-v0"))


def test_actions_out_of_range_are_refused():
    simulator = Simulator(record_config("MiniGrid-DoorKey-8x8-v0").simulator)
    simulator.reset(0)
    for action in (7, -1):
        with pytest.raises(UserError, match="takes 0 to 6"):
            simulator.step(action)


def test_steps_below_one_are_refused_where_a_preset_has_its_own() -> None:
    with pytest.raises(UserError, match="max_steps 0"):
        record_config("MiniGrid-DoorKey-8x8-v0", episodes=1, max_steps=0)
