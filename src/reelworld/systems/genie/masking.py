"""Mask schedules for training masked dynamics.

Frame 0 is never masked: worlds start from it.

Shapes: B batch, T frames, N tokens per frame, K digits of a code
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reelworld.config import require
from reelworld.nn.random import Generators, uniform
from reelworld.systems.genie.factored_codes import Factors


class MaskedInput(NamedTuple):
    """Partly masked codes of a clip."""

    codes: Tensor
    """int64, (B, T, N); some may be corrupted on purpose."""
    hidden: Tensor
    """bool, (B, T, N): masked, and to be predicted."""


@dataclass(frozen=True, kw_only=True)
class UniformMasking:
    """Every code of the frames after the first is masked with one probability per clip, drawn uniformly.

    Source: Bruce et al. 2024 (arXiv:2402.15391), section 2.1: between 0.5 and 1.
    """

    least: float = 0.5
    """Least probability that a code is masked."""
    most: float = 1.0
    """Greatest one."""

    def __post_init__(self) -> None:
        require(self, "least", lambda v: 0 <= v <= self.most, f"from 0 to the greatest probability ({self.most})")
        require(self, "most", lambda v: 0 < v <= 1, "above 0 and at most 1")

    def __call__(self, codes: Tensor, factors: Factors, generator: Generators) -> MaskedInput:
        """Mask clips, (B, T, N)."""
        draw_B11 = uniform((codes.shape[0], 1, 1), generator, codes.device)
        rate_B11 = self.least + (self.most - self.least) * draw_B11
        hidden_BTN = uniform(codes.shape, generator, codes.device) < rate_B11
        return MaskedInput(codes, hidden_BTN & _from_frame(codes, 1))


@dataclass(frozen=True, kw_only=True)
class CosineMasking:
    """Masked per frame at the cosine of a uniform number, after some digits were replaced by random ones.

    In a fraction of the clips the first frames are not masked. The later a frame after them, the more wrong digits it
    has, like a rollout with accumulating errors.

    Source: 1xgpt (1X Technologies), data.py; its rates of wrong digits are those of Copilot4D (arXiv:2311.01017).
    Differs: what it draws once per batch is drawn per clip; a batch without any masked code is not drawn again.
    """

    corrupt_rate: float = 0.2
    """Greatest fraction of random digits anywhere; drawn uniformly from 0 on."""
    rollout_share: float = 0.5
    """Fraction of the clips that imitate rollouts."""
    prompt_frames: int = 8
    """Least number of frames that are not masked in those."""

    def __post_init__(self) -> None:
        require(self, "corrupt_rate rollout_share", lambda v: 0 <= v <= 1, "from 0 to 1")
        require(self, "prompt_frames", lambda v: v >= 1, "at least 1")

    def __call__(self, codes: Tensor, factors: Factors, generator: Generators) -> MaskedInput:
        """Mask clips, (B, T, N)."""
        batch, frames, _ = codes.shape

        def draw(*shape: int) -> Tensor:
            return uniform(shape, generator, codes.device)

        is_rollout_B = draw(batch) < self.rollout_share
        given = min(self.prompt_frames, frames - 1)
        first_B = torch.where(is_rollout_B, given + (draw(batch) * (frames - given)).long(), 1)
        right_BT = self._right(draw(batch), draw(batch, frames), first_B, is_rollout_B)
        digits_BTNK = factors.split(codes)
        sizes_K = torch.tensor(factors.sizes, device=codes.device)
        random_BTNK = (draw(*digits_BTNK.shape) * sizes_K).long()
        is_wrong_BTNK = draw(*digits_BTNK.shape) < self.corrupt_rate * draw(batch)[:, None, None, None]
        is_wrong_BTNK = is_wrong_BTNK | (draw(*digits_BTNK.shape) > right_BT[..., None, None])
        corrupt_BTN = factors.join(torch.where(is_wrong_BTNK, random_BTNK, digits_BTNK))
        rate_BT1 = torch.cos(draw(batch, frames, 1) * (math.pi / 2))
        hidden_BTN = draw(*codes.shape) < rate_BT1
        return MaskedInput(corrupt_BTN, hidden_BTN & _from_frame(codes, first_B[:, None]))

    def _right(self, start_B: Tensor, fall_BT: Tensor, first_B: Tensor, is_rollout_B: Tensor) -> Tensor:
        """Return the fraction of right digits in each frame, falling after the first masked one."""
        is_late_BT = torch.arange(fall_BT.shape[1], device=fall_BT.device) >= first_B[:, None]
        falls_BT = torch.where(is_late_BT, 0.9 + 0.1 * fall_BT, 1.0).cumprod(1)
        return torch.where(is_late_BT & is_rollout_B[:, None], (0.25 + 0.75 * start_B)[:, None] * falls_BT, 1.0)


def _from_frame(codes_BTN: Tensor, first: Tensor | int) -> Tensor:
    """Mark the codes of frame ``first`` and later ones, bool (1, T, 1) or (B, T, 1)."""
    frames = torch.arange(codes_BTN.shape[1], device=codes_BTN.device)[None]
    return (frames >= first)[..., None]
