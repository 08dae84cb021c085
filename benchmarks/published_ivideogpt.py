"""Stepping and learning the way the published iVideoGPT code does it, to measure ours against.

Written from a description of that code's behaviour; it takes the weights of our parts, so that both draw the same
tokens. What is done for every frame, as there:

- the whole past is read again to begin the frame's codes; keys and values are kept within the frame alone, and put
  together anew with every token,
- every token is scored among all ids,
- the context's frames and features are decoded again with the frame.

In learning, all positions are scored among all ids, those of the context as well. Easier than there: while a frame is
drawn, only the last position of the past is scored.

Shapes: B batch, L tokens, D width, H heads, E width of a head, V vocabulary, A numbers of an action
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.nn.decoder import DecoderBlock
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
from reelworld.types import Codes, Sampler

__all__ = ["PublishedSteps", "published_loss"]


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    """RMS norm, in float32."""
    assert isinstance(layer, nn.RMSNorm) and layer.eps is not None
    wide = x.float()
    return layer.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + layer.eps)).to(x.dtype)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: both halves of (B, H, L, E) by cosines and sines (L, E)."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


@dataclass
class Kept:
    """Keys and values of each layer, (B, H, L, E)."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens that were read."""
        return self.layers[0][0].shape[2] if self.layers else 0


def transformer(model: IVideoGPTTransformer, x_BLD: Tensor, kept: Kept | None) -> Tensor:
    """Read tokens behind those that are kept; every product of matrices by itself."""
    stack = model.transformer
    first = kept.length if kept is not None else 0
    places = torch.arange(first, first + x_BLD.shape[1])
    cos, sin = (table[places].repeat(1, 2) for table in (stack.rotary.cos, stack.rotary.sin))
    for number, module in enumerate(stack.blocks):
        block = cast(DecoderBlock, module)
        heads = block.attention.heads
        entered = norm(block.norm_attention, x_BLD)
        weights = block.attention.qkv.weight.chunk(3)
        q, k, v = (functional.linear(entered, w).unflatten(-1, (heads, -1)).transpose(1, 2) for w in weights)
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        if kept is not None:
            if number < len(kept.layers):
                k, v = (torch.cat(pair, 2) for pair in zip(kept.layers[number], (k, v), strict=True))
                kept.layers[number] = k, v
            else:
                kept.layers.append((k, v))
        is_whole = q.shape[2] == k.shape[2]
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=is_whole)
        x_BLD = x_BLD + block.attention.out(mixed.transpose(1, 2).flatten(2))
        entered = norm(block.norm_mlp, x_BLD)
        gate, up = (functional.linear(entered, w) for w in block.mlp.gate_up.weight.chunk(2))
        x_BLD = x_BLD + block.mlp.down(functional.silu(gate) * up)
    return norm(stack.norm, x_BLD)


class PublishedSteps:
    """One stream that goes on frame by frame."""

    def __init__(self, model: IVideoGPTTransformer, tokenizer: ContextVQGAN, codes: Codes) -> None:
        """Begin with the codes of a context, both grids (1, K, ...)."""
        self.model, self.tokenizer, self.context = model, tokenizer, codes
        self.ids = model.layout.pack(codes)
        self.actions: list[Tensor] = []

    def step(self, action: Tensor, sampler: Sampler, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Take an action, (1, A): the codes of the next frame, (1, M), and its pixels, (1, H, W, 3)."""
        codes = self.draw(action, sampler, generator)
        both = {name: torch.cat([grid, torch.zeros_like(grid[:, :1])], 1) for name, grid in self.context.grids.items()}
        both["video"][:, -1] = codes
        return codes, self.tokenizer.pixels(Codes(both))[:, -1]

    def draw(self, action: Tensor, sampler: Sampler, generator: torch.Generator) -> Tensor:
        """Draw the codes of the next frame, (1, M)."""
        model, layout = self.model, self.model.layout
        self.actions.append(action)
        self.ids = torch.cat([self.ids, torch.full((1, 1), layout.frame_slot)], 1)
        kept, x_BLD = Kept(), self._entered()
        for _ in range(layout.frame_tokens):
            logits = model.head(transformer(model, x_BLD, kept)[:, -1]).float()
            drawn = sampler(logits, generator)[:, None]
            self.ids = torch.cat([self.ids, drawn], 1)
            x_BLD = model.embed(drawn)
        return (self.ids[:, -layout.frame_tokens :] - layout.context_codes).clamp(0, layout.frame_codes - 1)

    def _entered(self) -> Tensor:
        """Embed the whole past, with the actions at the slots."""
        model, layout = self.model, self.model.layout
        assert model.action is not None
        x_BLD: Tensor = model.embed(self.ids).clone()
        for i, action in enumerate(self.actions):
            x_BLD[:, layout.prelude + i * layout.stride] += model.action(action)
        return x_BLD


def published_loss(model: IVideoGPTTransformer, ids: Tensor) -> Tensor:
    """Mean cross-entropy of what is to be predicted in whole sequences, (B, L), without actions."""
    logits = model.head(transformer(model, model.embed(ids), None)).float()
    labels = model.layout.labels(ids)[:, 1:]
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten(), ignore_index=-100)
