"""Simulator comparison, with worlds of known error."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from evaluate import toy
from evaluate.test_minigrid import CONFIG
from reelworld.config import to_json
from reelworld.evaluate.metrics import COPY
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.samples import EvalData
from reelworld.evaluate.sections.simulator import SECTION, fresh_clips, has_simulator, open_simulator, play
from reelworld.types import ActionSpec, ModelSpec, StepResult, UserError

pytest.importorskip("minigrid", reason="the package minigrid is not installed")


@pytest.fixture(scope="module")
def info():
    provenance = {"simulator": to_json(CONFIG.simulator), "policy": {"explorer": 0.5, "random": 0.5}}
    return SimpleNamespace(provenance=provenance, actions={"action": CONFIG})


class Known:
    """Knows what comes next because it was told beforehand; or copies."""

    spec = ModelSpec(height=64, width=64, actions={"action": ActionSpec(kind="discrete", n=7)}, context=(1, 2, None))

    def __init__(self, clips, copies=False):
        self.copies = copies
        self.next = {}
        for clip in clips:
            for t in range(len(clip.frames) - 1):
                key = clip.frames[t].tobytes(), int(clip.action[t])
                self.next[key] = clip.frames[t + 1]

    def session(self, n=1):
        world = self

        class Session:
            def __init__(self):
                self.n = n

            def reset(self, frames, actions, seed):
                self.frames = frames[:, -1]

            def step(self, action):
                if not world.copies:
                    pairs = zip(self.frames, action["action"], strict=True)
                    self.frames = np.stack([world.next.get((f.tobytes(), int(a)), f) for f, a in pairs])
                zero = np.zeros(n)
                return StepResult(frame=self.frames, reward=zero, terminated=zero > 0, truncated=zero > 0)

        return Session()


def compared(world, info, n):
    evaluation = toy.evaluation_of(world, config=EvalConfig(simulator_episodes=n), info=info)
    return toy.measured(SECTION, evaluation)[0]


def test_a_world_that_knows_the_game_is_perfect_and_a_copy_gains_nothing(info):
    with open_simulator(info) as simulator:
        clips = fresh_clips(simulator, info, 4, 66, 0)
    for copies in (False, True):
        found = compared(Known(clips, copies), info, 4)
        assert set(found) == {f"{kind}_h{h}" for kind in ("simulator_psnr", "gain_simulator") for h in (1, 4, 8)}
        assert found["simulator_psnr_h4"].n_clips == 4 and found["simulator_psnr_h4"].n <= 16
        for h in (1, 4, 8):
            psnr, gain = found[f"simulator_psnr_h{h}"], found[f"gain_simulator_h{h}"]
            if copies:
                assert psnr.value == psnr.baselines[COPY] and gain.value == 0
            else:
                assert psnr.value == gain.value == math.inf and psnr.baselines[COPY] < 60


def test_fresh_episodes_are_fresh_and_repeatable(info):
    with open_simulator(info) as simulator:
        one, again, other = (fresh_clips(simulator, info, 2, 10, seed) for seed in (0, 0, 1))
    assert int(one[0].source.rsplit("-", 1)[1]) >= 1_100_000_000
    assert np.array_equal(one[1].frames, again[1].frames) and one[1].source != other[1].source


def test_actions_are_played_and_the_next_episode_begins_at_an_end(info):
    actions = np.random.default_rng(0).integers(0, 6, 30)
    with open_simulator(info) as simulator:
        frames = play(simulator, actions, 7)
        simulator.reset(7)
        for action, frame in zip(actions, frames, strict=True):
            _, *ends = simulator.step(action)
            assert np.array_equal(simulator.frame(), frame) and not any(ends)

    class Short:
        """Ends after two steps; shows its seed and its step."""

        def reset(self, seed):
            self.seed, self.t = seed, 0

        def step(self, action):
            self.t += 1
            return 0.0, self.t == 2, False

        def frame(self):
            return np.array([self.seed, self.t])

    assert play(Short(), np.zeros(5), 3).tolist() == [[3, 1], [3, 2], [4, 1], [4, 2], [5, 1]]


@pytest.mark.parametrize(
    "change",
    [{"wrappers": [{"path": "mine:Wrapper", "kwargs": {}}]}, {"env_id": "mine:Game-v0"}],
)
def test_code_that_a_recording_names_is_not_run(info, change, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("raise SystemExit('foreign code was run')")
    monkeypatch.chdir(tmp_path)
    named = SimpleNamespace(provenance={"simulator": {**info.provenance["simulator"], **change}})
    with pytest.raises(UserError, match="--allow-code mine"), open_simulator(named):
        pass
    (figure,) = compared(Known([]), named, 1).values()
    assert figure.n == 0 and "--allow-code mine" in figure.description


def test_policies_that_a_recording_names_are_not_run(info, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("raise SystemExit('foreign code was run')")
    monkeypatch.chdir(tmp_path)
    named = SimpleNamespace(provenance={**info.provenance, "policy": {"mine:policy": 1.0}})
    with open_simulator(named) as simulator:
        assert len(fresh_clips(simulator, named, 1, 5, 0)[0].frames) == 6


def test_a_missing_simulator_is_said(info):
    gone = SimpleNamespace(provenance={"simulator": {**info.provenance["simulator"], "env_id": "MiniGrid-Gone-v0"}})
    (figure,) = compared(Known([]), gone, 1).values()
    assert figure.n == 0 and "unknown environment" in figure.description


def test_where_there_is_no_simulator_there_is_no_section(info, tmp_path):
    dataset = toy.write_dataset(tmp_path / "data", n=13)
    spec, config = Known.spec, EvalConfig()
    assert not SECTION.applies(toy.ToyWorld(toy.perfect).spec, EvalData(dataset.info), config)
    assert SECTION.applies(spec, EvalData(info), config)
    assert not SECTION.applies(spec, EvalData(info), EvalConfig(simulator_episodes=0))
    assert has_simulator(spec, EvalData(info)) and not has_simulator(spec, EvalData(info, is_labelled=True))
