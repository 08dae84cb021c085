"""Reward and termination head: both are predicted from the features of a frame.

Shapes: ... any leading shape, B batch, T frames of which each but the first is arrived at, N tokens, D width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.types import Batch


class OutcomeHead(nn.Sequential):
    """Three numbers per frame: logit of a reward, its size, logit of the end of the episode."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Read the mean and the maximum over a frame's tokens: (..., N, D) -> (..., 3)."""
        out: Tensor = super().forward(torch.cat([x.mean(-2), x.amax(-2)], -1))
        return out


def expected_outcome(outcome: Tensor, reward_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Turn outcomes (..., 3) into the expected reward and the probability that the episode ends, (...) each.

    Args:
        outcome: Output of the head.
        reward_scale: Size of a typical reward, a scalar.
    """
    rewarded, reward, ended = outcome.float().unbind(-1)
    return rewarded.sigmoid() * reward * reward_scale, ended.sigmoid()


def outcome_terms(outcome: Tensor, batch: Batch, reward_scale: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Losses of reward and termination: is there a reward, its size if there is one, and is it the end.

    Args:
        outcome: Of arriving at each frame but the first, (B, T - 1, 3).
        batch: Perhaps with rewards, terminated, valid.
        reward_scale: Size of a typical reward, a scalar.

    Returns:
        Terms of a loss, sums and counts: ``rewarded``, ``reward``, ``terminated``; none for what the batch lacks.
    """
    outcome = outcome.float()
    valid = torch.ones_like(outcome[..., 0]) if batch.valid is None else batch.valid[:, 1:].float()
    terms = {}
    if batch.rewards is not None:
        rewards = batch.rewards[:, :-1]
        paid = (rewards != 0).float()
        error = (outcome[..., 1] - rewards / reward_scale).square() * paid
        terms["rewarded"] = binary_term(outcome[..., 0], paid, valid)
        terms["reward"] = ((error * valid).sum(), valid.sum())
    if batch.terminated is not None:
        terms["terminated"] = binary_term(outcome[..., 2], batch.terminated[:, :-1], valid)
    return terms


def binary_term(logits: Tensor, targets: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the negative log-likelihood of bool targets over valid entries, and count these; all of one shape."""
    nll = functional.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
    return (nll * valid).sum(), valid.sum()
