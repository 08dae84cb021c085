"""Nats per code against predictors worked out one code at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from evaluate import toy, toy_clips
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.results import MetricBuilder, Series
from reelworld.evaluate.sections import likelihood as module
from reelworld.evaluate.sections.likelihood import (
    CODES,
    COPY,
    POSITION,
    TEXTS,
    UNIFORM,
    UNIGRAM,
    CodePredictors,
    WholeClips,
    code_metrics,
)

K, N = 5, 3


@pytest.fixture(scope="module")
def train():
    """Codes that often stay, differently often by code, and differ by place."""
    rng = np.random.default_rng(0)
    codes = np.zeros((40, 4, N), np.int64)
    codes[:, 0] = rng.choice(K - 1, (40, N), p=[0.4, 0.3, 0.2, 0.1])  # the last code never occurs
    codes[:, 0, 2] = 1
    for p in range(1, 4):
        stays = rng.random((40, N)) < np.array([0.9, 0.5, 0.2, 0.1, 0.5])[codes[:, p - 1]]
        codes[:, p] = np.where(stays, codes[:, p - 1], rng.choice(K - 1, (40, N)))
    return codes


def shares(values):
    """Add-one shares of a list of codes."""
    values = list(values)
    return [(values.count(k) + 1) / (len(values) + K) for k in range(K)]


def test_the_predictors_count_and_copy(train):
    predictors = CodePredictors.fit(train, K)
    anywhere, first = shares(train.reshape(-1).tolist()), shares(train[:, 0].reshape(-1).tolist())
    pairs = [(a, b) for w, p, n in product(range(40), range(3), range(N)) for a, b in [train[w, p : p + 2, n].tolist()]]
    usual = (sum(a == b for a, b in pairs) + 1) / (len(pairs) + 2)
    stay = [(sum(a == b == k for a, b in pairs) + usual) / (sum(a == k for a, _ in pairs) + 1) for k in range(K)]
    np.testing.assert_allclose(predictors.anywhere, anywhere, rtol=1e-12)
    np.testing.assert_allclose(predictors.first, first, rtol=1e-12)
    np.testing.assert_allclose(predictors.stay, stay, rtol=1e-12)
    test = np.random.default_rng(1).integers(0, K, (6, 4, N))
    nats = predictors.nll(test)
    for w, p, n in product(range(6), range(4), range(N)):
        now = test[w, p, n]
        assert nats[UNIGRAM][w, p, n] == pytest.approx(-math.log(anywhere[now]))
        assert nats[UNIFORM][w, p, n] == pytest.approx(math.log(K))
        if p == 0:
            expected = first[now]
        elif now == (before := test[w, p - 1, n]):
            expected = stay[now]
        else:
            expected = (1 - stay[before]) * anywhere[now] / (1 - anywhere[before])
        assert nats[COPY][w, p, n] == pytest.approx(-math.log(expected))


def test_every_predictor_is_a_distribution(train):
    predictors = CodePredictors.fit(train, K)
    every = np.repeat(np.arange(K)[:, None, None], N, 2)
    for before in range(K):
        window = np.concatenate([np.full_like(every, before), every], 1)
        for name, nats in predictors.nll(window).items():
            np.testing.assert_allclose(np.exp(-nats[:, 1]).sum(0), 1.0, rtol=1e-9, err_msg=name)
    for name, nats in predictors.nll(every).items():
        np.testing.assert_allclose(np.exp(-nats[:, 0]).sum(0), 1.0, rtol=1e-9, err_msg=name)


def test_shares_by_place_lean_on_the_whole_grid_as_leaving_one_out_says(train):
    predictors = CodePredictors.fit(train, K)

    def table(strength, left_out=None):
        counts = np.zeros((N, K))
        for p, n in product(range(4), range(N)):
            np.add.at(counts[n], train[:, p, n], 1)
        if left_out is not None:
            counts[left_out] -= 1
        return (counts + strength * predictors.anywhere) / (counts.sum(1, keepdims=True) + strength)

    def likelihood(strength):
        places = [(n, int(train[w, p, n])) for w, p, n in product(range(40), range(4), range(N))]
        return sum(math.log(table(strength, place)[place]) for place in places)

    best = max(module.STRENGTHS[:6], key=likelihood)
    np.testing.assert_allclose(predictors.position, table(best), rtol=1e-12)
    assert predictors.nll(train)[POSITION].mean() < predictors.nll(train)[UNIGRAM].mean()


def test_copying_wins_where_codes_stay(train):
    nats = CodePredictors.fit(np.repeat(train[:, :1], 4, 1), K).nll(np.repeat(train[:5, :1], 4, 1))
    assert nats[COPY][:, 1:].max() < 0.1 < nats[UNIGRAM].min()


def whole_clips(n=7, classes=False):
    frames = np.concatenate([toy.episode(i).frames[: 8 * 3].reshape(3, 8, 32, 32, 3) for i in range(3)])[:n]
    return WholeClips(
        frames=frames,
        clip=np.arange(n) // 3,
        class_id=np.arange(n) % 2 if classes else None,
    )


def codes_of(world, whole):
    return world.model.encode(torch.from_numpy(whole.frames) / 127.5 - 1).video.numpy()


def measured(nll, clip):
    items = list(code_metrics(MetricBuilder(TEXTS, clip), nll))
    return {m.name: m for m in items if not isinstance(m, Series)}, items[-1]


@pytest.mark.parametrize("batch_tokens", [1, 130, 100_000])
def test_the_world_is_told_what_it_wants_to_know(monkeypatch, batch_tokens):
    """In batches of any size every clip comes with its own first frames and class."""
    monkeypatch.setattr(module, "BATCH_TOKENS", batch_tokens)
    whole = whole_clips(classes=True)
    world = toy_clips.clip_world(toy_clips.standing, prior=toy_clips.Prior(cond_frames=3))
    codes = codes_of(world, whole)
    nats = module.world_nll(world, whole)
    shown = whole.frames[:, :3].mean((1, 2, 3, 4))[:, None, None] + 1000 * whole.class_id[:, None, None]
    np.testing.assert_allclose(nats, codes / 100 + shown, rtol=1e-5)


def test_the_section_holds_together():
    whole = whole_clips()
    world = toy_clips.clip_world(toy_clips.standing)
    codes = codes_of(world, whole)
    nats = CodePredictors.fit(codes[:4], toy_clips.N_CODES).nll(codes)
    figures, curve = measured({"world": module.world_nll(world, whole), **nats}, whole.clip)
    figure = figures["nll_per_code"]
    assert figure.value == pytest.approx((codes / 100).mean()) and figure.n == codes.size and figure.n_clips == 3
    assert dict(figure.baselines) == {k: pytest.approx(v.mean()) for k, v in nats.items()}
    best = min(nats, key=lambda k: nats[k].mean())
    over = figures["nll_over_best"]
    assert over.value == pytest.approx((codes / 100 - nats[best]).mean()) and best in over.description
    later = figures["nll_per_later_code"]
    assert later.value == pytest.approx((codes[:, 1:] / 100).mean()) and later.n == codes[:, 1:].size
    assert later.baselines[COPY] == pytest.approx(nats[COPY][:, 1:].mean())
    assert curve.lines["world"] == pytest.approx(tuple((codes / 100).mean((0, 2)))) and len(curve.x) == 4


def test_the_difference_is_paired():
    """Clips differ wildly in difficulty; the lead over the best predictor does not."""
    hard = np.random.default_rng(0).lognormal(3, 1, (30, 1, 1)) + np.zeros((30, 4, N))
    nats = {"world": hard, COPY: hard + 0.5, UNIGRAM: 2 * hard, UNIFORM: 3 * hard}
    figures = measured(nats, np.arange(30))[0]
    over = figures["nll_over_best"]
    assert over.value == pytest.approx(-0.5) and over.high - over.low < 1e-9
    assert figures["nll_per_code"].high - figures["nll_per_code"].low > 1


def test_dynamics_without_exact_nats_get_no_section():
    spec = toy_clips.clip_world(toy_clips.standing).spec
    assert CODES.applies(spec, None, EvalConfig())
    assert not CODES.applies(replace(spec, likelihood=None), None, EvalConfig())
    assert not CODES.applies(toy.ToyWorld(toy.perfect).spec, None, EvalConfig())
