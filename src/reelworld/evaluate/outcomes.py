"""What a step brings, expected from the true past: the reward, and the end of the episode.

Most steps of most games pay nothing and end nothing, so expecting nothing is nearly always right. The figures
stand beside those who do that, and steps that pay and episodes that end are reported apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reelworld.evaluate.figures import (
    Figure,
    Section,
    bootstrap,
    build,
    per_clip,
    r2_figure,
    ratio_figure,
    share_figure,
)
from reelworld.types import Clip, Score

__all__ = ["measure_outcomes"]

MEAN, ZERO, NEVER, CHANCE = "always the mean reward", "always zero", "never ends", "chance"


def measure_outcomes(scored: Sequence[tuple[Clip, Score]], seed: int) -> Section | None:
    """Compare expected rewards and ends with the recorded ones.

    Args:
        scored: Recorded clips and what the world expected of their steps.
        seed: Of the bootstrap.

    Returns:
        None where the recordings have neither, or the world expects neither.
    """
    figures = [*_reward_figures(scored, seed), *_end_figures(scored, seed)]
    if not figures:
        return None
    return Section(
        name="outcomes",
        label="Does it know what a step brings?",
        explanation="From true frames, one step under the true action: the reward the world expects, and whether it "
        "holds that the episode ends.",
        figures=tuple(figures),
    )


def _reward_figures(scored: Sequence[tuple[Clip, Score]], seed: int) -> list[Figure]:
    pairs = [
        (c.rewards[:-1][-len(s.rewards) :], s.rewards)
        for c, s in scored
        if c.rewards is not None and s.rewards is not None
    ]
    if not pairs:
        return []
    clip = np.repeat(np.arange(len(pairs)), [len(true) for true, _ in pairs])
    true, expected = (np.concatenate(column).astype(np.float64) for column in zip(*pairs, strict=True))
    error = {"world": np.abs(expected - true), MEAN: np.abs(true.mean() - true), ZERO: np.abs(true)}
    figures = []
    if true.std() > 0:
        others = {
            k: float(1 - np.square(v - true).sum() / np.square(true.mean() - true).sum())
            for k, v in ((MEAN, true.mean()), (ZERO, 0.0))
        }
        figures.append(r2_figure("reward_r2", true[:, None], expected[:, None], clip, "steps", seed, others))
    if (true != 0).any() and (true == 0).any():
        told = [(given != 0, guess) for given, guess in pairs]
        figures.append(_auc_figure("reward_auc", told, "paid steps", seed))
    for name, mask in (("reward_error", np.ones_like(true, bool)), ("reward_error_paid", true != 0)):
        if mask.any() and (name == "reward_error" or not mask.all()):
            sums = per_clip(error["world"] * mask, clip, len(pairs))
            others = {k: float(error[k][mask].mean()) for k in (MEAN, ZERO)}
            count = per_clip(mask, clip, len(pairs))
            figures.append(ratio_figure(name, sums, count, "steps", "", seed, others))
    return figures


def _end_figures(scored: Sequence[tuple[Clip, Score]], seed: int) -> list[Figure]:
    pairs = [
        (c.terminated[:-1][-len(s.terminated) :], s.terminated)
        for c, s in scored
        if c.terminated is not None and s.terminated is not None
    ]
    if not pairs:
        return []
    ends, foreseen = np.array([t.sum() for t, _ in pairs]), np.array([(odds > 0.5).sum() for _, odds in pairs])
    both = np.array([(true & (odds > 0.5)).sum() for true, odds in pairs])
    figures = []
    if ends.any() and not all(true.all() for true, _ in pairs):
        figures.append(_auc_figure("ends_auc", pairs, "ends", seed))
    if ends.any():
        figures.append(share_figure("ends_foreseen", both, ends, "ends", seed, {NEVER: 0.0}))
    if foreseen.any():
        figures.append(share_figure("ends_true", both, foreseen, "foreseen ends", seed))
    return figures


def _auc_figure(name: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]], trials: str, seed: int) -> Figure:
    """Compute how often a step of one kind gets a higher number than one that is not of it; ties count half.

    Args:
        name: Of the figure.
        pairs: Per clip, whether each step is of the kind, bool (S,), and the world's number for it, float (S,).
        trials: What steps of the kind are called.
        seed: Of the bootstrap.
    """
    n_clips = len(pairs)
    owner = np.concatenate([np.full(true.sum(), i) for i, (true, _) in enumerate(pairs)])
    of_kind = np.concatenate([number[true] for true, number in pairs])
    wins = np.zeros((n_clips, n_clips))  # of the kind in clip i over the other steps of clip j
    for j, (true, number) in enumerate(pairs):
        others = np.sort(number[~true])
        below = np.searchsorted(others, of_kind, "left") + np.searchsorted(others, of_kind, "right")
        wins[:, j] = np.bincount(owner, below / 2, minlength=n_clips)
    kind, rest = (np.array([mask.sum() for mask in masks]) for masks in zip(*((t, ~t) for t, _ in pairs), strict=True))

    def statistic(weights: np.ndarray) -> np.ndarray:
        return ((weights @ wins) * weights).sum(-1) / ((weights @ kind) * (weights @ rest))

    interval = bootstrap(np.eye(n_clips), statistic, seed)
    return build(name, interval, unit="", n=int(kind.sum()), trials=trials, n_clips=n_clips, baselines={CHANCE: 0.5})
