"""Controllability: worlds that follow actions, worlds that do not, and too few clips."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluate import toy
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.sections.controllability import DELTAS


@pytest.fixture(scope="module")
def clips():
    return [toy.episode(seed) for seed in range(10)]


def test_at_least_so_many_starts_spread_over_all_clips(clips):
    starts = toy.control_starts(clips, 24)
    assert np.bincount(starts.clip).tolist() == [3] * 10
    assert starts.future.shape[1] == 8
    assert sorted(set(toy.control_starts(clips, 4).clip.tolist())) == [0, 1, 2, 3], "more clips than starts"


def control(predict, clips, n=40):
    return toy.measured(DELTAS, toy.evaluation_of(toy.ToyWorld(predict), clips, EvalConfig(control_starts=n)))


def test_worlds_that_listen_and_worlds_that_do_not(clips):
    perfect, section = control(toy.perfect, clips)
    assert set(perfect) == {f"{stem}_h{h}" for stem in ("delta_shuffled", "delta_uniform") for h in (1, 4, 8)}
    assert all(f.value == math.inf for f in perfect.values())
    copying, _ = control(toy.copying, clips)
    assert all((f.value, f.low, f.high) == (0, 0, 0) for f in copying.values())
    noise, _ = control(toy.noise, clips)
    assert all(f.value == 0 for f in noise.values()), "the same noise under other actions"
    late, _ = control(toy.late, clips, 200)
    assert late["delta_shuffled_h4"].low > 0 and late["delta_shuffled_h4"].n_clips == 10
    assert list(section.series[0].lines) == ["actions of another clip", "random actions"]


def test_one_clip_has_no_other(clips):
    figures, section = control(toy.late, clips[:1])
    missing = figures["delta_shuffled_missing"]
    assert missing.n == 0 and "second clip, and one came" in missing.description
    assert math.isnan(figures["delta_uniform_h4"].low), "and no interval"
    assert list(section.series[0].lines) == ["random actions"]


def test_frames_past_the_end_of_a_clip_do_not_count():
    clips = [toy.episode(seed, 4 + 12 * (seed % 2)) for seed in range(10)]
    figures, _ = control(toy.perfect, clips, 20)
    starts = toy.control_starts(clips, 20)
    for h in (1, 4, 8):
        assert figures[f"delta_uniform_h{h}"].n == starts.valid[:, h - 1].sum()
        assert figures[f"delta_shuffled_h{h}"].n <= starts.valid[:, h - 1].sum()
        assert figures[f"delta_shuffled_h{h}"].value == figures[f"delta_uniform_h{h}"].value == math.inf
    assert 0 < figures["delta_shuffled_h8"].n < 10
