"""Embed the actions of a step as one vector.

Shapes: B batch, T frames, A action width, K actions kept together per frame (frame stride), D width
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reelworld.types import ActionSpec, UserError

__all__ = ["ActionEmbedder"]


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
                low = torch.tensor(spec.low or [-1.0] * spec.n)
                high = torch.tensor(spec.high or [1.0] * spec.n)
                self.register_buffer(f"{name}_center", (low + high) / 2, persistent=False)
                self.register_buffer(f"{name}_scale", ((high - low) / 2).clamp_min(1e-6), persistent=False)

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
                values_BTKA = given.reshape(*given.shape[:2], spec.repeat, spec.n)
                scaled = (values_BTKA - getattr(self, f"{name}_center")) / getattr(self, f"{name}_scale")
                total = total + self.embed[name](scaled.flatten(2))
        return total
