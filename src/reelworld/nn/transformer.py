"""Attention layers and norms that published transformers share.

Shapes: ... any leading shape, B batch, L tokens (queries), K keys, D width, H heads, E width of a head
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reelworld.nn.attention import Mask, attention
from reelworld.nn.kv_cache import KVCache


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Turn (B, L, H * E) into (B, H, L, E)."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def merge_heads(x: Tensor) -> Tensor:
    """Turn (B, H, L, E) into (B, L, H * E)."""
    return x.transpose(-2, -3).flatten(-2)


class SelfAttention(nn.Module):
    """Multi-head attention without bias on queries, keys and values, with bias on the output.

    Source: arXiv:2104.10157 (authors' code). Queries, keys and values are one matrix here, which reads the input
    once.
    """

    def __init__(self, width: int, heads: int, n_layers: int = 1, dropout: float = 0.0) -> None:
        """Make the layer.

        Args:
            width: D, a multiple of ``heads``.
            heads: H.
            n_layers: Layers of the stack it stands in; its output starts smaller in deeper stacks.
            dropout: Probability that an attention weight is dropped in training.
        """
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.qkv.weight, std=width**-0.5)
        nn.init.normal_(self.out.weight, std=(width * n_layers) ** -0.5)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn (B, L, D) into queries, keys and values, each (B, H, L, E)."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        return q, k, v

    def forward(self, x: Tensor, mask: Mask | None = None, layer: int = 0, cache: KVCache | None = None) -> Tensor:
        """Mix (B, L, D) over its tokens; with a cache, over the tokens before as well, and append them."""
        q, k, v = self.project(x)
        if cache is None:
            mixed = attention(q, k, v, mask, self.dropout if self.training else 0.0)
        else:
            mixed = cache.attend(layer, q, k, v, mask)
        out: Tensor = self.out(merge_heads(mixed))
        return out


class CrossAttention(nn.Module):
    """Multi-head attention to features of another width; every query sees all of them."""

    def __init__(self, width: int, features: int, heads: int, n_layers: int = 1) -> None:
        """Make the layer.

        Args:
            width: D of the queries.
            features: Width of what is attended to; a head's values have ``features // heads`` of it.
            heads: H.
            n_layers: Layers of the stack it stands in.
        """
        super().__init__()
        self.heads, self.width, self.value_width = heads, width, features // heads * heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(features, width + self.value_width, bias=False)
        self.out = nn.Linear(self.value_width, width)
        nn.init.normal_(self.query.weight, std=width**-0.5)
        nn.init.normal_(self.key_value.weight, std=features**-0.5)
        nn.init.normal_(self.out.weight, std=(width * n_layers) ** -0.5)

    def keys_values(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Project features (B, K, F) once: keys (B, H, K, E) and values (B, H, K, E')."""
        k, v = self.key_value(features).split([self.width, self.value_width], -1)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor]) -> Tensor:
        """Mix what the features say into (B, L, D)."""
        out: Tensor = self.out(merge_heads(attention(split_heads(self.query(x), self.heads), *keys_values)))
        return out


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), an approximation of GELU that some published weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Map elementwise."""
        return x * torch.sigmoid(1.702 * x)


def mlp(width: int) -> nn.Sequential:
    """Make the two-layer perceptron of a block, four times as wide inside."""
    return nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))


class LateEpsilonNorm(nn.Module):
    """Layer norm that adds its epsilon after the inverse square root: y = (x - mean) * (1e-5 + 1 / std).

    Source: arXiv:2104.10157 (authors' code). A constant row gives the bias here, NaN there.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, class_id: Tensor | None = None) -> Tensor:
        """Normalise the last dimension of (..., D)."""
        return late_epsilon_norm(x, self.gain, self.bias)


class ClassNorm(nn.Module):
    """The same norm with a gain and a bias per class."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.gain = nn.Embedding(n_classes, width)
        self.bias = nn.Embedding(n_classes, width)
        nn.init.constant_(self.gain.weight, n_classes**-0.5)
        nn.init.uniform_(self.bias.weight, -(n_classes**-0.5), n_classes**-0.5)

    def forward(self, x: Tensor, class_id: Tensor | None = None) -> Tensor:
        """Normalise (B, L, D) for the classes (B,)."""
        assert class_id is not None
        return late_epsilon_norm(x, 1 + self.gain(class_id)[:, None], self.bias(class_id)[:, None])


TINY = 1e-20
"""Least variance: lets a constant row become the bias; all others are untouched."""


def late_epsilon_norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Normalise the last dimension as ``LateEpsilonNorm`` says, in float32."""
    normed, _, inverse_std = torch.native_layer_norm(x.float(), [x.shape[-1]], None, None, TINY)
    late = torch.addcdiv(normed, normed, inverse_std, value=1e-5)
    return torch.addcmul(bias, late, gain).to(x.dtype)


class AxisPositions(nn.Module):
    """Learned positions of a grid: a table per axis, put side by side over the width.

    Source: arXiv:2104.10157 (authors' code); the first width mod axes tables are one wider, as in VIPER
    (arXiv:2305.14343).
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.shape = shape
        widths = [width // len(shape) + (i < width % len(shape)) for i in range(len(shape))]
        self.tables = nn.ParameterList(
            nn.Parameter(0.01 * torch.randn(n, w)) for n, w in zip(shape, widths, strict=True)
        )

    def forward(self) -> Tensor:
        """Return the positions of all cells in raster order, (L, D)."""
        parts = []
        for axis, table in enumerate(self.tables):
            view = [1] * len(self.shape) + [table.shape[1]]
            view[axis] = table.shape[0]
            parts.append(table.view(view).expand(*self.shape, -1))
        return torch.cat(parts, -1).flatten(0, -2)
