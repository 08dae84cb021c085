"""Actions of a step as one vector, embedded or concatenated, and the bounds of continuous actions.

Bounds are learned from recordings or given by a simulator, and saved in ``ActionSpec``. Actions far outside of them
are in other units or of another game.

Shapes: B batch, T frames, A action width, K actions kept together per frame (frame stride), D width
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.types import ActionSpec

FAR = 2.0
"""Greatest distance of an action from the middle of its range, in half widths."""
CONSTANT = 1e-6
"""Least half width of a dimension that is scaled: one that never moved would turn rounding into large actions."""


def middle_and_half(spec: ActionSpec) -> tuple[list[float], list[float]]:
    """Return middle and half width of each dimension's range, A numbers each; 0 and 1 where it is unknown."""
    low, high = spec.low or (-1.0,) * spec.n, spec.high or (1.0,) * spec.n
    halves = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
    return [(a + b) / 2 for a, b in zip(low, high, strict=True)], [h if h > CONSTANT else 1.0 for h in halves]


def clip_range(spec: ActionSpec) -> tuple[list[float], list[float]] | None:
    """Return the least and the greatest value that actions are clipped to, per dimension; None without bounds."""
    if spec.kind != "continuous" or not spec.low or not spec.high:
        return None
    pairs = list(zip(*middle_and_half(spec), strict=True))
    return [middle - FAR * half for middle, half in pairs], [middle + FAR * half for middle, half in pairs]


def module_key(stream: str) -> str:
    """Return the name of a stream's module in a ``ModuleDict``: the stream's, unless torch uses that name itself."""
    is_free = "." not in stream and stream not in dir(nn.ModuleDict)
    return stream if is_free else f"stream_{stream.replace('.', '_')}"


class ActionEmbedder(nn.Module):
    """Sum of the embeddings of all streams and of all K actions of a frame.

    Discrete actions use a table; vectors and buttons a two-layer MLP on values scaled to [-1, 1], so that buttons held
    together may mean something else than each alone.
    """

    def __init__(self, specs: Mapping[str, ActionSpec], width: int) -> None:
        super().__init__()
        self.specs = dict(specs)
        self.embed = nn.ModuleDict()
        for name, spec in self.specs.items():
            if spec.kind == "discrete":
                self.embed[module_key(name)] = nn.Embedding(spec.repeat * spec.n, width)
            else:
                layers = [nn.Linear(spec.repeat * spec.n, width), nn.GELU(), nn.Linear(width, width)]
                self.embed[module_key(name)] = nn.Sequential(*layers)
                self.register_buffer(f"{module_key(name)}_range", _range(spec), persistent=False)

    def forward(self, actions: Mapping[str, Tensor]) -> Tensor | float:
        """Embed actions.

        Args:
            actions: Stream -> int64 (B, T) or float32 (B, T, A); with frame stride K, (B, T, K) or (B, T, K, A).

        Returns:
            Sum over streams, (B, T, D); 0.0 for a world without actions.
        """
        total: Tensor | float = 0.0
        for name, spec in self.specs.items():
            given, embed = actions[name], self.embed[module_key(name)]
            if spec.kind == "discrete":
                ids_BTK = given.reshape(*given.shape[:2], spec.repeat)
                offset_K = torch.arange(spec.repeat, device=ids_BTK.device) * spec.n
                total = total + embed(ids_BTK + offset_K).sum(2)
            else:
                total = total + embed(_scaled(given, spec, getattr(self, f"{module_key(name)}_range")))
        return total


class ActionVector(nn.Module):
    """Concatenation of all streams: values scaled to [-1, 1], ids one-hot."""

    def __init__(self, specs: Mapping[str, ActionSpec]) -> None:
        super().__init__()
        self.specs = dict(specs)
        self.width = sum(spec.repeat * spec.n for spec in self.specs.values())
        for i, spec in enumerate(self.specs.values()):
            if spec.kind != "discrete":
                self.register_buffer(f"range_{i}", _range(spec), persistent=False)

    def forward(self, actions: Mapping[str, Tensor]) -> Tensor:
        """Concatenate actions.

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
    """Scale vectors to [-1, 1] and concatenate those of one frame: (B, T, K * A)."""
    centre, half_width = range_2A
    out: Tensor = ((given.reshape(*given.shape[:2], spec.repeat, spec.n) - centre) / half_width).flatten(2)
    return out
