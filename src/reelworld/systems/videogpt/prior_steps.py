"""One token at a time through the blocks of an autoregressive prior.

The same map as ``Block.forward``, for a single token per stream and without what only training needs. On a CPU with a
C compiler it is compiled code (``dynamics.prior_compiled``); on other CPUs matrices are read as rows
(``nn.row_sums``), elsewhere they are multiplied as usual. The residual is float32 whatever the type of the weights.

Shapes: B streams, D width, H heads, E width of a head, V codes
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.nn.large_pages import LargePages
from reelworld.nn.native import compiled_for
from reelworld.nn.row_sums import RowLinear
from reelworld.nn.token_cache import Cache, RowTokenCache, TokenCache, VisibleBlocks, prefix_block
from reelworld.nn.transformer import ClassNorm, CrossAttention, LateEpsilonNorm, SelfAttention, late_epsilon_norm

if TYPE_CHECKING:
    from reelworld.systems.videogpt.prior import AutoregressivePrior, Block

__all__ = ["BlockStack", "Stack", "StepBlock", "StepNorm", "Way"]

Map = Callable[[Tensor], Tensor]
CODE = Path(__file__).with_name("prior_step.c")


class Stack(Protocol):
    """All blocks, the last norm and the head, for one token per stream; remembers the tokens before."""

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Map a token, float32; returns logits, float32 (B, V)."""
        ...

    def select(self, streams: Tensor) -> Stack:
        """Copy the given streams."""
        ...


def step_code(weights: Tensor) -> ctypes.CDLL | None:
    """Compile the step for weights like these; None if that does not work here."""
    return compiled_for(CODE, weights)


def reads_rows(device: torch.device) -> bool:
    """Say whether sums of rows are the fastest way on a device."""
    return device.type == "cpu"


class Way:
    """How products are computed: by compiled code or as sums of rows on a CPU, by torch's matrix kernels elsewhere."""

    def __init__(self, weights: Tensor) -> None:
        """Choose for weights like these."""
        self.weights, self.code = weights, step_code(weights)
        self.pages = LargePages() if reads_rows(weights.device) else None

    def linear(self, linear: nn.Linear) -> Map:
        """Make a linear layer for (B, I)."""
        if self.pages is not None:
            return RowLinear(linear, self.pages)
        return lambda x_BI: functional.linear(x_BI.to(linear.weight.dtype), linear.weight, linear.bias)

    def cache(self, shape: tuple[int, int, int, int], value_width: int, sight: VisibleBlocks) -> Cache:
        """Make a cache for keys of a shape (B, H, L, E) and values of some width."""
        if self.pages is not None and self.code is None:
            return RowTokenCache(shape, value_width, self.weights.dtype, sight, self.pages)
        return TokenCache(shape, value_width, self.weights, sight, self.pages)

    def sight(self, layout: Tensor | None = None, block: int = 0) -> VisibleBlocks:
        """Describe what tokens see: what a layout of blocks says, or all before them."""
        return VisibleBlocks(prefix_block(self.weights.dtype)) if layout is None else VisibleBlocks(block, layout)


@dataclass
class StepNorm:
    """A norm with the gain and bias of the streams' classes, (B, D), or of all, (D,); float32."""

    gain: Tensor
    bias: Tensor

    @classmethod
    def of(cls, norm: nn.Module, class_id: Tensor | None) -> StepNorm:
        """Look up what the streams need of a norm."""
        if isinstance(norm, ClassNorm):
            assert class_id is not None
            return cls((1 + norm.gain(class_id)).float(), norm.bias(class_id).float())
        assert isinstance(norm, LateEpsilonNorm)
        return cls(norm.gain.float(), norm.bias.float())

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Normalise."""
        return late_epsilon_norm(x_BD, self.gain, self.bias)

    def each(self, streams: int) -> StepNorm:
        """Write it out for so many streams, (B, D)."""
        return StepNorm(*(t.expand(streams, -1).contiguous() for t in (self.gain, self.bias)))

    def select(self, streams: Tensor) -> StepNorm:
        """Copy the given streams."""
        return self if self.gain.dim() == 1 else StepNorm(self.gain[streams], self.bias[streams])


@dataclass
class StepSelf:
    """Self attention of one token, with the norm before it."""

    norm: StepNorm
    qkv: Map
    out: Map
    cache: Cache
    heads: int

    @classmethod
    def of(cls, attention: SelfAttention, norm: StepNorm, cache: Cache, way: Way) -> StepSelf:
        """Prepare a layer."""
        return cls(norm, way.linear(attention.qkv), way.linear(attention.out), cache, attention.heads)

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Append the token and mix what it sees."""
        q, k, v = self.qkv(self.norm(x_BD)).view(x_BD.shape[0], 3, self.heads, -1).unbind(1)
        self.cache.append(k, v)
        return self.out(self.cache.read(q))

    def select(self, streams: Tensor) -> StepSelf:
        """Copy the given streams."""
        return replace(self, norm=self.norm.select(streams), cache=self.cache.select(streams))


@dataclass
class StepFrames:
    """Cross attention of one token to the conditioning frames, with the norm before it."""

    norm: StepNorm
    query: Map
    out: Map
    cache: Cache
    heads: int

    @classmethod
    def of(
        cls,
        attention: CrossAttention,
        norm: StepNorm,
        keys_values: tuple[Tensor, Tensor],
        sight: VisibleBlocks,
        way: Way,
    ) -> StepFrames:
        """Prepare a layer: its keys (B, H, K, E) and values (B, H, K, F) stay as they are."""
        keys, values = keys_values
        cache = way.cache((*keys.shape,), values.shape[-1], sight)
        cache.fill(keys, values)
        return cls(norm, way.linear(attention.query), way.linear(attention.out), cache, attention.heads)

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Mix what the frames say."""
        return self.out(self.cache.read(self.query(self.norm(x_BD)).view(x_BD.shape[0], self.heads, -1)))

    def select(self, streams: Tensor) -> StepFrames:
        """Copy the given streams."""
        return replace(self, norm=self.norm.select(streams), cache=self.cache.select(streams))


@dataclass
class StepBlock:
    """A block for one token per stream; remembers the tokens before."""

    attention: StepSelf
    frames: StepFrames | None
    norm: StepNorm
    up: Map
    down: Map

    @classmethod
    def of(
        cls, block: Block, class_id: Tensor | None, cache: Cache, frames: tuple[Tensor, Tensor] | None,
        sight: VisibleBlocks, way: Way,
    ) -> StepBlock:  # fmt: skip
        """Prepare a block.

        Args:
            block: Gives the weights.
            class_id: Classes of the streams, (B,).
            cache: Of its self attention.
            frames: Keys and values of the conditioning frames, if there are any.
            sight: That all frames are seen; shared by all blocks.
            way: How products are computed.
        """
        reads_frames = None
        if frames is not None:
            assert block.frames is not None and block.norm_frames is not None
            reads_frames = StepFrames.of(block.frames, StepNorm.of(block.norm_frames, class_id), frames, sight, way)
        up, _, down = block.mlp
        assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
        return cls(
            StepSelf.of(block.attention, StepNorm.of(block.norm_attention, class_id), cache, way),
            reads_frames,
            StepNorm.of(block.norm_mlp, class_id),
            way.linear(up),
            way.linear(down),
        )

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Map a token."""
        x_BD = x_BD + self.attention(x_BD)
        if self.frames is not None:
            x_BD = x_BD + self.frames(x_BD)
        h_BD = self.up(self.norm(x_BD))
        return x_BD + self.down(h_BD * torch.sigmoid(1.702 * h_BD))

    def select(self, streams: Tensor) -> StepBlock:
        """Copy the given streams."""
        frames = None if self.frames is None else self.frames.select(streams)
        return replace(self, attention=self.attention.select(streams), frames=frames, norm=self.norm.select(streams))


@dataclass
class BlockStack:
    """A ``Stack`` of torch's operators."""

    blocks: list[StepBlock]
    norm: StepNorm
    head: Map

    @classmethod
    def of(
        cls, prior: AutoregressivePrior, class_id: Tensor | None, caches: list[Cache],
        frames: list[tuple[Tensor, Tensor]] | list[None], way: Way,
    ) -> BlockStack:  # fmt: skip
        """Prepare all blocks.

        Args:
            prior: Gives the weights.
            class_id: Classes of the streams, (B,).
            caches: Of every block's self attention.
            frames: Keys and values of the conditioning frames for every block, if there are any.
            way: How products are computed.
        """
        sight = way.sight()
        blocks = [
            StepBlock.of(cast("Block", block), class_id, cache, pair, sight, way)
            for block, pair, cache in zip(prior.blocks, frames, caches, strict=True)
        ]
        return cls(blocks, StepNorm.of(prior.norm, class_id), way.linear(prior.head))

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Map a token."""
        for block in self.blocks:
            x_BD = block(x_BD)
        return self.head(self.norm(x_BD)).float()

    def select(self, streams: Tensor) -> BlockStack:
        """Copy the given streams."""
        return BlockStack([block.select(streams) for block in self.blocks], self.norm.select(streams), self.head)
