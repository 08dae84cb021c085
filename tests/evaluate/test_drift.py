"""Stability of long rollouts: block statistics by hand, and videos that must fail."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from evaluate import toy
from evaluate.toy_clips import OpenWorld, random_walk
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.results import Series
from reelworld.evaluate.run import evaluate
from reelworld.evaluate.samples import Starts, roll_long
from reelworld.evaluate.sections.stability import (
    BLOCK,
    NUMBERS,
    RealRange,
    block_metrics,
    block_numbers,
    cycled_actions,
)
from reelworld.types import Clip, UserError


@pytest.fixture(scope="module")
def game():
    """Long recordings of the toy game, and the range of their blocks."""
    clips = [toy.episode(seed, 200).frames for seed in range(40)]
    return clips[30:], RealRange.of(clips[:30])


def test_numbers_by_hand():
    frames = np.zeros((BLOCK, 4, 4, 3), np.uint8)
    frames[1::2, :, 2:] = (100, 50, 200)  # the right half blinks
    red, green, blue, contrast, edges, motion = block_numbers(frames)[0]
    assert (red, green, blue) == pytest.approx((25, 12.5, 50)), "a quarter of all pixels of all frames"
    grey = 0.299 * 100 + 0.587 * 50 + 0.114 * 200
    assert contrast == pytest.approx(grey / 2 / 2, rel=1e-5), "half of the pixels differ, in half of the frames"
    assert edges == pytest.approx(grey**2 / 3 / 2, rel=1e-5), "one of three columns of differences, in half of them"
    assert motion == pytest.approx((100 + 50 + 200) / 3 / 2, rel=1e-5)


def test_what_does_not_fill_a_block_is_left_out():
    frames = np.zeros((2 * BLOCK + 30, 8, 8, 3), np.uint8)
    assert block_numbers(frames).shape == (2, len(NUMBERS))
    assert block_numbers(frames, 25).shape == (4, len(NUMBERS))
    assert block_numbers(frames[: BLOCK - 1]).shape == (0, len(NUMBERS))


def within(real, frames):
    return real.within(block_numbers(frames)).all(-1).mean()


def test_fresh_recordings_pass_and_broken_videos_fail(game):
    fresh, real = game
    assert np.mean([within(real, f) for f in fresh]) > 0.85
    rng = np.random.default_rng(0)
    frozen = np.repeat(fresh[0][:1], 200, 0)
    patch = np.tile(toy.TILES[toy.FLOOR], (4, 4, 1))
    still_texture = np.repeat(patch[None], 200, 0)
    moving_texture = np.stack([np.roll(patch, t, 1) for t in range(200)])
    noise = rng.integers(0, 256, fresh[0].shape, dtype=np.uint8)
    dark, grey = fresh[0] // 2, np.repeat(fresh[0].mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    broken = {
        "frozen": frozen, "one texture": still_texture, "one texture that moves": moving_texture, "noise": noise,
        "half as bright": dark, "no colour": grey,
    }  # fmt: skip
    assert {name: within(real, video) for name, video in broken.items()} == dict.fromkeys(broken, 0.0)


def test_a_frozen_video_fails_by_its_motion_alone(game):
    fresh, real = game
    frozen = real.within(block_numbers(np.repeat(fresh[0][:1], 100, 0)))
    assert not frozen[:, NUMBERS.index("motion")].any()
    assert frozen[:, NUMBERS.index("contrast")].all(), "brightness and contrast do not see it"


def test_the_section_counts_blocks(game):
    fresh, real = game
    frozen = np.repeat(fresh[1][:1], 150, 0)
    half = np.concatenate([fresh[0][:100], np.repeat(fresh[0][99:100], 50, 0)])
    beside = {"frozen": [frozen], "too short": [frozen[:10]], "half": [half[:100], half]}
    items = list(block_metrics(np.stack([fresh[2][:150], half]), beside, real, 0))
    figures = {m.name: m for m in items if not isinstance(m, Series)}
    true = np.concatenate([block_numbers(fresh[2][:150]), block_numbers(half)])
    assert figures["stability_within"].value == pytest.approx(real.within(true).all(-1).mean())
    assert (figures["stability_within"].n, figures["stability_within"].n_clips) == (6, 2)
    share = real.within(np.concatenate([block_numbers(half[:100]), block_numbers(half)])).all(-1).mean()
    assert figures["stability_within"].baselines == {"frozen": 0.0, "half": pytest.approx(share)}
    assert figures["stability_last_within"].baselines == {"frozen": 0.0, "half": 0.0}, "videos that are as long"
    assert figures["stability_last_within"].value <= 0.5 and figures["stability_last_within"].n == 2
    assert (
        figures["stability_motion"].value == pytest.approx(real.within(true)[:, 5].mean())
        and figures["stability_motion"].value < 1
    )
    motion = next(c for c in items if isinstance(c, Series) and c.name == "stability_motion")
    assert motion.x == (50, 100, 150) and motion.lines["0.5%"] == (real.low[5],) * 3
    assert motion.lines["world"][2] == pytest.approx(true[:, 5].reshape(2, 3).mean(0)[2])


def test_too_few_recorded_blocks_are_said(game):
    fresh, _ = game
    assert RealRange.of([f[:60] for f in fresh]) is None and RealRange.of([]) is None
    (metric,) = block_metrics(np.stack(fresh)[:, :100], {}, None, 0)
    assert metric.n == 0 and "20 blocks of 50 frames" in metric.description


def test_actions_go_on_with_the_next_clip():
    def clip(first, n):
        return Clip(frames=np.zeros((n, 8, 8, 3), np.uint8), actions={"a": np.arange(first, first + n)})

    clips = [clip(0, 6), clip(10, 4)]  # the last row of each is padding: 5 and 13
    rows = cycled_actions(clips, 3, 12)["a"]
    assert rows.tolist() == [
        [2, 3, 4, 10, 11, 12, 0, 1, 2, 3, 4, 10],
        [12, 0, 1, 2, 3, 4, 10, 11, 12, 0, 1, 2],
    ]


def test_worlds_that_hold_together_and_worlds_that_do_not(tmp_path):
    dataset = toy.write_dataset(tmp_path / "data", n=40, n_steps=150)
    config = EvalConfig(
        clips=4, single_steps=10, free_run_steps=5, inverse_steps=0, stability_steps=150, stability_runs=4
    )
    values = {}
    for predict in (toy.perfect, toy.copying, toy.noise):
        sections = evaluate(toy.ToyWorld(predict), dataset, config).sections
        section = next(s for s in sections if s.name == "stability")
        values[predict.__name__] = figure = next(f for f in section.metrics if f.name == "stability_within")
        assert (
            figure.n == 12 and figure.baselines["standing still"] == 0 and figure.baselines["held-out recordings"] > 0.8
        )
    assert values["perfect"].value > 0.8 and values["copying"].value == values["noise"].value == 0


def test_worlds_without_actions_run_by_themselves(tmp_path):
    dataset = toy.write_dataset(tmp_path / "data", n=40, n_steps=150)
    config = EvalConfig(clips=3, single_steps=10, free_run_steps=5, samples=1, stability_steps=100, stability_runs=3)
    section = next(s for s in evaluate(OpenWorld(random_walk), dataset, config).sections if s.name == "stability")
    assert "by itself" in section.description and section.metrics[0].n == 6
    assert section.metrics[0].value > 0.5 and "the game itself, same actions" not in section.metrics[0].baselines


def test_a_run_whose_episode_ends_begins_again():
    """A counter per stream: stream 1 ends at 3."""

    class Session:
        n = 2

        def reset(self, frames, actions, seed=None, streams=None):
            rows = list(range(2)) if streams is None else streams
            self.seen = [*getattr(self, "seen", []), (rows, seed, actions["a"].tolist())]
            self.count = getattr(self, "count", np.zeros(2, int))
            self.count[rows] = frames[:, -1, 0, 0, 0]

        def step(self, action):
            self.count = self.count + action["a"]
            frames = np.broadcast_to(self.count[:, None, None, None], (2, 1, 1, 3)).astype(np.uint8)
            return SimpleNamespace(frame=frames, terminated=np.array([False, self.count[1] == 3]))

    session = Session()
    spec = SimpleNamespace(actions={"a": None}, classes=(), goal=False)
    world = SimpleNamespace(spec=spec, session=lambda n: session)
    clips = [Clip(frames=np.full((4, 1, 1, 3), i, np.uint8), actions={"a": np.arange(4) + 10 * i}) for i in range(2)]
    starts = Starts.at(clips, [(0, 1), (1, 1)], 2, 1)
    runs = roll_long(world, starts, {"a": np.ones((2, 6), int)}, 6, 7)
    assert runs[:, :, 0, 0, 0].tolist() == [[1, 2, 3, 4, 5, 6], [2, 3, 2, 3, 2, 3]]
    assert session.seen == [([0, 1], 7, [[0], [10]])] + [([1], None, [[10]])] * 3


@pytest.mark.parametrize("steps", [-1, 1, 49])
def test_runs_shorter_than_a_block_are_refused(steps):
    with pytest.raises(UserError, match=f"stability_steps is {steps}; it must be 50"):
        EvalConfig(stability_steps=steps)
