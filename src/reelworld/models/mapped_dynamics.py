"""Dynamics of latent actions that take real ones: the only place where real actions become latent ones.

Shapes: B batch, T frames, A action width
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reelworld.models.action_mapping import ActionMap, kinds_of
from reelworld.models.latent_action import STREAM
from reelworld.types import Codes, Conditions, Sampler, StepScores

__all__ = ["SteeredDynamics"]


class SteeredDynamics:
    """Look up the latent action of every real one, then do what the dynamics do."""

    def __init__(self, dynamics: Any, action_map: ActionMap, device: torch.device) -> None:
        self._dynamics, self._stream = dynamics, action_map.stream
        self._cuts = torch.tensor(action_map.cuts, dtype=torch.float32, device=device)
        self._to_latent = torch.tensor(action_map.to_latent, device=device)

    def prefill(self, codes: Codes, conditions: Conditions) -> Any:
        """Read context frames and the actions between them."""
        return self._dynamics.prefill(codes, self._translated(conditions))

    def step(self, state: Any, conditions: Conditions, sampler: Sampler, generator: Any) -> tuple[Codes, Any]:
        """Take one action."""
        result: tuple[Codes, Any] = self._dynamics.step(state, self._translated(conditions), sampler, generator)
        return result

    def judge(self, codes: Codes, conditions: Conditions) -> StepScores:
        """Judge each next frame from the true past."""
        judged: StepScores = self._dynamics.judge(codes, self._translated(conditions))
        return judged

    def _translated(self, conditions: Conditions) -> Conditions:
        real: Tensor = conditions.actions[self._stream]  # (B, T) or (B, T, A)
        return replace(conditions, actions={STREAM: self._to_latent[kinds_of(real, self._cuts)]})
