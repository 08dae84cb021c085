"""Causal decoders: one pre-norm block, and the norms, positions and MLPs that published decoders put into it.

VideoGPT's blocks have ``LateEpsilonNorm``, a two-layer MLP and cross attention; LLaMA's (iVideoGPT) RMS norms, rotary
positions and a gated MLP. Queries, keys and values are one matrix, which reads the input once.

Shapes: ... any leading shape, B batch, L tokens (queries), K keys, D width, H heads, E width of a head, F width of
  features or inner width of an MLP
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.config import require
from reelworld.nn.attention import CausalMask, Mask, attention
from reelworld.nn.decode import GemvLinear
from reelworld.nn.kv_cache import KVCache
from reelworld.nn.rotary import GeometricRotary, rotate
from reelworld.types import UserError

INITIAL_STD = 0.02

CosSin = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary positions of tokens, (..., L, E / 2)."""
KeysValues = tuple[Tensor, Tensor]
"""Keys (B, H, K, E) and values (B, H, K, E') of a memory, for one block."""


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Turn (B, L, H * E) into (B, H, L, E)."""
    out: Tensor = x.unflatten(-1, (heads, -1)).transpose(-2, -3)
    return out


def merge_heads(x: Tensor) -> Tensor:
    """Turn (B, H, L, E) into (B, L, H * E)."""
    return x.transpose(-2, -3).flatten(-2)


# ---------------------------------------------------------------------- attention


class SelfAttention(nn.Module):
    """Multi-head attention without bias on queries, keys and values.

    Source: arXiv:2104.10157 (authors' code), arXiv:2302.13971.
    """

    def __init__(
        self, width: int, heads: int, n_layers: int | None = 1, dropout: float = 0.0, out_bias: bool = True
    ) -> None:
        """Make the layer.

        Args:
            width: D, a multiple of ``heads``.
            heads: H.
            n_layers: Layers of its stack: its output starts smaller in deeper stacks. None keeps torch's
                initialization, for stacks that draw all weights again.
            dropout: Probability that an attention weight is dropped in training.
            out_bias: Add a bias to the output.
        """
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = GemvLinear(width, 3 * width)
        self.out = nn.Linear(width, width) if out_bias else GemvLinear(width, width)
        if n_layers is not None:
            nn.init.normal_(self.qkv.weight, std=width**-0.5)
            nn.init.normal_(self.out.weight, std=(width * n_layers) ** -0.5)

    def forward(
        self,
        x: Tensor,
        mask: Mask | None = None,
        layer: int = 0,
        cache: KVCache | None = None,
        positions: CosSin | None = None,
    ) -> Tensor:
        """Mix tokens.

        Args:
            x: (..., L, D).
            mask: Visible tokens; None for all.
            layer: Number of this layer in the cache.
            cache: Cache of the previous tokens, which are attended to; these tokens are appended.
            positions: Rotary positions; None for none.

        Returns:
            (..., L, D).
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        (q, k), v = (qkv[:2] if positions is None else rotate(qkv[:2], *positions)), qkv[2]
        if cache is None:
            mixed = attention(q, k, v, mask, self.dropout if self.training else 0.0)
        else:
            mixed = cache.attend(layer, q, k, v, mask)
        out: Tensor = self.out(merge_heads(mixed))
        return out


class CrossAttention(nn.Module):
    """Multi-head cross attention to features of another width, without a mask."""

    def __init__(self, width: int, features: int, heads: int, n_layers: int = 1) -> None:
        """Make the layer.

        Args:
            width: D of the queries.
            features: Width of the attended features; a head's values have ``features // heads`` of it.
            heads: H.
            n_layers: Layers of its stack.
        """
        super().__init__()
        self.heads, self.width, self.value_width = heads, width, features // heads * heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(features, width + self.value_width, bias=False)
        self.out = nn.Linear(self.value_width, width)
        nn.init.normal_(self.query.weight, std=width**-0.5)
        nn.init.normal_(self.key_value.weight, std=features**-0.5)
        nn.init.normal_(self.out.weight, std=(width * n_layers) ** -0.5)

    def keys_values(self, features: Tensor) -> KeysValues:
        """Project features (B, K, F) once: keys (B, H, K, E) and values (B, H, K, E')."""
        k, v = self.key_value(features).split([self.width, self.value_width], -1)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def forward(self, x: Tensor, keys_values: KeysValues) -> Tensor:
        """Mix the memory into (B, L, D)."""
        out: Tensor = self.out(merge_heads(attention(split_heads(self.query(x), self.heads), *keys_values)))
        return out


# ---------------------------------------------------------------------- MLPs


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), an approximation of GELU that some published weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Map elementwise."""
        return x * torch.sigmoid(1.702 * x)


def quick_gelu_mlp(width: int) -> nn.Sequential:
    """Make a two-layer MLP, four times as wide inside."""
    return nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))


class GatedMLP(nn.Module):
    """Gated MLP with SiLU (SwiGLU), without biases; the gate and its operand are one matrix."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_up = GemvLinear(width, 2 * inner)
        self.down = GemvLinear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D)."""
        gate, up = self.gate_up(x).chunk(2, -1)
        out: Tensor = self.down(functional.silu(gate) * up)
        return out


# ---------------------------------------------------------------------- norms and positions


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
    """Normalise the last dimension as ``LateEpsilonNorm`` does, in float32."""
    normed, _, inverse_std = torch.native_layer_norm(x.float(), [x.shape[-1]], None, None, TINY)
    late = torch.addcdiv(normed, normed, inverse_std, value=1e-5)
    return torch.addcmul(bias, late, gain).to(x.dtype)


class RMSNorm(nn.RMSNorm):
    """RMS norm, called as the norms with classes."""

    def forward(self, x: Tensor, class_id: Tensor | None = None) -> Tensor:
        """Normalise the last dimension of (..., D)."""
        return super().forward(x)


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


# ---------------------------------------------------------------------- blocks


class DecoderBlock(nn.Module):
    """Pre-norm block: causal self attention, cross attention to conditioning frames where there are any, MLP."""

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        attention: Callable[[], SelfAttention],
        mlp: Callable[[], nn.Module],
        frames: Callable[[], CrossAttention] | None = None,
        dropout: float = 0.0,
    ) -> None:
        """Make the block.

        Args:
            norm: Makes a norm, called with tokens and class ids.
            attention: Makes the self attention.
            mlp: Makes the MLP.
            frames: Makes the cross attention; None for none.
            dropout: Probability that a number of a part's output is dropped in training.
        """
        super().__init__()
        self.norm_attention = norm()
        self.attention = attention()
        self.norm_frames = norm() if frames is not None else None
        self.frames = frames() if frames is not None else None
        self.norm_mlp = norm()
        self.mlp = mlp()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Mask | None,
        layer: int = 0,
        cache: KVCache | None = None,
        positions: CosSin | None = None,
        class_id: Tensor | None = None,
        frames: KeysValues | None = None,
    ) -> Tensor:
        """Map tokens (B, L, D); ``mask``, ``layer``, ``cache`` and ``positions`` as in ``SelfAttention``.

        Args:
            x: Tokens.
            mask: See there.
            layer: See there.
            cache: See there.
            positions: See there.
            class_id: int64 (B,), where norms have classes.
            frames: Memory of the cross attention.

        Returns:
            (B, L, D).
        """
        x = x + self.dropout(self.attention(self.norm_attention(x, class_id), mask, layer, cache, positions))
        if self.frames is not None:
            assert self.norm_frames is not None and frames is not None
            x = x + self.dropout(self.frames(self.norm_frames(x, class_id), frames))
        out: Tensor = x + self.dropout(self.mlp(self.norm_mlp(x, class_id)))
        return out


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Shape of a LLaMA decoder."""

    width: int = 768
    """D."""
    inner: int = 3072
    """F."""
    layers: int = 12
    """Blocks."""
    heads: int = 12
    """H; divides the width into even parts."""
    places: int = 1024
    """Longest sequence."""
    dropout: float = 0.0
    """Probability that an attention weight is dropped in training."""
    base: float = 10_000.0
    """Of the wavelengths of the positions."""
    epsilon: float = 1e-6
    """Of the norms."""
    initial_std: float = INITIAL_STD
    """Standard deviation of untrained matrices; narrow transformers learn sooner from about 1 / sqrt(width)."""

    def __post_init__(self) -> None:
        require(self, "width inner layers heads places", lambda v: v >= 1, "at least 1")
        require(self, "dropout", lambda v: 0 <= v < 1, "from 0 to below 1")
        require(self, "base epsilon initial_std", lambda v: v > 0, "above 0")
        if self.width % (2 * self.heads):
            raise UserError(f"width is {self.width}; it must be a multiple of 2 * heads, {2 * self.heads}.")


class Llama(nn.Module):
    """LLaMA decoder: embedded tokens in, features out.

    Source: Touvron et al. 2023 (arXiv:2302.13971), section 2.2, as transformers 4.38 computes it.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        self.blocks = nn.ModuleList(
            DecoderBlock(
                lambda: RMSNorm(width, config.epsilon),
                lambda: SelfAttention(width, heads, None, config.dropout, out_bias=False),
                lambda: GatedMLP(width, config.inner),
            )
            for _ in range(config.layers)
        )
        self.norm = RMSNorm(width, config.epsilon)
        self.rotary = GeometricRotary(width // heads, config.places, config.base)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.initial_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map whole sequences (B, L, D), L at most ``places``."""
        positions, mask = self.rotary.at(torch.arange(x.shape[1], device=x.device)), CausalMask()
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, layer, None, positions)
        out: Tensor = self.norm(x)
        return out

    def step(self, x: Tensor, cache: KVCache) -> Tensor:
        """Map the next tokens of streams, (B, L, D); the cache is written in place."""
        mask, positions = cache.mask(x.shape[1]), self.rotary.at(cache.positions(x.shape[1])[:, None])
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, layer, cache, positions)
        cache.advance(x.shape[1])
        out: Tensor = self.norm(x)
        return out

    def cache(self, streams: int, places: int, like: Tensor) -> KVCache:
        """Make an empty cache for so many streams of so many tokens."""
        config = self.config
        shape = (config.layers, streams, config.heads, places, config.width // config.heads)
        return KVCache.empty(shape, like)
