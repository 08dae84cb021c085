"""Expected reward and termination of each step, teacher-forced.

Most steps of most games have no reward and do not end the episode, so constant predictors are nearly always right. They
are reported as baselines, and steps with a reward and ends of episodes are reported separately.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reelworld.evaluate.metrics import bootstrap
from reelworld.evaluate.results import Metric, MetricBuilder, Text
from reelworld.evaluate.samples import Evaluation
from reelworld.evaluate.sections import Item, Section
from reelworld.types import Clip, Score

MEAN, ZERO, NEVER, CHANCE = "always the mean reward", "always zero", "never ends", "chance"

TEXTS = {
    "reward_r2": Text(
        "Reward R2", "R2 of the expected reward: 1 minus its squared error over the variance of the recorded rewards."
    ),
    "reward_error": Text(
        "Reward error",
        "Mean absolute error of the expected reward of a step. Where few steps pay, always expecting zero is hard to "
        "beat: the next line is about those that do.",
        "lower",
    ),
    "reward_error_paid": Text("... of paid steps", "The same, only steps that pay something.", "lower"),
    "reward_auc": Text(
        "Reward AUC",
        "Probability that a step that pays is expected to pay more than one that does not.",
    ),
    "termination_auc": Text(
        "Termination AUC",
        "Probability that a step that ends the episode gets a higher probability of that than one that does not.",
    ),
    "termination_recall": Text(
        "Termination recall", "Steps that end the episode with a predicted probability above one half."
    ),
    "termination_precision": Text(
        "Termination precision", "Of the steps with a predicted probability above one half, those that end the episode."
    ),
}

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
"""Recorded and expected values of the steps of each clip, (S,) each."""


def measure(evaluation: Evaluation) -> Iterator[Item]:
    """Compare expected rewards and ends with the recorded ones; nothing where either side has none."""
    yield from outcome_metrics(evaluation.scores, evaluation.seed)


def outcome_metrics(scored: Sequence[tuple[Clip, Score]], seed: int) -> Iterator[Metric]:
    """Build the metrics of recorded clips and their scores."""
    rewards = [_last(c.rewards, s.rewards) for c, s in scored if c.rewards is not None and s.rewards is not None]
    ends = [
        _last(c.terminated, s.terminated) for c, s in scored if c.terminated is not None and s.terminated is not None
    ]
    if rewards:
        yield from _reward_metrics(rewards, seed)
    if ends:
        yield from _end_metrics(ends, seed)


def _last(recorded: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Align recorded steps with the last ones, which are scored."""
    return recorded[:-1][-len(expected) :], expected


def _owners(pairs: Pairs) -> np.ndarray:
    """Return the clip of each step, int64 (n,)."""
    return np.repeat(np.arange(len(pairs)), [len(actual) for actual, _ in pairs])


def _reward_metrics(pairs: Pairs, seed: int) -> Iterator[Metric]:
    make = MetricBuilder(TEXTS, _owners(pairs), seed)
    actual, expected = (np.concatenate(column).astype(np.float64) for column in zip(*pairs, strict=True))
    mean = actual.mean()
    if actual.std() > 0:
        variance = np.square(mean - actual).sum()
        beside = {k: float(1 - np.square(v - actual).sum() / variance) for k, v in ((MEAN, mean), (ZERO, 0.0))}
        yield make.r2("reward_r2", actual[:, None], expected[:, None], "steps", beside)
    if (actual != 0).any() and (actual == 0).any():
        paid = [(recorded != 0, number) for recorded, number in pairs]
        yield _auc(make, "reward_auc", paid, "paid steps")
    errors = {MEAN: np.abs(mean - actual), ZERO: np.abs(actual)}
    for name, mask in (("reward_error", np.ones_like(actual, bool)), ("reward_error_paid", actual != 0)):
        if mask.any() and (name == "reward_error" or not mask.all()):
            yield make.mean(name, np.abs(expected - actual), "steps", mask=mask, baselines=errors)


def _end_metrics(pairs: Pairs, seed: int) -> Iterator[Metric]:
    make = MetricBuilder(TEXTS, _owners(pairs), seed)
    ends, odds = (np.concatenate(column) for column in zip(*pairs, strict=True))
    predicted = odds > 0.5
    if ends.any() and not ends.all():
        yield _auc(make, "termination_auc", pairs, "ends")
    if ends.any():
        yield make.fraction("termination_recall", predicted, "ends", ends, {NEVER: 0.0})
    if predicted.any():
        yield make.fraction("termination_precision", ends, "predicted ends", predicted)


def _auc(make: MetricBuilder, name: str, pairs: Pairs, trials: str) -> Metric:
    """Build the AUC: probability that a step of one kind has a higher value than another step; ties count half.

    Args:
        make: Builder with the texts.
        name: Of the metric.
        pairs: Per clip, True for steps of the kind, bool (S,), and the world's number for each, float (S,).
        trials: Name of the steps of the kind.
    """
    n_clips = len(pairs)
    owner = np.concatenate([np.full(actual.sum(), i) for i, (actual, _) in enumerate(pairs)])
    of_kind = np.concatenate([number[actual] for actual, number in pairs])
    wins = np.zeros((n_clips, n_clips))  # of the kind in clip i over the other steps of clip j
    for j, (actual, number) in enumerate(pairs):
        others = np.sort(number[~actual])
        below = np.searchsorted(others, of_kind, "left") + np.searchsorted(others, of_kind, "right")
        wins[:, j] = np.bincount(owner, below / 2, minlength=n_clips)
    kind, rest = (np.array([mask.sum() for mask in masks]) for masks in zip(*((a, ~a) for a, _ in pairs), strict=True))

    def statistic(weights: np.ndarray) -> np.ndarray:
        out: np.ndarray = ((weights @ wins) * weights).sum(-1) / ((weights @ kind) * (weights @ rest))
        return out

    interval = bootstrap(np.eye(n_clips), statistic, make.seed)
    return make.build(name, interval, "", int(kind.sum()), trials, {CHANCE: 0.5}, n_clips)


SECTION = Section(
    name="reward",
    title="Reward and termination",
    description="From true frames, one step under the true action: the expected reward and the probability that the "
    "episode ends.",
    measure=measure,
    applies=lambda spec, _data, _config: spec.likelihood is not None,
)
