"""Expected rewards and terminations against numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reelworld.evaluate.sections.reward import outcome_metrics
from reelworld.types import Clip, Score


def scored(rewards, expected, ends, odds):
    """A clip of as many steps as there are rewards, and what a world said; the last row of a clip is padding."""
    frames = np.zeros((len(expected) + 1, 8, 8, 3), np.uint8)
    clip = Clip(
        frames=frames,
        rewards=None if rewards is None else np.array([*rewards, 77], np.float32),
        terminated=None if ends is None else np.array([*ends, True]),
    )
    said = {"rewards": np.array(expected, np.float32), "terminated": np.array(odds, np.float32)}
    return clip, Score(nats_per_frame=1.0, kind="exact", **said)


ONE = scored([0, 0, 1], [0.1, 0, 0.6], [False, False, True], [0.2, 0.1, 0.9])
TWO = scored([0, 0.5, 0, 0], [0, 0.5, 0.3, 0], [False, False, False, True], [0.6, 0, 0, 0.4])


def figures(*pairs):
    return {m.name: m for m in outcome_metrics(pairs, 0)}


def test_by_hand():
    made = figures(ONE, TWO)
    rewards = {"reward_r2", "reward_auc", "reward_error", "reward_error_paid"}
    assert set(made) == rewards | {"termination_auc", "termination_recall", "termination_precision"}
    apart = made["reward_auc"]
    assert (apart.value, apart.n) == (1.0, 2), "0.6 and 0.5 against 0.1, 0, 0, 0.3, 0"
    error = made["reward_error"]
    assert (error.value, error.n, error.n_clips) == (pytest.approx((0.1 + 0.4 + 0.3) / 7), 7, 2)
    mean = 1.5 / 7
    assert error.baselines["always zero"] == pytest.approx(mean)
    assert error.baselines["always the mean reward"] == pytest.approx((5 * mean + (1 - mean) + (0.5 - mean)) / 7)
    assert error.low <= error.value <= error.high
    assert error.low == pytest.approx(0.3 / 4), "only the second clip drawn"
    paid = made["reward_error_paid"]
    assert (paid.value, paid.n) == (pytest.approx(0.4 / 2), 2)
    assert paid.baselines == pytest.approx({"always the mean reward": (1.5 - 2 * mean) / 2, "always zero": 0.75})
    foreseen, true = made["termination_recall"], made["termination_precision"]
    assert (foreseen.value, foreseen.n, foreseen.baselines) == (0.5, 2, {"never ends": 0.0})
    assert (true.value, true.n) == (0.5, 2)


def test_what_cannot_be_measured_is_left_out():
    silent = Clip(frames=np.zeros((4, 8, 8, 3), np.uint8)), Score(nats_per_frame=1.0, kind="exact")
    assert not list(outcome_metrics([silent], 0))
    unrewarded = scored(None, [0.5, 0.5], [False, True], [0.1, 0.2])
    assert set(figures(unrewarded, silent)) == {"termination_auc", "termination_recall"}
    assert figures(unrewarded)["termination_recall"].value == 0
    always_paid = scored([1, 2], [1, 1], None, [0.9, 0.9])
    made = figures(always_paid)
    assert set(made) == {"reward_r2", "reward_error"}
    assert made["reward_error"].value == 0.5
    assert math.isnan(made["reward_error"].low), "one clip"
    false_alarm = scored([0, 0], [0, 0], [False, False], [0.9, 0.1])
    assert set(figures(false_alarm)) == {"reward_error", "termination_precision"}


def test_explained_reward_by_hand():
    made = figures(ONE, TWO)["reward_r2"]
    true = np.array([0, 0, 1, 0, 0.5, 0, 0])
    expected = np.array([0.1, 0, 0.6, 0, 0.5, 0.3, 0])
    variance = ((true - true.mean()) ** 2).sum()
    assert made.value == pytest.approx(1 - ((true - expected) ** 2).sum() / variance)
    assert made.baselines == pytest.approx(
        {"always the mean reward": 0, "always zero": 1 - (true**2).sum() / variance}, abs=1e-12
    )
    confused = figures(scored([0, -1, 0, 2], [1, 0, 0, 2], None, [0] * 4))["reward_auc"]
    assert confused.value == pytest.approx((0 + 0.5 + 1 + 1) / 4), "any reward counts"
    right = figures(scored([0, 3, 1], [0, 3, 1], None, [0, 0, 0]))["reward_r2"]
    assert right.value == 1
    assert "reward_r2" not in figures(scored([2, 2], [1, 2], None, [0, 0])), "nothing to explain"


def auc(pairs):
    """Every end against every other step, one by one."""
    ends = [odds[t] for true, odds in pairs for t in np.flatnonzero(true)]
    others = [odds[t] for true, odds in pairs for t in np.flatnonzero(~true)]
    return np.mean([1.0 if e > o else 0.5 if e == o else 0.0 for e in ends for o in others])


def test_ends_told_apart_pair_by_pair():
    rng = np.random.default_rng(0)
    pairs, clips = [], []
    for n in (5, 9, 1, 14, 6):
        ends, odds = rng.random(n) < 0.3, rng.integers(0, 5, n) / 5  # many ties
        pairs.append((ends, odds.astype(np.float32)))
        clips.append(scored(None, [0] * n, ends, odds))
    made = figures(*clips)["termination_auc"]
    assert made.value == pytest.approx(auc(pairs)) and made.n == sum(e.sum() for e, _ in pairs)
    assert made.low <= made.value <= made.high and made.baselines == {"chance": 0.5}
    sure = figures(scored(None, [0] * 4, [False, False, True, True], [0.1, 0.2, 0.3, 0.4]))["termination_auc"]
    assert sure.value == 1
    wrong = figures(scored(None, [0] * 4, [True, True, False, False], [0.1, 0.2, 0.3, 0.4]))["termination_auc"]
    assert wrong.value == 0
    blind = figures(scored(None, [0] * 4, [True, False, False, False], [0.5] * 4))["termination_auc"]
    assert blind.value == 0.5
    assert "termination_auc" not in figures(scored(None, [0] * 2, [True, True], [0.5] * 2)), "nothing else to tell from"


def test_the_interval_of_ends_told_apart_resamples_clips():
    """Drawing only one clip gives that clip's own number; the interval reaches between those."""
    good = scored(None, [0] * 4, [False, True, False, False], [0.1, 0.9, 0.2, 0.1])
    bad = scored(None, [0] * 4, [False, True, False, False], [0.5, 0.1, 0.5, 0.5])
    made = figures(good, bad)["termination_auc"]
    assert (made.low, made.high) == (0, 1)
