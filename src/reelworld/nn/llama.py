"""The transformer that LLaMA made common: RMS norms before each part, rotary positions, a gated perceptron, no biases.

Source: Touvron et al. 2023 (arXiv:2302.13971), section 2.2, as transformers 4.38 computes it. Differs: queries, keys
and values are one matrix, and so are the gate and what it gates, which reads the input once.

Shapes: B batch, L tokens, D width, H heads, E width of a head, F inner width of the perceptron
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.config import require
from reelworld.nn.attention import CausalMask, Mask, attention
from reelworld.nn.decode import GemvLinear
from reelworld.nn.kv_cache import KVCache
from reelworld.nn.rotary import GeometricRotary, rotate
from reelworld.nn.transformer import merge_heads
from reelworld.types import UserError

INITIAL_STD = 0.02

Turns = tuple[Tensor, Tensor]
"""Cosines and sines of the places of tokens, (..., L, E / 2)."""


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Shape of the transformer."""

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
    """Share of attention weights that training drops."""
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


class Attention(nn.Module):
    """Causal attention with rotary positions."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = GemvLinear(config.width, 3 * config.width)
        self.out = GemvLinear(config.width, config.width)

    def forward(
        self, x: Tensor, turns: Turns, mask: Mask | None, layer: int, cache: KVCache | None
    ) -> Tensor:  # fmt: skip
        """Mix (B, L, D); with a cache, over the tokens before as well."""
        qkv_3BHLE = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(2, 3)
        (q, k), v = rotate(qkv_3BHLE[:2], *turns), qkv_3BHLE[2]
        if cache is None:
            mixed = attention(q, k, v, mask, self.dropout if self.training else 0.0)
        else:
            mixed = cache.attend(layer, q, k, v, mask)
        out: Tensor = self.out(merge_heads(mixed))
        return out


class Block(nn.Module):
    """Attention and the gated perceptron, each behind a norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(config.width, config.epsilon)
        self.attention = Attention(config)
        self.norm_mlp = nn.RMSNorm(config.width, config.epsilon)
        self.gate_up = GemvLinear(config.width, 2 * config.inner)
        self.down = GemvLinear(config.inner, config.width)

    def forward(
        self, x: Tensor, turns: Turns, mask: Mask | None, layer: int, cache: KVCache | None
    ) -> Tensor:  # fmt: skip
        """Map (B, L, D) to the same shape."""
        x = x + self.attention(self.norm_attention(x), turns, mask, layer, cache)
        gate, up = self.gate_up(self.norm_mlp(x)).chunk(2, -1)
        out: Tensor = x + self.down(functional.silu(gate) * up)
        return out


class Llama(nn.Module):
    """The blocks and the last norm: embedded tokens in, features out."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.epsilon)
        self.rotary = GeometricRotary(config.width // config.heads, config.places, config.base)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.initial_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map whole sequences (B, L, D), L at most ``places``."""
        turns, mask = self.rotary.at(torch.arange(x.shape[1], device=x.device)), CausalMask()
        for layer, block in enumerate(self.blocks):
            x = block(x, turns, mask, layer, None)
        out: Tensor = self.norm(x)
        return out

    def step(self, x: Tensor, cache: KVCache) -> Tensor:
        """Map the next tokens of streams, (B, L, D); the cache is written in place."""
        mask, turns = cache.mask(x.shape[1]), self.rotary.at(cache.positions(x.shape[1])[:, None])
        for layer, block in enumerate(self.blocks):
            x = block(x, turns, mask, layer, cache)
        cache.advance(x.shape[1])
        out: Tensor = self.norm(x)
        return out

    def cache(self, streams: int, places: int, like: Tensor) -> KVCache:
        """Make an empty cache for so many streams of so many places."""
        config = self.config
        shape = (config.layers, streams, config.heads, places, config.width // config.heads)
        return KVCache.empty(shape, like)
