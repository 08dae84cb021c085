"""The actions of a step as one vector: embedded, or just side by side.

Shapes: B batch, T frames, A action width, K actions kept together per frame (frame stride), D width
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.nn.action_bounds import middle_and_half
from reelworld.types import ActionSpec, UserError

__all__ = ["ActionEmbedder", "ActionVector"]


class ActionEmbedder(nn.Module):
    """Sum of one embedding per stream and per action that stays together with a frame.

    Discrete actions use a table, continuous ones a two-layer perceptron on values scaled to [-1, 1].
    """

    def __init__(self, specs: Mapping[str, ActionSpec], width: int) -> None:
        super().__init__()
        self.specs = dict(specs)
        self.embed = nn.ModuleDict()
        for name, spec in self.specs.items():
            if "." in name or hasattr(self.embed, name):
                raise UserError(f"an action stream is called {name!r}, a name torch keeps for itself: rename it.")
            if spec.kind == "discrete":
                self.embed[name] = nn.Embedding(spec.repeat * spec.n, width)
            else:
                layers = [nn.Linear(spec.repeat * spec.n, width), nn.GELU(), nn.Linear(width, width)]
                self.embed[name] = nn.Sequential(*layers)
                self.register_buffer(f"{name}_range", _range(spec), persistent=False)

    def forward(self, actions: Mapping[str, Tensor]) -> Tensor | float:
        """Embed actions.

        Args:
            actions: Stream -> int64 (B, T) or float32 (B, T, A); with frame stride K, (B, T, K) or (B, T, K, A).

        Returns:
            Sum over streams, (B, T, D); 0.0 for a world without actions.
        """
        total: Tensor | float = 0.0
        for name, spec in self.specs.items():
            given = actions[name]
            if spec.kind == "discrete":
                ids_BTK = given.reshape(*given.shape[:2], spec.repeat)
                offset_K = torch.arange(spec.repeat, device=ids_BTK.device) * spec.n
                total = total + self.embed[name](ids_BTK + offset_K).sum(2)
            else:
                total = total + self.embed[name](_scaled(given, spec, getattr(self, f"{name}_range")))
        return total


class ActionVector(nn.Module):
    """The numbers of all streams side by side: values scaled to [-1, 1], ids as ones among zeros."""

    def __init__(self, specs: Mapping[str, ActionSpec]) -> None:
        super().__init__()
        self.specs = dict(specs)
        self.width = sum(spec.repeat * spec.n for spec in self.specs.values())
        for i, spec in enumerate(self.specs.values()):
            if spec.kind == "continuous":
                self.register_buffer(f"range_{i}", _range(spec), persistent=False)

    def forward(self, actions: Mapping[str, Tensor]) -> Tensor:
        """Join actions.

        Args:
            actions: Stream -> int64 (B, T) or float32 (B, T, A); with frame stride K, (B, T, K) or (B, T, K, A).

        Returns:
            float32, (B, T, width), the streams in the order of the specs.
        """
        parts = []
        for i, (name, spec) in enumerate(self.specs.items()):
            given = actions[name]
            if spec.kind == "discrete":
                ids_BTK = given.reshape(*given.shape[:2], spec.repeat)
                parts.append(functional.one_hot(ids_BTK, spec.n).flatten(2).float())
            else:
                parts.append(_scaled(given, spec, getattr(self, f"range_{i}")))
        return torch.cat(parts, -1)


def _range(spec: ActionSpec) -> Tensor:
    """Middle and half width of each dimension's range, (2, A)."""
    return torch.tensor(middle_and_half(spec))


def _scaled(given: Tensor, spec: ActionSpec, range_2A: Tensor) -> Tensor:
    """Bring vectors to [-1, 1], those that stay together side by side: (B, T, K * A)."""
    centre, half_width = range_2A
    return ((given.reshape(*given.shape[:2], spec.repeat, spec.n) - centre) / half_width).flatten(2)
