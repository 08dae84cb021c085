"""The adapters against gymnasium's own checker, and the batch against single environments."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from tests.rollout.toy import CLASSES, start_clips, toy_world
from tests.tiny import tiny_world

from reelworld.data.dataset import DataInfo
from reelworld.types import ActionSpec, Clip, UserError
from reelworld.worlds.gym import WorldEnv, WorldVectorEnv
from reelworld.worlds.world import World

SIZE = 32
SPECS = {
    "discrete": {"action": ActionSpec(kind="discrete", n=5)},
    "continuous": {"action": ActionSpec(kind="continuous", n=2, low=(-1.0, 0.0), high=(1.0, 1.0))},
    "buttons": {"action": ActionSpec(kind="buttons", n=3)},
    "streams": {"keys": ActionSpec(kind="buttons", n=2), "item": ActionSpec(kind="discrete", n=3)},
    "none": {},
}


def make_world(kind: str) -> World:
    """An untrained world with two start clips of noise."""
    info = DataInfo(height=SIZE, width=SIZE, actions=SPECS[kind])
    world = tiny_world("pocket", info, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(2):
        frames = rng.integers(256, size=(2, SIZE, SIZE, 3), dtype=np.uint8)
        streams = {name: np.zeros((2, *spec.step_shape), spec.dtype) for name, spec in SPECS[kind].items()}
        world.initial_contexts.append(Clip(frames=frames, actions=streams))
    return world


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Such small models are fastest with one thread, and do not wait for busy neighbours."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world("discrete")


@pytest.mark.parametrize("kind", SPECS)
def test_gymnasium_finds_nothing_to_say(kind):
    check_env(WorldEnv(make_world(kind), render_mode="rgb_array"))  # its warnings are errors here


def test_worlds_are_made_by_name_from_their_folder(world, tmp_path):
    world.save(tmp_path / "world")
    env = gymnasium.make("reelworld/World-v0", world=tmp_path / "world", max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]
    envs = gymnasium.make_vec(
        "reelworld/World-v0", num_envs=2, vectorization_mode="vector_entry_point", world=tmp_path / "world"
    )
    assert envs.reset(seed=0)[0].shape == (2, SIZE, SIZE, 3)


def test_same_seed_and_actions_give_the_same_episode(world):
    env = WorldEnv(world)
    actions = np.random.default_rng(1).integers(5, size=12)

    def episode(seed: int | None) -> np.ndarray:
        return np.stack([env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)])

    first, other, again = episode(3), episode(4), episode(3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[1:], other[1:])
    later = episode(None)  # goes on from the generator: new, but decided by the seed before it
    assert not np.array_equal(later, first)
    episode(3)
    assert np.array_equal(episode(None), later)


def test_an_episode_begins_with_the_frames_it_is_given(world):
    frames = np.random.default_rng(2).integers(256, size=(3, SIZE, SIZE, 3), dtype=np.uint8)
    env = WorldEnv(world, render_mode="rgb_array")
    frame, _ = env.reset(seed=0, options={"context_frames": frames, "context_actions": np.array([1, 2])})
    assert np.array_equal(frame, frames[-1]) and np.array_equal(env.render(), frames[-1])
    stepped = env.step(0)[0]
    assert np.array_equal(env.render(), stepped)


def test_vector_spaces_and_types(world):
    envs = WorldVectorEnv(world, num_envs=3, render_mode="rgb_array")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    envs.action_space.seed(0)
    frames, _ = envs.reset(seed=0)
    assert frames in envs.observation_space
    frames, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
    assert frames in envs.observation_space
    assert (reward.shape, terminated.dtype, truncated.dtype) == ((3,), bool, bool)
    assert info["terminated_probability"].shape == (3,)
    assert np.array_equal(np.stack(envs.render()), frames)
    envs.close()


def test_streams_equal_single_environments_through_autoresets(world):
    """Stream 0 of a batch against a single environment stepped and reset by hand, ends included."""
    limit, n_steps = 4, 23
    envs = WorldVectorEnv(world, num_envs=3, max_episode_steps=limit)
    env = WorldEnv(world, max_episode_steps=limit)
    actions = np.random.default_rng(5).integers(5, size=(n_steps, 3))
    assert np.array_equal(envs.reset(seed=7)[0][0], env.reset(seed=7)[0])
    has_ended, n_resets = False, 0
    for row in actions:
        frames, reward, terminated, truncated, info = envs.step(row)
        if has_ended:
            env.step(row[0])  # the batch moved, and the action was ignored
            expected = (env.reset()[0], 0.0, False, False)
            assert info["terminated_probability"][0] == 0
            n_resets += 1
        else:
            expected = env.step(row[0])[:4]
        has_ended = expected[2] or expected[3]
        assert np.array_equal(frames[0], expected[0])
        assert reward[0] == pytest.approx(expected[1], abs=1e-5)
        assert (terminated[0], truncated[0]) == expected[2:]
    assert n_resets >= n_steps // (limit + 1)


def test_only_the_streams_that_ended_begin_anew(world):
    """Make one stream terminate; the others must go on as if nothing had happened."""
    actions = np.random.default_rng(6).integers(5, size=(6, 3))

    def run(ending: int | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        envs = WorldVectorEnv(world, num_envs=3, max_episode_steps=100)
        envs.reset(seed=1)
        frames, ends = [], []
        for t, row in enumerate(actions):
            observation, _, terminated, _, _ = envs.step(row)
            if t == 2 and ending is not None:
                envs._has_ended[ending] = True
            frames.append(observation)
            ends.append(terminated)
        return frames, ends

    (free, free_ends), (ended, _) = run(None), run(1)
    assert not np.any(free_ends), "the untrained world ends episodes by itself: give it another seed"
    assert all(np.array_equal(a[[0, 2]], b[[0, 2]]) for a, b in zip(free, ended, strict=True))
    assert not np.array_equal(free[3][1], ended[3][1])
    starts = [clip.frames[-1] for clip in world.initial_contexts]
    assert any(np.array_equal(ended[3][1], start) for start in starts)


def test_wrong_settings_are_one_clear_line(world):
    with pytest.raises(UserError, match="max_episode_steps is 0"):
        WorldEnv(world, max_episode_steps=0)
    with pytest.raises(UserError, match="render_mode is 'human'"):
        WorldVectorEnv(world, render_mode="human")


# ------------------------------------------------------------------ worlds that code whole clips


def clip_world() -> World:
    world = toy_world(1, CLASSES)
    world.initial_contexts = start_clips(2, CLASSES)
    return world


def test_worlds_that_run_by_themselves_have_one_action():
    env = WorldEnv(clip_world(), render_mode="rgb_array")
    assert env.action_space == gymnasium.spaces.Discrete(1)
    check_env(env)


def test_classes_are_asked_for_by_option():
    env = WorldEnv(clip_world())
    starts = {clip.frames[-1].tobytes() for clip in env.world.initial_contexts if clip.class_id == 2}
    assert {env.reset(seed=i, options={"class_id": 2})[0].tobytes() for i in range(12)} == starts
    with pytest.raises(UserError, match="class_id is 3"):
        env.reset(options={"class_id": 3})
    with pytest.raises(UserError, match="unknown option 'clas_id'; did you mean 'class_id'"):
        env.reset(options={"clas_id": 2})


def test_streams_of_clip_worlds_equal_single_environments_through_autoresets():
    """Episodes of another length than the window: streams slide and begin anew at all places."""
    envs = WorldVectorEnv(clip_world(), num_envs=3, max_episode_steps=11)
    env = WorldEnv(clip_world(), max_episode_steps=11)
    assert np.array_equal(envs.reset(seed=7)[0][0], env.reset(seed=7)[0])
    has_ended, n_ends = False, 0
    for _ in range(40):
        frames, reward, _, truncated, info = envs.step(np.zeros(3, np.int64))
        stepped = env.step(0)
        frame, ended = (env.reset()[0], False) if has_ended else (stepped[0], stepped[3])
        assert np.array_equal(frames[0], frame)
        assert (reward[0], truncated[0], info["terminated_probability"][0]) == (0.0, ended, 0.0)
        has_ended, n_ends = ended, n_ends + ended
    assert n_ends == 3
