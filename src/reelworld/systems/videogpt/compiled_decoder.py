"""Compiled steps of a prior: one token of every stream through all blocks in one call of ``nn/decode.c``.

Computes ``DecoderBlock.forward``. In torch a token needs some three hundred operators; launching them takes as long as
reading the weights. Sums and the residual are float32, for all types of weights.

Shapes: B streams, D width, V codes
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import Structure, byref, c_int, c_int64, c_void_p
from typing import cast

import torch
from torch import Tensor, nn

from reelworld.nn.attention import BlockMask, CausalMask
from reelworld.nn.decode import huge_page_zeros, pointer
from reelworld.nn.decoder import ClassNorm, CrossAttention, DecoderBlock, LateEpsilonNorm, SelfAttention
from reelworld.nn.kv_cache import KVCache

CACHE_LINE = 64


# ---------------------------------------------------------------------- the structures of decode.c


class _Norm(Structure):
    _fields_ = (("gain", c_void_p), ("bias", c_void_p))


class _Linear(Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("inputs", c_int64), ("outputs", c_int64))


class _Attention(Structure):
    _fields_ = (("norm", _Norm), ("input", _Linear), ("out", _Linear))


class _Block(Structure):
    _fields_ = (("tokens", _Attention), ("cross", _Attention), ("norm", _Norm), ("up", _Linear), ("down", _Linear))


class _Decoder(Structure):
    _fields_ = (
        ("blocks", ctypes.POINTER(_Block)), ("norm", _Norm), ("head", _Linear), ("layers", c_int64), ("heads", c_int64)
    )  # fmt: skip


class _Cache(Structure):
    _fields_ = (
        ("keys", c_void_p), ("values", c_void_p),
        ("length", c_int64), ("key_width", c_int64), ("value_width", c_int64),
    )  # fmt: skip

    @classmethod
    def of(cls, cache: KVCache) -> _Cache:
        """Point to a cache; its tensors are replaced where streams share a prefix."""
        cache.unshare()
        assert cache.keys.is_contiguous() and cache.values.is_contiguous()
        sizes = (*cache.keys.shape[3:], cache.values.shape[4])
        return cls(cache.keys.data_ptr(), cache.values.data_ptr(), *sizes)


class _Visible(Structure):
    _fields_ = (("blocks", c_void_p), ("size", c_int64), ("count", c_int64))


# ---------------------------------------------------------------------- the decoder


class CompiledDecoder:
    """All blocks, the last norm and the head of a prior, with copies of the weights in huge pages."""

    def __init__(self, library: ctypes.CDLL, blocks: Sequence[DecoderBlock], norm: nn.Module, head: nn.Linear) -> None:
        """Copy the weights.

        Args:
            library: ``nn.decode.decode_library`` for these weights.
            blocks: Of the prior.
            norm: The last norm.
            head: From features to logits.
        """
        self.library, self.codes, self.width = library, head.out_features, head.in_features
        parameters = [p for module in (*blocks, norm, head) for p in module.parameters()]
        # norms are copied as float32
        self.memory = huge_page_zeros((sum(4 * p.numel() + CACHE_LINE for p in parameters),), torch.uint8)
        self.used = 0
        table = (_Block * len(blocks))(*(self._block(block) for block in blocks))
        self.heads = blocks[0].attention.heads
        self.decoder = _Decoder(table, self._norm(norm), self._linear(head), len(blocks), self.heads)

    def _copy(self, tensor: Tensor) -> int:
        """Copy a tensor and return its address."""
        n_bytes = tensor.numel() * tensor.element_size()
        piece = self.memory[self.used : self.used + n_bytes].view(tensor.dtype)
        piece.view(tensor.shape).copy_(tensor)
        self.used += -(-n_bytes // CACHE_LINE) * CACHE_LINE
        return piece.data_ptr()

    def _norm(self, norm: nn.Module) -> _Norm:
        if isinstance(norm, ClassNorm):
            return _Norm(self._copy((1 + norm.gain.weight).float()), self._copy(norm.bias.weight.float()))
        assert isinstance(norm, LateEpsilonNorm)
        return _Norm(self._copy(norm.gain.float()), self._copy(norm.bias.float()))

    def _linear(self, layer: nn.Linear) -> _Linear:
        bias = None if layer.bias is None else self._copy(layer.bias)
        return _Linear(self._copy(layer.weight), bias, layer.in_features, layer.out_features)

    def _attention(self, norm: nn.Module, layer: SelfAttention | CrossAttention) -> _Attention:
        first = layer.qkv if isinstance(layer, SelfAttention) else layer.query
        return _Attention(self._norm(norm), self._linear(first), self._linear(layer.out))

    def _block(self, block: DecoderBlock) -> _Block:
        own, cross = self._attention(block.norm_attention, block.attention), _Attention()
        if block.frames is not None and block.norm_frames is not None:
            cross = self._attention(block.norm_frames, block.frames)
        up, _, down = cast("tuple[nn.Linear, nn.Module, nn.Linear]", block.mlp)
        return _Block(own, cross, self._norm(block.norm_mlp), self._linear(up), self._linear(down))

    def __call__(
        self,
        x_BD: Tensor,
        tokens: KVCache,
        memory: KVCache | None,
        class_id: Tensor | None,
        mask: BlockMask | CausalMask,
    ) -> Tensor:
        """Map the next token of every stream.

        Args:
            x_BD: Its embedding.
            tokens: Keys and values of the tokens before, at which those of this one are appended.
            memory: Keys and values that cross attention reads; None without cross attention.
            class_id: Classes of the streams, int64 (B,); None without classes.
            mask: Of this token.

        Returns:
            Logits, float32 (B, V).
        """
        streams = len(x_BD)
        caches = [None if cache is None else _Cache.of(cache) for cache in (tokens, memory)]
        # C would write anywhere
        assert x_BD.shape[1] == self.width and tokens.keys.shape[1] == streams
        assert mask.first == tokens.longest < tokens.keys.shape[3]
        x_BD = x_BD.float().clone(memory_format=torch.contiguous_format)
        logits_BV = x_BD.new_empty(streams, self.codes)
        blocks, size, count = visible_blocks(mask)
        classes_B = torch.zeros(streams, dtype=torch.int64) if class_id is None else class_id.contiguous()
        is_done = self.library.decode_token(
            byref(self.decoder),
            *(None if cache is None else byref(cache) for cache in caches),
            byref(_Visible(blocks.data_ptr(), size, count)),
            pointer(classes_B),
            c_int64(tokens.longest),
            pointer(x_BD),
            pointer(logits_BV),
            c_int64(streams),
            c_int(torch.get_num_threads()),
        )
        if not is_done:
            raise MemoryError("there is no memory for the workspaces of a step.")
        tokens.advance(1)
        return logits_BV


def visible_blocks(mask: BlockMask | CausalMask) -> tuple[Tensor, int, int]:
    """List the tokens that a single query attends to.

    Returns:
        Ascending numbers of blocks of tokens, int64; tokens per block; and the number of first tokens of these blocks
        that the query attends to.
    """
    position = mask.first
    if isinstance(mask, CausalMask):
        return torch.zeros(1, dtype=torch.int64), position + 1, position + 1
    own = position // mask.block
    blocks = mask.layout[own, : own + 1].nonzero().flatten()
    return blocks, mask.block, (len(blocks) - 1) * mask.block + position % mask.block + 1
