"""What a step brings, expected from the true past: the reward, and the end of the episode.

Most steps of most games pay nothing and end nothing, so expecting nothing is nearly always right. The figures
stand beside those who do that, and steps that pay and episodes that end are reported apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reelworld.evaluate.figures import Figure, Section, per_clip, ratio_figure, share_figure
from reelworld.types import Clip, Score

__all__ = ["measure_outcomes"]

MEAN, ZERO, NEVER = "always the mean reward", "always zero", "never ends"


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
    pairs = [(c.rewards[:-1], s.rewards) for c, s in scored if c.rewards is not None and s.rewards is not None]
    if not pairs:
        return []
    clip = np.repeat(np.arange(len(pairs)), [len(true) for true, _ in pairs])
    true, expected = (np.concatenate(column).astype(np.float64) for column in zip(*pairs, strict=True))
    error = {"world": np.abs(expected - true), MEAN: np.abs(true.mean() - true), ZERO: np.abs(true)}
    figures = []
    for name, mask in (("reward_error", np.ones_like(true, bool)), ("reward_error_paid", true != 0)):
        if mask.any() and (name == "reward_error" or not mask.all()):
            sums = per_clip(error["world"] * mask, clip, len(pairs))
            others = {k: float(error[k][mask].mean()) for k in (MEAN, ZERO)}
            count = per_clip(mask, clip, len(pairs))
            figures.append(ratio_figure(name, sums, count, "steps", "", seed, others))
    return figures


def _end_figures(scored: Sequence[tuple[Clip, Score]], seed: int) -> list[Figure]:
    pairs = [
        (c.terminated[:-1], s.terminated > 0.5)
        for c, s in scored
        if c.terminated is not None and s.terminated is not None
    ]
    if not pairs:
        return []
    ends, foreseen = (np.array([row.sum() for row in column]) for column in zip(*pairs, strict=True))
    both = np.array([(true & said).sum() for true, said in pairs])
    figures = []
    if ends.any():
        figures.append(share_figure("ends_foreseen", both, ends, "ends", seed, {NEVER: 0.0}))
    if foreseen.any():
        figures.append(share_figure("ends_true", both, foreseen, "foreseen ends", seed))
    return figures
