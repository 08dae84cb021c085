"""Sampling and coding the way the published VideoGPT code does it, to measure ours against.

Written from a description of that code's behaviour; it takes the weights of our parts, so that both draw the same
tokens. What is done at every step, as there:

- a cache of keys and values of full length per layer; every step attends to all N slots and hides those to come,
- the positions of the whole grid are expanded and put together,
- the codebook's vectors of the whole grid are looked up,
- block-sparse attention builds its row of the mask anew in every layer, and reads all slots as well,
- keys and values of the conditioning frames are projected in every layer,
- queries, keys and values are three products, attention is two products and a softmax between them,
- a loss is computed that nobody reads.

Shapes: B batch, P latent frames, R C grid rows and columns, N tokens of a clip, D width, H heads, E width of a head,
  K codes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.nn.decoder import CrossAttention, DecoderBlock, LateEpsilonNorm, SelfAttention
from reelworld.systems.videogpt.block_sparse_layout import BLOCK
from reelworld.systems.videogpt.prior import AutoregressivePrior
from reelworld.systems.videogpt.vqvae import VQVAE3D, AttentionResidual, AxialBlock


def split(x: Tensor, heads: int) -> Tensor:
    """Turn (B, ..., H * E) into (B, H, ..., E)."""
    return x.unflatten(-1, (heads, -1)).movedim(-2, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Plain attention; ``hidden`` is True where a key may not be seen."""
    scores = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    return torch.matmul(scores.float().softmax(-1).to(v.dtype), v)


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    """Layer norm with the epsilon added last, in float32."""
    assert isinstance(layer, LateEpsilonNorm)
    wide = x.float()
    mean = wide.mean(-1, keepdim=True)
    variance = (wide - mean).square().mean(-1, keepdim=True)
    return ((wide - mean) * (1e-5 + variance.rsqrt()) * layer.gain + layer.bias).to(x.dtype)


@dataclass
class Cached:
    """Keys and values of one layer, (B, H, P, R, C, E)."""

    keys: Tensor
    values: Tensor


class PublishedSampler:
    """Draws the tokens of one clip after the other, as the published code does.

    Attributes:
        tokens: The clip so far, int64 (1, P, R, C); tokens to come are 0.
        position: Tokens drawn so far.
    """

    def __init__(self, prior: AutoregressivePrior, video: Tensor | None = None) -> None:
        """Begin a clip.

        Args:
            prior: Gives the weights.
            video: Conditioning frames in [-1, 1], (1, T, H, W, 3), where the prior wants them.
        """
        self.prior, config = prior, prior.config
        self.shape = config.shape
        self.sparse, self.layout = config.attention == "sparse", prior.layout
        n = config.n_tokens
        # the published full attention keeps this triangle as a buffer
        self.hidden = None if self.sparse else torch.ones(n, n, dtype=torch.bool).triu(1)
        self.features = None
        if prior.frame_net is not None:
            assert video is not None
            self.features = prior.features(video.to(prior.embed.weight.dtype)).flatten(1, 3) + prior.frame_positions()
        width = config.hidden_dim // config.heads
        like = prior.embed.weight
        self.caches = [
            Cached(*(like.new_zeros(1, config.heads, *self.shape, width) for _ in range(2))) for _ in prior.blocks
        ]
        self.tokens = torch.zeros(1, *self.shape, dtype=torch.int64)
        self.position = 0

    def step(self, greedy: bool = False) -> int:
        """Draw one token."""
        place = self._place(self.position)
        logits = self._logits(place)
        # the published forward returns a loss at every step
        functional.cross_entropy(logits, self.tokens[:, *place])
        drawn = logits.argmax(-1) if greedy else torch.multinomial(logits.softmax(-1), 1)[:, 0]
        self.tokens[:, *place] = drawn
        self.position += 1
        return int(drawn)

    def _place(self, position: int) -> tuple[int, int, int]:
        _, rows, columns = self.shape
        return position // (rows * columns), position // columns % rows, position % columns

    def _logits(self, place: tuple[int, int, int]) -> Tensor:
        prior = self.prior
        vectors = functional.embedding(self.tokens, prior.codebook)
        if self.position:
            before = vectors[:, *self._place(self.position - 1)]
            x = functional.linear(before, prior.embed.weight)
        else:
            x = prior.start[None]
        x = (x + prior.positions().view(*self.shape, -1)[place])[:, None]
        for block, cache in zip(prior.blocks, self.caches, strict=True):
            x = self._block(cast(DecoderBlock, block), x, cache, place)
        return functional.linear(norm(prior.norm, x), prior.head.weight)[:, 0].float()

    def _block(self, block: DecoderBlock, x: Tensor, cache: Cached, place: tuple[int, int, int]) -> Tensor:
        x = x + self._attention(block.attention, norm(block.norm_attention, x), cache, place)
        if block.frames is not None:
            assert block.norm_frames is not None
            x = x + self._frames(block.frames, norm(block.norm_frames, x))
        up, _, down = block.mlp
        h = up(norm(block.norm_mlp, x))
        return x + down(h * torch.sigmoid(1.702 * h))

    def _attention(self, layer: SelfAttention, x: Tensor, cache: Cached, place: tuple[int, int, int]) -> Tensor:
        q, k, v = (split(functional.linear(x, weight), layer.heads) for weight in layer.qkv.weight.chunk(3))
        cache.keys[:, :, *place] = k[:, :, 0]
        cache.values[:, :, *place] = v[:, :, 0]
        mixed = attend(q, cache.keys.flatten(2, 4), cache.values.flatten(2, 4), self._hidden())
        return layer.out(mixed.transpose(1, 2).flatten(2))

    def _hidden(self) -> Tensor:
        if self.hidden is not None:
            return self.hidden[self.position][None]
        seen = self.layout[self.position // BLOCK].repeat_interleave(BLOCK)
        return ~(seen & (torch.arange(len(seen)) <= self.position))[None]

    def _frames(self, layer: CrossAttention, x: Tensor) -> Tensor:
        assert self.features is not None
        key, value = layer.key_value.weight.split([layer.width, layer.value_width])
        k = split(functional.linear(self.features, key), layer.heads)
        v = split(functional.linear(self.features, value), layer.heads)
        mixed = attend(split(layer.query(x), layer.heads), k, v)
        return layer.out(mixed.transpose(1, 2).flatten(2))


# ---------------------------------------------------------------------- the VQ-VAE


def axial(layer: AxialBlock, x: Tensor) -> Tensor:
    """Sum of three attentions, each with three products for queries, keys and values: (B, D, P, R, C)."""
    x = x.movedim(1, -1)
    out = torch.zeros_like(x)
    for attention, axis in ((layer.columns, 3), (layer.rows, 2), (layer.frames, 1)):
        along = x.movedim(axis, -2)
        q, k, v = (
            functional.linear(along, w).unflatten(-1, (attention.heads, -1)).transpose(-2, -3)
            for w in attention.qkv.weight.chunk(3)
        )
        mixed = attention.out(attend(q, k, v).transpose(-2, -3).flatten(-2))
        out = out + mixed.movedim(-2, axis)
    return out.movedim(-1, 1)


def residuals(stack: nn.Sequential, x: Tensor) -> Tensor:
    """The blocks between the strided convolutions and the codes."""
    for part in stack:
        if isinstance(part, AttentionResidual):
            x = x + axial(cast(AxialBlock, part.block[-1]), part.block[:-1](x))
        else:
            x = part(x)
    return x


def encode(model: VQVAE3D, video: Tensor) -> Tensor:
    """Encode video in [-1, 1], (B, T, H, W, 3), with all distances to the codebook at once: (B, P, R, C)."""
    x = video.permute(0, 4, 1, 2, 3) * 0.5
    for conv in model.encoder.down:
        x = torch.relu(conv(x))
    z = model.before(residuals(model.encoder.residuals, model.encoder.last(x))).movedim(1, -1)
    flat, vectors = z.flatten(0, 3), model.codebook.vectors
    distances = flat.square().sum(1, keepdim=True) - 2 * flat @ vectors.t() + vectors.t().square().sum(0, keepdim=True)
    return distances.argmin(1).view(z.shape[:-1])


def decode(model: VQVAE3D, codes: Tensor) -> Tensor:
    """Decode (B, P, R, C) into video in [-1, 1]."""
    x = residuals(
        model.decoder.residuals, model.after(functional.embedding(codes, model.codebook.vectors).movedim(-1, 1))
    )
    for i, conv in enumerate(model.decoder.up):
        x = conv(x if i == 0 else torch.relu(x))
    return x.clamp(-0.5, 0.5).mul(2).movedim(1, -1)
