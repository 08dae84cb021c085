"""Robots: frames, rewards and actions against dm_control and gymnasium stepped by hand; policies; what is missing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset
from reelworld.envs import robots
from reelworld.envs.policies import resolve_policy
from reelworld.envs.recorder import record, record_config, record_episode
from reelworld.envs.robots import prepare_mujoco
from reelworld.envs.simulator import Simulator
from reelworld.types import UserError

CARTPOLE, REACHER, CHEETAH = "dm_control/cartpole-swingup", "dm_control/reacher-easy", "dm_control/cheetah-run"


@pytest.fixture(scope="module")
def mujoco() -> None:
    """Skip where MuJoCo, which only the extra ``robotics`` brings, is absent or cannot draw: no frame can be tested."""
    try:
        prepare_mujoco()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def arms(mujoco: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short recordings of the reacher."""
    out = tmp_path_factory.mktemp("arms") / "recording"
    record(record_config(REACHER, episodes=4, max_steps=16, seed=3), out)
    return out


@pytest.fixture
def opened(mujoco: None) -> Iterator[Callable[..., Simulator]]:
    """Open the simulator of an environment with its preset and other settings; all are closed at the end."""
    with ExitStack() as stack:

        def opened(env_id: str, **settings: Any) -> Simulator:
            return stack.enter_context(closing(Simulator(record_config(env_id, **settings).simulator)))

        yield opened


def run(simulator: Simulator, policy: str, seed: int, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and actions of an episode that nobody draws."""
    simulator.reset(seed)
    rewards, actions = [], []
    for action, _ in zip(resolve_policy(policy)(simulator, np.random.default_rng(seed)), range(n_steps), strict=False):
        actions.append(action)
        rewards.append(simulator.step(action)[0])
    return np.array(rewards), np.array(actions)


# ------------------------------------------------------------------ what is recorded


def test_the_same_seed_gives_the_same_files_whatever_came_before(arms: Path, tmp_path: Path) -> None:
    record(record_config(REACHER, episodes=2, max_steps=16, seed=5), tmp_path / "again")
    for path in sorted((tmp_path / "again").glob("*.npz")):
        assert path.read_bytes() == (arms / path.name).read_bytes()
    first, second = (np.load(path)["frames"] for path in sorted(arms.glob("*.npz"))[:2])
    assert not np.array_equal(first[0], second[0])


@pytest.mark.parametrize(("env_id", "repeat"), [(CARTPOLE, 4), (REACHER, 2)])
def test_rewards_and_frames_are_those_of_dm_control(opened: Callable[..., Simulator], env_id: str, repeat: int) -> None:
    """The suite stepped by hand from the recorded first state, with the recorded actions."""
    from dm_control import suite
    from dm_control.mujoco.engine import Camera

    config = record_config(env_id, episodes=1, max_steps=12, seed=7, env_kwargs={"field_of_view": 50.0})
    simulator = opened(env_id, env_kwargs={"field_of_view": 50.0})
    clip = record_episode(simulator, config, 0)
    simulator.reset(7)
    start = simulator.env.unwrapped.physics
    own = suite.load(*env_id.removeprefix("dm_control/").split("-"), task_kwargs={"random": 1})
    own.reset()
    with own.physics.reset_context():
        own.physics.data.qpos[:], own.physics.data.qvel[:] = start.data.qpos, start.data.qvel
        own.physics.model.geom_pos[:], own.physics.model.geom_size[:] = start.model.geom_pos, start.model.geom_size
    own.physics.model.cam_fovy[0] = 50
    camera = Camera(own.physics, 64, 64, 0)
    flat = {"shadow": False, "reflection": False}
    for t, action in enumerate(clip.action[:-1]):
        drawn = camera.render(render_flag_overrides=flat)
        assert np.abs(drawn.astype(int) - clip.frames[t]).mean() < 0.05, f"frame {t}"
        reward = sum(own.step(action).reward for _ in range(repeat))
        assert reward == pytest.approx(float(clip.rewards[t]), abs=1e-5)
    assert np.abs(clip.frames[-1].astype(int) - clip.frames[0]).max() > 50  # something moved
    assert clip.fps == pytest.approx(25) and clip.truncated[-2]
    own.physics.free()


def test_rewards_are_those_of_gymnasium(opened: Callable[..., Simulator]) -> None:
    config = record_config("Reacher-v5", episodes=1, max_steps=50, seed=7)
    clip = record_episode(opened("Reacher-v5"), config, 0)
    env = gym.make("Reacher-v5")
    env.reset(seed=7)
    steps = [env.step(action) for action in clip.action[:-1]]
    np.testing.assert_allclose([step[1] for step in steps], clip.rewards[:-1], atol=1e-6)
    assert steps[-1][3] and clip.truncated[49] and clip.frames.shape == (51, 64, 64, 3)


def test_the_end_of_a_task_is_recorded(opened: Callable[..., Simulator]) -> None:
    """A pendulum that is let go falls: terminated; a task of dm_control runs out of time: truncated."""
    simulator = opened("InvertedPendulum-v5")
    simulator.reset(0)
    ends = [simulator.step(np.array([3.0], np.float32))[1:] for _ in range(10)]
    assert (True, False) in ends
    simulator = opened(CARTPOLE, action_repeat=500)
    simulator.reset(0)
    assert [simulator.step(np.zeros(1, np.float32))[1:] for _ in range(2)] == [(False, False), (False, True)]


@pytest.mark.parametrize("env_id", [CHEETAH, "HalfCheetah-v5"])
def test_frames_are_drawn_at_the_size_asked_for(opened: Callable[..., Simulator], env_id: str) -> None:
    """Drawn, not resized: the environment itself gives the size; a large picture's mean over boxes looks alike."""
    small, large = (opened(env_id, size=(n, 3 * n // 2)) for n in (64, 512))
    frame = small.reset(0)
    large.reset(0)
    assert small.env.render().shape == frame.shape == (64, 96, 3)
    drawn = large.env.render()
    assert drawn.shape == (512, 768, 3)
    mean = drawn.reshape(64, 8, 96, 8, 3).mean((1, 3))
    assert np.corrcoef(mean.ravel(), frame.ravel())[0, 1] > 0.7


@pytest.mark.parametrize("env_id", [CHEETAH, "HalfCheetah-v5"])
def test_whoever_asks_gets_the_frames_of_its_own_robot(opened: Callable[..., Simulator], env_id: str) -> None:
    """Drawing contexts belong to threads: two robots, and another thread that asks."""
    one, two = (opened(env_id) for _ in range(2))
    alone = one.reset(0)
    other = two.reset(1)
    for _ in range(5):
        two.step(np.ones(two.action_spec.n, np.float32))
    drawn: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: drawn.extend([one.frame(), two.frame()]))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(drawn[0], alone)
    assert not np.array_equal(drawn[1], other) and drawn[1].std() > 10


def test_fast_rendering_leaves_out_shadows_only(opened: Callable[..., Simulator]) -> None:
    fast, stock = (opened(CHEETAH, drawing=d).reset(0) for d in ("fast", "environment"))
    is_changed = (fast != stock).any(-1)
    assert 0 < is_changed.mean() < 0.5 and not is_changed[:20].any()  # the sky stays


def test_recordings_are_inspected_and_trained_on(arms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELWORLD_CACHE", str(tmp_path / "cache"))
    dataset = Dataset.open(arms)
    assert dataset.info.actions["action"].low == (-1.0, -1.0) and dataset.info.actions["action"].high == (1.0, 1.0)
    assert dataset.info.actions["action"].keys["ArrowUp+ArrowLeft"] == (1.0, 1.0)
    assert main(["inspect", str(arms), "--out", str(tmp_path / "looks")]) == 0
    line = ["train", "pocket:tiny", "--data", str(arms), "--out", str(tmp_path / "run"), "--tokenizer.steps", "1"]
    assert main([*line, "--dynamics.steps", "1"]) == 0
    assert (tmp_path / "run" / "world" / "world.json").exists()


# ------------------------------------------------------------------ who acts


@pytest.mark.parametrize(
    ("env_id", "policy"),
    [(CARTPOLE, "balancer"), (REACHER, "reacher"), (CHEETAH, "smooth"), ("InvertedPendulum-v5", "balancer")],
)
def test_actions_stay_in_bounds_and_use_them(opened: Callable[..., Simulator], env_id: str, policy: str) -> None:
    simulator = opened(env_id)
    actions = np.concatenate([run(simulator, policy, seed, 60)[1] for seed in range(2)])
    low, high = np.array(simulator.action_spec.low), np.array(simulator.action_spec.high)
    assert actions.dtype == np.float32 and (actions >= low).all() and (actions <= high).all()
    assert (actions.std(0) > 0.05 * (high - low)).all()
    with pytest.raises(UserError, match="needs continuous actions"):
        next(iter(resolve_policy("smooth")(opened("CartPole-v1"), np.random.default_rng(0))))


def test_smooth_noise_changes_slowly(opened: Callable[..., Simulator]) -> None:
    simulator = opened(CHEETAH)
    for policy, least, most in (("smooth", 0.6, 0.95), ("random", -0.2, 0.2)):
        actions = run(simulator, policy, 0, 200)[1]
        alike = np.mean([np.corrcoef(a[:-1], a[1:])[0, 1] for a in actions.T])
        assert least < alike < most


@pytest.mark.slow
def test_the_balancer_brings_the_pole_up_and_lets_it_fall(opened: Callable[..., Simulator]) -> None:
    """Rewards are up to 4 a step, 2 with the pole level; smooth noise swings it below."""
    simulator = opened(CARTPOLE)
    skilled, noisy = (np.array([run(simulator, p, s, 100)[0] for s in range(4)]) for p in ("balancer", "smooth"))
    assert (skilled > 3).mean() > 0.1 and (skilled < 1).mean() > 0.2
    assert skilled.mean() > 1.5 * noisy.mean()


@pytest.mark.slow
def test_the_reacher_finds_sparse_rewards_and_leaves_them(opened: Callable[..., Simulator]) -> None:
    simulator = opened(REACHER)
    shares = {p: np.mean([run(simulator, p, s, 100)[0] > 0 for s in range(6)]) for p in ("reacher", "smooth")}
    assert 0.2 < shares["reacher"] < 0.8 and shares["reacher"] > 3 * shares["smooth"]


def test_the_reacher_of_gymnasium_is_pulled_to_its_target(opened: Callable[..., Simulator]) -> None:
    simulator = opened("Reacher-v5")
    near = {p: np.mean([run(simulator, p, s, 50)[0] for s in range(6)]) for p in ("reacher", "smooth")}
    assert near["reacher"] > near["smooth"] + 0.02  # the reward is minus the distance, and minus the effort


@pytest.mark.parametrize(
    ("policy", "message"), [("balancer", "a cart with one pole"), ("reacher", "needs a reacher; .*'smooth'")]
)
def test_other_robots_are_refused(mujoco: None, policy: str, message: str, tmp_path: Path) -> None:
    for env_id in (CHEETAH, "dm_control/cartpole-two_poles", "CartPole-v1"):
        with pytest.raises(UserError, match=message):
            record(record_config(env_id, policy=policy), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dm_control/cartpol-swingup"], "did you mean 'dm_control/cartpole-swingup'"),
        (["dm_control/cartpole-swingup-v0"], "did you mean 'dm_control/cartpole-swingup'"),
        (["dm_control/../../etc/passwd"], "unknown environment"),
        ([CARTPOLE, "--env-kwargs", '{"camera": "above"}'], "Invalid name 'above'. Valid names"),
        ([CARTPOLE, "--env-kwargs", '{"camera": 9}'], "Invalid index 9"),
        ([CARTPOLE, "--env-kwargs", '{"tile_size": 9}'], "refuses the arguments"),
    ],
)
def test_mistakes_are_one_line(
    mujoco: None, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("env_id", "package"), [(CARTPOLE, "dm_control"), ("Reacher-v5", "mujoco")])
def test_a_missing_package_names_the_extra(env_id: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}, which is not installed; pip install 'reelworld\[robotics\]'"):
        Simulator(record_config(env_id).simulator)


def test_where_nothing_draws_one_line_says_what_to_install(mujoco: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robots, "_choose_backend", robots._choose_backend.__wrapped__)
    monkeypatch.setenv("MUJOCO_GL", "crayons")
    with pytest.raises(UserError, match=r"MUJOCO_GL=crayons fails\); on Debian: apt install libosmesa6") as caught:
        prepare_mujoco()
    assert "\n" not in str(caught.value)


def test_warnings_of_mujoco_leave_no_file(
    opened: Callable[..., Simulator],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """HalfCheetah's description is old-fashioned; MuJoCo would say so in MUJOCO_LOG.TXT and on the screen."""
    monkeypatch.chdir(tmp_path)
    opened("HalfCheetah-v5")
    assert not list(tmp_path.iterdir()) and not "".join(capfd.readouterr())
