"""Several futures of a start, against loops over pairs, and worlds with known results."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from evaluate import toy, toy_clips
from reelworld.evaluate.games.agent import AgentFinder
from reelworld.evaluate.games.tiles import TEXTS as AGENT_TEXTS
from reelworld.evaluate.games.tiles import Cells, agent_metrics
from reelworld.evaluate.metrics import COPY, db
from reelworld.evaluate.results import MetricBuilder, Series
from reelworld.evaluate.samples import Starts, roll
from reelworld.evaluate.sections.prediction import OTHERS, SINGLE, TEXTS, TRUTH, sample_metrics
from reelworld.evaluate.tiles import TileAtlas

HORIZONS = (1, 2, 4)
K = 5


@pytest.fixture(scope="module")
def clips():
    return [toy.episode(i, n_steps=12) for i in range(9)]


@pytest.fixture(scope="module")
def starts(clips):
    return Starts.drawn(clips, 2, 6, 2, seed=0)


@pytest.fixture(scope="module")
def game(clips):
    atlas = TileAtlas.build(c.frames for c in clips)
    return atlas, AgentFinder.learn(atlas, [atlas.true_ids(c.frames) for c in clips])


def measure(draw, starts, game, n=K):
    samples = draw_samples(toy_clips.OpenWorld(draw), starts, n, seed=0)
    metrics, series = section_of(starts, samples, HORIZONS, game)
    return metrics, samples, series


def draw_samples(world, starts, n_samples, seed):
    return roll(world, starts, seed, n_samples=n_samples)


def section_of(starts, samples, horizons, game):
    """Metrics by name, and series, of samples and of the agent in them."""
    items = list(sample_metrics(MetricBuilder(TEXTS, starts.clip), starts, samples, horizons))
    if game is not None:
        cells = Cells.find(game[1], game[0], starts, samples, horizons)
        make = MetricBuilder(AGENT_TEXTS, starts.clip)
        items += agent_metrics(make, starts, cells, samples.shape[1], horizons)
    series = [item for item in items if isinstance(item, Series)]
    return {m.name: m for m in items if not isinstance(m, Series)}, series


def mse(a, b):
    return ((a.astype(float) - b.astype(float)) ** 2).mean()


def test_every_sample_begins_at_its_start_with_noise_of_its_own(starts):
    seen = []

    def draw(frame, rng):
        seen.append(frame)
        return rng.integers(0, 256, frame.shape, dtype=np.uint8)

    samples = draw_samples(toy_clips.OpenWorld(draw), starts, 3, seed=4)
    assert samples.shape == (18, 3, 6, 32, 32, 3) and samples.dtype == np.uint8
    firsts = np.stack(seen[: 18 * 3]).reshape(18, 3, 32, 32, 3)
    assert (firsts == starts.context[:, None, -1]).all()
    flat = samples.reshape(18 * 3, -1)
    assert len(np.unique(flat, axis=0)) == 18 * 3
    np.testing.assert_array_equal(samples, draw_samples(toy_clips.OpenWorld(draw), starts, 3, seed=4))


@pytest.mark.parametrize("h", HORIZONS)
def test_figures_by_loops(starts, game, h):
    figures, samples, section = measure(toy_clips.random_walk, starts, game)
    true, last = starts.future[:, h - 1], starts.context[:, -1]
    mean = samples[:, :, h - 1].astype(float).mean(1)
    n = range(len(true))
    to_mean = np.mean([mse(true[i], mean[i]) for i in n])
    to_copy = np.mean([mse(true[i], last[i]) for i in n])
    each = np.array([[mse(true[i], samples[i, k, h - 1]) for k in range(K)] for i in n])
    pairs = np.mean([mse(samples[i, a, h - 1], samples[i, b, h - 1]) for i in n for a, b in combinations(range(K), 2)])
    others = np.mean([np.mean([mse(true[i], true[j]) for j in n if starts.clip[i] != starts.clip[j]]) for i in n])
    assert figures[f"psnr_mean_h{h}"].value == pytest.approx(float(db(to_mean)))
    assert figures[f"psnr_mean_h{h}"].baselines[COPY] == pytest.approx(float(db(to_copy)))
    assert figures[f"gain_mean_h{h}"].value == pytest.approx(float(db(to_mean) - db(to_copy)))
    assert figures[f"psnr_single_h{h}"].value == pytest.approx(float(db(each.mean())))
    assert figures[f"psnr_best_h{h}"].value == pytest.approx(float(db(each.min(1).mean())))
    apart = figures[f"sample_diversity_h{h}"]
    assert apart.value == pytest.approx(float(db(pairs)))
    assert apart.baselines == {TRUTH: pytest.approx(float(db(each.mean()))), OTHERS: pytest.approx(float(db(others)))}
    for name in ("psnr_mean", "gain_mean", "psnr_single", "psnr_best", "sample_diversity"):
        figure = figures[f"{name}_h{h}"]
        assert figure.n == 18 and figure.n_clips == 9 and figure.low <= figure.value <= figure.high
    pixels, agents = section
    assert pixels.lines[f"mean of {K} samples"][HORIZONS.index(h)] == figures[f"psnr_mean_h{h}"].value
    assert pixels.lines[SINGLE][HORIZONS.index(h)] == figures[f"psnr_single_h{h}"].value
    assert agents.lines[COPY][HORIZONS.index(h)] == figures[f"agent_h{h}"].baselines[COPY]


def agent_cell(frame):
    found = np.flatnonzero(toy.read(frame).reshape(-1) == toy.AGENT)
    return int(found[0]) if len(found) == 1 else None


@pytest.mark.parametrize("h", HORIZONS)
def test_the_agent_by_loops(starts, game, h):
    figures, samples, _ = measure(toy_clips.random_walk, starts, game)
    voted, single, copied = [], [], []
    for i in range(len(samples)):
        true = agent_cell(starts.future[i, h - 1])
        cells = [agent_cell(samples[i, k, h - 1]) for k in range(K)]
        voted.append(Counter(cells).most_common(1)[0][0] == true)
        single.append(np.mean([c == true for c in cells]))
        copied.append(agent_cell(starts.context[i, -1]) == true)
    figure = figures[f"agent_h{h}"]
    assert figure.value == np.mean(voted) and figure.n == 18
    assert figure.baselines == {COPY: pytest.approx(np.mean(copied)), SINGLE: pytest.approx(np.mean(single))}
    assert figures[f"gain_agent_h{h}"].value == pytest.approx(np.mean(voted) - np.mean(copied))
    assert figures[f"agent_single_h{h}"].value == pytest.approx(np.mean(single))
    assert figures[f"agent_lost_h{h}"].value == 0 and figures[f"agent_lost_h{h}"].high > 0


def test_a_standing_world_is_exactly_its_baseline(starts, game):
    figures, _, _ = measure(toy_clips.standing, starts, game)
    for h in HORIZONS:
        assert figures[f"gain_mean_h{h}"].value == 0 == figures[f"gain_agent_h{h}"].value
        assert figures[f"agent_h{h}"].value == figures[f"agent_h{h}"].baselines[COPY]
        assert figures[f"sample_diversity_h{h}"].value == np.inf, "it always draws the same"
        assert np.isfinite(figures[f"sample_diversity_h{h}"].baselines[TRUTH])


def test_the_world_that_made_the_recordings_draws_what_might_have_happened(game):
    """Two of its samples are as far apart as a sample and the truth, and their mean beats standing still."""
    clips = [toy.episode(100 + i, n_steps=12) for i in range(60)]
    figures, _, _ = measure(toy_clips.random_walk, Starts.drawn(clips, 2, 6, 1, seed=0), game, n=8)
    for h in (2, 4):
        apart = figures[f"sample_diversity_h{h}"]
        assert apart.value == pytest.approx(apart.baselines[TRUTH], abs=0.6)
        assert apart.value > apart.baselines[OTHERS]
    assert figures["gain_mean_h4"].low > 0
    assert figures["psnr_single_h4"].value < figures["psnr_mean_h4"].value < figures["psnr_best_h4"].value


@pytest.mark.parametrize(
    ("draw", "shares"),
    [(toy_clips.losing, {"none": 1.0, "several": 0}), (toy_clips.doubling, {"none": 0, "several": 1})],
)
def test_samples_without_one_agent_are_wrong_and_counted(starts, game, draw, shares):
    figures, _, _ = measure(draw, starts, game)
    assert figures["agent_h4"].value == 0 == figures["agent_h4"].baselines[SINGLE]
    assert figures["agent_lost_h4"].value == 1 and dict(figures["agent_lost_h4"].baselines) == shares


def test_one_lost_sample_does_not_outvote_the_others(starts, game):
    count = [0]

    def draw(frame, rng):
        count[0] += 1
        return toy_clips.losing(frame, rng) if count[0] % K else toy_clips.standing(frame, rng)

    samples = draw_samples(toy_clips.OpenWorld(draw), starts, K, seed=0)
    figures, _ = section_of(starts, samples, (1,), game)
    assert figures["agent_lost_h1"].value == pytest.approx(1 - 1 / K)
    assert figures["agent_h1"].value == figures["agent_h1"].baselines[COPY] > 0
    assert figures["agent_single_h1"].value == pytest.approx(figures["agent_h1"].value / K)


def test_starts_whose_agent_is_not_known_do_not_count(starts, game):
    """The agent may be on a tile that training never showed, before or after."""
    future, context = starts.future.copy(), starts.context.copy()
    future[0] = toy.draw(np.full((4, 4), toy.FLOOR))
    context[1, -1, :8, :8] = 77
    context[2, -1] = toy.draw(np.full((4, 4), toy.FLOOR))
    figures, _, _ = measure(toy_clips.standing, replace(starts, future=future, context=context), game)
    assert figures["agent_h2"].n == 16 == figures["gain_agent_h2"].n and figures["psnr_mean_h2"].n == 18


def test_games_without_an_agent_have_no_cells(starts):
    samples = draw_samples(toy_clips.OpenWorld(toy_clips.random_walk), starts, 2, seed=0)
    figures, series = section_of(starts, samples, HORIZONS, None)
    assert not [name for name in figures if "agent" in name] and len(series) == 1


def test_starts_past_the_end_of_a_clip_do_not_count(game):
    clips = [toy.episode(i, n_steps=3 if i % 2 else 12) for i in range(8)]
    figures, _, _ = measure(toy_clips.random_walk, Starts.drawn(clips, 2, 6, 1, seed=0), game)
    assert figures["psnr_mean_h1"].n == 8 == figures["agent_h1"].n
    assert figures["psnr_mean_h4"].n == 4 == figures["agent_h4"].n


def test_one_clip_has_no_other_starts(clips, game):
    figures, _, _ = measure(toy_clips.random_walk, Starts.drawn(clips[:1], 2, 6, 3, seed=0), game)
    assert np.isnan(figures["sample_diversity_h4"].baselines[OTHERS]) and np.isnan(figures["psnr_mean_h4"].low)
    assert len(figures) == 9 * len(HORIZONS)
