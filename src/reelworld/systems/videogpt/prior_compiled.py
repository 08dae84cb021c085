"""One token at a time through the blocks of an autoregressive prior, in one call of compiled code (``prior_step.c``).

The same map as ``BlockStack``, and every weight, key and value is read once as there; but a token there is some three
hundred operators, and starting them takes as long as reading. Sums and what lies between layers are float32.

Shapes: B streams, D width, H heads, E F width of a head's keys and values, V codes
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_int, c_int64, c_void_p
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from reelworld.nn.token_cache import Cache, TokenCache, VisibleBlocks
from reelworld.nn.transformer import CrossAttention, SelfAttention
from reelworld.systems.videogpt.prior_steps import StepNorm, Way

if TYPE_CHECKING:
    from reelworld.systems.videogpt.prior import AutoregressivePrior, Block

__all__ = ["PHASES", "CompiledStack"]

PHASES = ("norms", "products", "attention", "waiting")
"""What a thread does in a step; ``waiting`` is for other threads."""

# ---------------------------------------------------------------------- the structures of prior_step.c


class _Norm(Structure):
    _fields_ = (("gain", c_void_p), ("bias", c_void_p))


class _Matrix(Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("inputs", c_int64), ("outputs", c_int64))


class _Cache(Structure):
    _fields_ = (
        ("keys", c_void_p),
        ("values", c_void_p),
        ("room", c_int64),
        ("key_width", c_int64),
        ("value_width", c_int64),
    )


class _Attention(Structure):
    _fields_ = (("norm", _Norm), ("first", _Matrix), ("cache", _Cache), ("out", _Matrix))


class _Block(Structure):
    _fields_ = (("own", _Attention), ("frames", _Attention), ("norm", _Norm), ("up", _Matrix), ("down", _Matrix))


class _Model(Structure):
    _fields_ = (
        ("blocks", ctypes.POINTER(_Block)),
        ("norm", _Norm),
        ("head", _Matrix),
        ("n_blocks", c_int64),
        ("streams", c_int64),
        ("heads", c_int64),
    )


class _Seen(Structure):
    _fields_ = (("blocks", c_void_p), ("size", c_int64), ("count", c_int64))


# ---------------------------------------------------------------------- what they point to


class Affine(NamedTuple):
    """A linear layer: (O, I) and (O,)."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, linear: nn.Linear, way: Way) -> Affine:
        """Copy a layer into large pages."""
        assert way.pages is not None
        weight, bias = linear.weight, linear.bias
        copy = way.pages.zeros(weight.shape, weight.dtype).copy_(weight)
        return cls(copy, None if bias is None else bias.detach().clone())

    def c(self) -> _Matrix:
        """Point to it."""
        bias = None if self.bias is None else self.bias.data_ptr()
        return _Matrix(self.weight.data_ptr(), bias, self.weight.shape[1], self.weight.shape[0])


class Reader(NamedTuple):
    """An attention with the norm before it: of the tokens so far, or of the conditioning frames."""

    norm: StepNorm
    first: Affine
    cache: TokenCache
    out: Affine

    def c(self) -> _Attention:
        """Point to it."""
        cache = self.cache
        sizes = (cache.keys.shape[2], cache.keys.shape[3], cache.values.shape[3])
        where = _Cache(cache.keys.data_ptr(), cache.values.data_ptr(), *sizes)
        return _Attention(_norm(self.norm), self.first.c(), where, self.out.c())

    def select(self, streams: Tensor) -> Reader:
        """Copy the given streams."""
        return self._replace(norm=self.norm.select(streams), cache=self.cache.select(streams))


class CompiledBlock(NamedTuple):
    """A block."""

    attention: Reader
    frames: Reader | None
    norm: StepNorm
    up: Affine
    down: Affine

    @classmethod
    def of(
        cls, block: Block, class_id: Tensor | None, cache: Cache, frames: tuple[Tensor, Tensor] | None,
        sight: VisibleBlocks, way: Way,
    ) -> CompiledBlock:  # fmt: skip
        """Prepare a block; arguments as of ``StepBlock.of``."""
        streams = cast(TokenCache, cache).keys.shape[0]

        def reader(layer: SelfAttention | CrossAttention, norm: nn.Module | None, memory: Cache) -> Reader:
            first = layer.qkv if isinstance(layer, SelfAttention) else layer.query
            assert norm is not None and isinstance(memory, TokenCache)
            return Reader(
                StepNorm.of(norm, class_id).each(streams), Affine.of(first, way), memory, Affine.of(layer.out, way)
            )

        reads_frames = None
        if frames is not None:
            assert block.frames is not None
            seen = way.cache((*frames[0].shape,), frames[1].shape[-1], sight)
            seen.fill(*frames)
            reads_frames = reader(block.frames, block.norm_frames, seen)
        up, _, down = block.mlp
        assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
        return cls(
            reader(block.attention, block.norm_attention, cache),
            reads_frames,
            StepNorm.of(block.norm_mlp, class_id).each(streams),
            Affine.of(up, way),
            Affine.of(down, way),
        )

    def c(self) -> _Block:
        """Point to it."""
        frames = _Attention() if self.frames is None else self.frames.c()
        return _Block(self.attention.c(), frames, _norm(self.norm), self.up.c(), self.down.c())

    def select(self, streams: Tensor) -> CompiledBlock:
        """Copy the given streams."""
        frames = None if self.frames is None else self.frames.select(streams)
        return self._replace(attention=self.attention.select(streams), frames=frames, norm=self.norm.select(streams))


def _norm(norm: StepNorm) -> _Norm:
    return _Norm(norm.gain.data_ptr(), norm.bias.data_ptr())


def _seen(cache: TokenCache, length: int) -> tuple[_Seen, Tensor]:
    """Say what the last of so many tokens sees; the tensor must outlive the call."""
    blocks = cache.sight.blocks(length - 1).contiguous()
    return _Seen(blocks.data_ptr(), cache.sight.block, cache.sight.count(length - 1)), blocks


# ---------------------------------------------------------------------- the step


class CompiledStack:
    """All blocks, the last norm and the head, for one token per stream; remembers the tokens before.

    Attributes:
        seconds: None, or float64 (4,), to which the first thread adds the time that it spends in each of ``PHASES``.
    """

    seconds: Tensor | None = None

    def __init__(self, code: ctypes.CDLL, blocks: list[CompiledBlock], norm: StepNorm, head: Affine) -> None:
        self.code, self.blocks, self.norm, self.head = code, blocks, norm, head
        keys = blocks[0].attention.cache.keys
        streams, heads, length = keys.shape[:3]
        self.model = _Model(
            (_Block * len(blocks))(*(block.c() for block in blocks)),
            _norm(norm),
            head.c(),
            len(blocks),
            streams,
            heads,
        )
        # workspaces: for all threads, and for each of them
        outs = [reader.out.weight for b in blocks for reader in (b.attention, b.frames) if reader is not None]
        frames = blocks[0].frames
        self.hidden = norm.gain.new_empty(streams, blocks[0].up.weight.shape[0])
        self.mixed = norm.gain.new_empty(streams, max(out.shape[1] for out in outs))
        self.private = self.norm.gain.numel() + max(length, 0 if frames is None else frames.cache.length)
        self.frames_seen = (_Seen(), None) if frames is None else _seen(frames.cache, frames.cache.length)

    @classmethod
    def of(
        cls, prior: AutoregressivePrior, class_id: Tensor | None, caches: list[Cache],
        frames: list[tuple[Tensor, Tensor]] | list[None], way: Way,
    ) -> CompiledStack:  # fmt: skip
        """Prepare all; arguments as of ``BlockStack.of``."""
        assert way.code is not None
        sight = way.sight()
        blocks = [
            CompiledBlock.of(cast("Block", block), class_id, cache, pair, sight, way)
            for block, pair, cache in zip(prior.blocks, frames, caches, strict=True)
        ]
        streams = blocks[0].attention.cache.keys.shape[0]
        return cls(way.code, blocks, StepNorm.of(prior.norm, class_id).each(streams), Affine.of(prior.head, way))

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Map a token, float32; returns logits, float32 (B, V)."""
        cache = self.blocks[0].attention.cache
        assert x_BD.shape == self.norm.gain.shape and cache.length < cache.keys.shape[2]  # C would write anywhere
        x_BD = x_BD.float().clone(memory_format=torch.contiguous_format)
        logits_BV = x_BD.new_empty(len(x_BD), self.head.weight.shape[0])
        threads = torch.get_num_threads()
        own = x_BD.new_empty(threads, self.private)
        seen, _kept = _seen(cache, cache.length + 1)
        self.code.step(
            byref(self.model),
            byref(seen),
            byref(self.frames_seen[0]),
            c_int64(cache.length),
            *(c_void_p(t.data_ptr()) for t in (x_BD, logits_BV, self.hidden, self.mixed, own)),
            c_int64(self.private),
            None if self.seconds is None else c_void_p(self.seconds.data_ptr()),
            c_int(threads),
        )
        for block in self.blocks:
            block.attention.cache.length += 1
        return logits_BV

    def select(self, streams: Tensor) -> CompiledStack:
        """Copy the given streams."""
        blocks = [block.select(streams) for block in self.blocks]
        return CompiledStack(self.code, blocks, self.norm.select(streams), self.head)
