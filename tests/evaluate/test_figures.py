"""Metrics and intervals against explicit formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reelworld.evaluate.games import carracing, minigrid, tiles
from reelworld.evaluate.metrics import bootstrap, db, fraction_interval, per_clip
from reelworld.evaluate.results import MetricBuilder, Text
from reelworld.evaluate.sections import (
    controllability,
    likelihood,
    prediction,
    reward,
    simulator,
    stability,
    tokenizer,
    video_metrics,
)
from reelworld.systems.genie import evaluate as genie

TEXTS = {"exact": Text("Exact, {h} steps", ""), "psnr": Text("PSNR after {h} steps", ""), "gain": Text("", "")}


def share_figure(name, hits, trials, kind, seed=0):
    """A fraction from hits and trials per clip."""
    clip = np.repeat(np.arange(len(trials)), trials)
    rows = np.concatenate([np.arange(n) < h for h, n in zip(hits, trials, strict=True)])
    return MetricBuilder(TEXTS, clip, seed).fraction(name, rows, kind)


def builder(n):
    return MetricBuilder(TEXTS, np.arange(n))


def test_a_share_is_hits_over_trials_with_a_clip_bootstrap():
    rng = np.random.default_rng(0)
    trials = rng.integers(5, 50, 40)
    hits = rng.binomial(trials, 0.7)
    figure = share_figure("exact_h1", hits, trials, "frames", seed=3)
    assert figure.value == hits.sum() / trials.sum()
    assert (figure.n, figure.n_clips) == (trials.sum(), 40)
    # an independent bootstrap: redraw clips one by one
    other = np.random.default_rng(99)
    draws = [(lambda i: hits[i].sum() / trials[i].sum())(other.integers(0, 40, 40)) for _ in range(4000)]
    low, high = np.percentile(draws, [2.5, 97.5])
    assert figure.low == pytest.approx(low, abs=0.006)
    assert figure.high == pytest.approx(high, abs=0.006)


def test_intervals_cover_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(1)
    covered = 0
    for i in range(200):
        p = rng.beta(8, 4, 60)  # clips differ
        hits = rng.binomial(20, p)
        figure = share_figure("exact_h1", hits, np.full(60, 20), "frames", seed=i)
        covered += figure.low <= 8 / 12 <= figure.high
    assert 180 <= covered <= 199


def test_clips_and_not_frames_are_resampled():
    """Frames of one clip that all agree must not narrow the interval."""
    hits = np.array([100, 0, 100, 0, 100, 0])
    figure = share_figure("exact_h1", hits, np.full(6, 100), "frames")
    assert figure.high - figure.low > 0.6


def test_perfect_and_failed_shares_get_the_exact_binomial_bound():
    perfect = share_figure("exact_h1", np.full(4, 10), np.full(4, 10), "frames")
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(0.9119, abs=0.0001)
    failed = share_figure("exact_h1", np.zeros(4, int), np.full(4, 10), "frames")
    assert (failed.low, failed.value) == (0.0, 0.0)
    assert failed.high == pytest.approx(0.0881, abs=0.0001)  # Clopper-Pearson for 0 of 40


def test_psnr_pools_the_squared_error():
    figure = MetricBuilder(TEXTS, np.array([0, 0, 1])).psnr("psnr_h1", np.array([10.0, 20.0, 0.0]))
    assert figure.value == pytest.approx(20 * math.log10(255 / math.sqrt(10)))
    assert builder(3).psnr("psnr_h1", np.zeros(3)).value == math.inf


def test_gains_are_paired():
    rng = np.random.default_rng(0)
    difficulty = rng.lognormal(3, 1.5, 30)  # clips differ wildly, the factor between the two does not
    figure = builder(30).gain("gain_h1", difficulty, 2 * difficulty)
    assert figure.value == pytest.approx(10 * math.log10(2))
    assert figure.high - figure.low < 1e-9
    assert builder(3).gain("gain_h1", np.zeros(3), np.zeros(3)).value == 0.0


def test_one_clip_has_no_interval():
    make = MetricBuilder(likelihood.TEXTS, np.zeros(2, int))
    figure = make.mean("nll_per_frame", np.array([1.0, 2.0]), "frames", "nats", kind="exact")
    assert figure.value == 1.5 and math.isnan(figure.low) and math.isnan(figure.high)
    assert "exact" in figure.description


def test_clips_without_trials_do_not_count():
    assert share_figure("exact_h1", np.array([1, 0, 2]), np.array([2, 0, 4]), "frames").n_clips == 2


def test_the_seed_decides_the_interval():
    totals = np.random.default_rng(0).random((20, 2)) + 0.1

    def statistic(t):
        return t[..., 0] / t[..., 1]

    assert bootstrap(totals, statistic, 1) == bootstrap(totals, statistic, 1) != bootstrap(totals, statistic, 2)


def test_per_clip_and_db():
    np.testing.assert_array_equal(per_clip(np.array([[1, 2], [3, 4], [5, 6]]), np.array([0, 2, 0]), 3), [14, 0, 7])
    assert db(255.0**2) == 0 and db(0.0) == np.inf


def test_fractions_have_one_interval():
    assert fraction_interval(np.full(4, 10), np.full(4, 10)) == (1.0, pytest.approx(0.9119, abs=1e-4), 1.0)


def test_texts_fill_in_their_values():
    make = builder(1)
    assert make.psnr("psnr_h4", np.ones(1)).label == "PSNR after 4 steps"
    assert make.psnr("psnr_h1", np.ones(1)).label == "PSNR after 1 step"
    modules = (controllability, likelihood, prediction, reward, simulator, stability, tokenizer, video_metrics)
    values = {"kind": "bound", "k": "8", "best": "a copy", "many": "64", "usual": "2,048", "frames": "16"}
    for module in (*modules, carracing, minigrid, tiles, genie):
        for name in module.TEXTS:
            metric = MetricBuilder(module.TEXTS, np.zeros(1, int)).build(f"{name}_h2", (0, 0, 0), "", 1, "x", **values)
            assert "{" not in metric.label + metric.description
