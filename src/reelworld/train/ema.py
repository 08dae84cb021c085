"""Exponential moving average (EMA) of the weights, for validation and for the final weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA:
    """Exponential moving average of the trainable parameters; buffers are not averaged."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.weights: dict[str, Tensor] = {n: p.detach().clone() for n, p in self._parameters.items()}
        """Parameter name -> averaged weight."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after step number ``step`` (from 0).

        The decay rises from a low value to its final one, so that short runs do not average over their first steps.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), list(self._parameters.values()), 1 - decay)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Load the averaged weights of a checkpoint."""
        for name, weight in self.weights.items():
            weight.copy_(weights[name])

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the averaged weights into the module permanently."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Swap the averaged weights in temporarily; the previous ones are restored on exit."""
        trained = {n: p.detach().clone() for n, p in self._parameters.items()}
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(trained[name])
