"""Events and carried-key tests on frames, against the simulator's own state."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from evaluate import toy
from reelworld.evaluate.games import minigrid
from reelworld.evaluate.tiles import TileAtlas
from reelworld.types import ActionSpec, StepResult

pytest.importorskip("minigrid", reason="the package minigrid is not installed")

from reelworld.envs.recorder import record_config, record_episode
from reelworld.envs.simulator import Simulator

CONFIG = record_config("MiniGrid-DoorKey-8x8-v0", episodes=1, seed=70_000)
N_CLIPS = 16


@pytest.fixture(scope="module")
def recorded():
    with closing(Simulator(CONFIG.simulator)) as simulator:
        return [record_episode(simulator, CONFIG, i) for i in range(N_CLIPS)]


@pytest.fixture(scope="module")
def info():
    from reelworld.config import to_json
    from reelworld.data.episodes import DataInfo

    spec = ActionSpec(kind="discrete", n=7)
    return DataInfo(
        fps=10, height=64, width=64, actions={"action": spec}, provenance={"simulator": to_json(CONFIG.simulator)}
    )


def truth(clip, index):
    """Replay a clip in the simulator and list its events from the simulator's state."""
    events = []
    with closing(Simulator(CONFIG.simulator)) as simulator:
        simulator.reset(CONFIG.seed + index)
        env = simulator.env.unwrapped
        door = next(o for o in env.grid.grid if o is not None and o.type == "door")
        for t, action in enumerate(clip.action[:-1].tolist()):
            held, state = env.carrying is not None, (door.is_open, door.is_locked)
            simulator.step(action)
            if (env.carrying is not None) != held:
                events.append((t, "drop" if held else "pick_up"))
            if (door.is_open, door.is_locked) != state:
                events.append((t, "toggle"))
                if state[1]:
                    events.append((t, "unlock"))
    return events


def test_events_read_off_frames_are_the_simulators(recorded):
    atlas = TileAtlas.build(c.frames for c in recorded)
    places = [(c, t) for c, clip in enumerate(recorded) for t in range(len(clip.frames) - 1)]
    clip = np.array([c for c, _ in places])
    step = np.array([t for _, t in places])
    ids = [atlas.true_ids(c.frames) for c in recorded]
    one = SimpleNamespace(
        clip=clip,
        step=step,
        before=np.stack([ids[c][t] for c, t in places]),
        after=np.stack([ids[c][t + 1] for c, t in places]),
    )
    masks = minigrid.event_masks(one, recorded)
    expected = [(c, t, kind) for c, r in enumerate(recorded) for t, kind in truth(r, c)]
    for kind in ("pick_up", "drop", "toggle", "unlock"):
        found = [
            (int(c), int(t), kind)
            for c, t in zip(clip, step, strict=True)
            if masks[f"event_{kind}_exact"][(clip == c) & (step == t)][0]
        ]
        assert found == [e for e in expected if e[2] == kind], kind
        assert found, f"the recordings show no {kind}"


def test_fresh_tests_carry_for_25_steps_and_end_with_a_use(info):
    tests = minigrid.fresh_key_tests(info, context=2, n_tests=6, seed=0)
    assert sorted(t.kind for t in tests) == ["drop"] * 3 + ["toggle"] * 3
    assert len({t.clip.source for t in tests}) == 6
    for test in tests:
        last = len(test.clip.frames) - 2
        assert int(test.clip.action[last]) == {"drop": 4, "toggle": 5}[test.kind]
        assert (test.clip.frames[last] != test.clip.frames[last + 1]).any()
        picks = [
            t
            for t in range(last)
            if test.clip.action[t] == 3 and (test.clip.frames[t] != test.clip.frames[t + 1]).any()
        ]
        assert last - picks[-1] >= 25
    again = minigrid.fresh_key_tests(info, context=2, n_tests=6, seed=0)
    np.testing.assert_array_equal(again[5].clip.frames, tests[5].clip.frames)


class ReplayWorld(toy.ToyWorld):
    """Plays back the recorded frames of the clip it was started on; a lossy one forgets the last change."""

    def __init__(self, clips, forgets):
        super().__init__(toy.copying, height=64, width=64, actions={"action": ActionSpec(kind="discrete", n=7)})
        self.clips, self.forgets = clips, forgets

    def session(self, n=1, seed=None):
        return ReplaySession(self, n)


class ReplaySession(toy.ToySession):
    def reset(self, context_frames, context_actions=None, seed=None):
        starts = {c.frames[: self.world.spec.context[1]].tobytes(): c for c in self.world.clips}
        self.clips = [starts[f.tobytes()] for f in context_frames]
        self.t = self.world.spec.context[1] - 1

    def step(self, action):
        self.t += 1
        ends = [len(c.frames) - (2 if self.world.forgets else 1) for c in self.clips]
        frames = np.stack([c.frames[min(self.t, end)] for c, end in zip(self.clips, ends, strict=True)])
        zero = np.zeros(self.n, np.float32)
        return StepResult(frame=frames, reward=zero, terminated=zero > 0, truncated=zero > 0)


def test_a_world_that_remembers_passes_and_one_that_forgets_fails(info, recorded):
    atlas = TileAtlas.build(c.frames for c in recorded)
    tests = minigrid.fresh_key_tests(info, context=2, n_tests=8, seed=1)
    clips = [t.clip for t in tests]
    for forgets, expected in ((False, 1.0), (True, 0.0)):
        figures = list(minigrid.carried_key_metrics(ReplayWorld(clips, forgets), tests, atlas, seed=0))
        assert [f.name for f in figures] == ["carried_key_works", "carried_key_toggle_works", "carried_key_drop_works"]
        assert [f.value for f in figures] == [expected] * 3
        assert figures[0].n == 8


def test_only_minigrid_recordings_count_as_minigrid(info, tmp_path):
    assert minigrid.is_minigrid(info)
    dataset = toy.write_dataset(tmp_path / "toy", n=13)
    assert not minigrid.is_minigrid(dataset.info)
    assert minigrid.fresh_key_tests(dataset.info, 1, 4, 0) == []
