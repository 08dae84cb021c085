"""Frame encoder and decoder with cross attention to context frames: their codes need only represent changes.

The context's features are projected to keys and values once (``ContextMemory``), for any number of frames.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), section 3.1 and the authors' code, from which the names of layers
are.

Shapes: B clips, F frames of each that are coded or decoded at once, K context frames, C channels, H W rows and columns
  of a feature map, L = K * H * W positions that are attended to, S heads, E = C / S
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.nn.attention import attention
from reelworld.nn.decoder import merge_heads, split_heads
from reelworld.nn.streams import Streams
from reelworld.systems.ivideogpt.vqgan import FrameDecoder, FrameEncoder

HEADS = 4
NORM_GROUPS = 32
"""Groups of the norms before the attention to the context; independent of the other norms."""

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ContextMemory(Streams):
    """Keys and values (B, S, L, E) of every layer that attends to the context."""

    layers: tuple[KeysValues, ...]


class ContextAttention(nn.Module):
    """Every position of a frame's map attends to all positions of the context's maps."""

    def __init__(self, channels: int, n_places: int, n_context: int, dropout: float) -> None:
        """Make the layer.

        Args:
            channels: C of both maps.
            n_places: H * W.
            n_context: K.
            dropout: Dropout probability of attention weights and outputs.
        """
        super().__init__()
        self.dropout = dropout
        self.kv_norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.q_norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.q_pos_emb = nn.Parameter(torch.zeros(n_places, channels))
        self.kv_pos_emb = nn.Parameter(torch.zeros(n_context * n_places, channels))
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def encode_context(self, maps_BKCHW: Tensor) -> KeysValues:
        """Project the context's maps; the norm is over all of them."""
        stacked_BCL = maps_BKCHW.transpose(1, 2).flatten(2)
        x_BLC = self.kv_norm(stacked_BCL).transpose(1, 2) + self.kv_pos_emb
        channels = x_BLC.shape[-1]
        weight, bias = self.in_proj_weight[channels:], self.in_proj_bias[channels:]
        k, v = (split_heads(part, HEADS) for part in functional.linear(x_BLC, weight, bias).chunk(2, -1))
        return k, v

    def forward(self, x: Tensor, keys_values: KeysValues) -> Tensor:
        """Add cross attention to the context to maps (B * F, C, H, W), and apply SiLU.

        All frames of a clip share the keys, so that their positions are the queries of one attention.
        """
        clips, size = keys_values[0].shape[0], x.shape[2:]
        channels, rate = x.shape[1], self.dropout if self.training else 0.0
        x_NPC = self.q_norm(x).flatten(2).transpose(1, 2) + self.q_pos_emb
        q_NPC = functional.linear(x_NPC, self.in_proj_weight[:channels], self.in_proj_bias[:channels])
        q = split_heads(q_NPC.reshape(clips, -1, channels), HEADS)
        mixed_NPC = self.out_proj(merge_heads(attention(q, *keys_values, dropout=rate))).view_as(q_NPC)
        mixed = functional.dropout(mixed_NPC, self.dropout, self.training).transpose(1, 2).unflatten(2, size)
        return functional.silu(x + mixed)


class ConditionalEncoder(nn.Module):
    """Encoder whose blocks on small maps attend to the context's maps after the same block."""

    def __init__(
        self, channels: Sequence[int], n_layers: int, latent: int, groups: int, *, size: tuple[int, int],
        n_context: int, largest: int, dropout: float,
    ) -> None:  # fmt: skip
        """Make the network.

        Args:
            channels: As of ``FrameEncoder``, and so ``n_layers``, ``latent`` and ``groups``.
            n_layers: See there.
            latent: See there.
            groups: See there.
            size: Pixel rows and columns of a frame.
            n_context: K.
            largest: Rows or columns of the largest map that attends.
            dropout: In the attention.
        """
        super().__init__()
        self.net = FrameEncoder(channels, n_layers, latent, groups, has_attention=True)
        halvings = [min(i + 1, len(channels) - 1) for i in range(len(channels))]
        sizes = [(size[0] >> n, size[1] >> n) for n in halvings]
        self.places = tuple(i for i, s in enumerate(sizes) if max(s) <= largest)
        self.cross_att_blocks = nn.ModuleList(
            ContextAttention(channels[i], sizes[i][0] * sizes[i][1], n_context, dropout) for i in self.places
        )

    def encode_context(self, maps: Sequence[Tensor]) -> ContextMemory:
        """Project the context's ``FrameEncoder.maps``, each (B, K, C, H, W)."""
        return ContextMemory(tuple(layer.encode_context(maps[i + 1]) for i, layer in self._layers()))

    def forward(self, pixels: Tensor, memory: ContextMemory) -> Tensor:
        """Encode pixels (B * F, 3, H, W) to the features before quantization."""
        x = self.net.conv_in(pixels)
        attends = {i: (layer, seen) for (i, layer), seen in zip(self._layers(), memory.layers, strict=True)}
        for i, block in enumerate(self.net.down_blocks):
            x = block(x)
            if i in attends:
                layer, keys_values = attends[i]
                x = layer(x, keys_values)
        return self.net.read_out(self.net.mid_block(x))

    def _layers(self) -> Iterator[tuple[int, ContextAttention]]:
        return zip(self.places, cast("Iterable[ContextAttention]", self.cross_att_blocks), strict=True)


class ConditionalDecoder(nn.Module):
    """Decoder that attends to the context's maps after its middle, and after blocks on small maps."""

    def __init__(
        self, channels: Sequence[int], n_layers: int, latent: int, groups: int, *, size: tuple[int, int],
        n_context: int, largest: int, dropout: float,
    ) -> None:  # fmt: skip
        """Make the network; the arguments are those of the encoder."""
        super().__init__()
        self.net = FrameDecoder(channels, n_layers, latent, groups, has_attention=True)
        last = len(channels) - 1
        halvings = [last, *(max(last - 1 - i, 0) for i in range(len(channels)))]  # the middle, then each block
        sizes = [(size[0] >> n, size[1] >> n) for n in halvings]
        widths = [channels[-1], *reversed(channels)]
        self.places = tuple(i for i, s in enumerate(sizes) if i == 0 or max(s) <= largest)
        self.cross_att_blocks = nn.ModuleList(
            ContextAttention(widths[i], sizes[i][0] * sizes[i][1], n_context, dropout) for i in self.places
        )

    def encode_context(self, maps: Sequence[Tensor]) -> ContextMemory:
        """Project the context's ``FrameDecoder.maps``, each (B, K, C, H, W)."""
        return ContextMemory(tuple(layer.encode_context(maps[i]) for i, layer in self._layers()))

    def forward(self, vectors: Tensor, memory: ContextMemory) -> Tensor:
        """Turn codes' vectors (B * F, E, h, w) into pixels (B * F, 3, H, W)."""
        x = self.net.conv_in(vectors)
        attends = {i: (layer, seen) for (i, layer), seen in zip(self._layers(), memory.layers, strict=True)}
        for i, block in enumerate((self.net.mid_block, *self.net.up_blocks)):
            x = block(x)
            if i in attends:
                layer, keys_values = attends[i]
                x = layer(x, keys_values)
        return self.net.read_out(x)

    def _layers(self) -> Iterator[tuple[int, ContextAttention]]:
        return zip(self.places, cast("Iterable[ContextAttention]", self.cross_att_blocks), strict=True)
