"""Latent actions with convolutions on the grid of patches: for small worlds and two CPU cores.

On small worlds these learn several times faster than spatial attention (docs/log.md). Encoder and decoder read two
frames, so that velocity is observable.

Shapes: B batch, T frames, N patches per frame, F = B * T, R C rows and columns of patches, D width, E width of a code's
  vector, X pixel values of a patch
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reelworld.nn.conv_mixer import ConvMixerBlock
from reelworld.systems.genie.latent_action import LatentActionConfig, LatentActionModel

__all__ = ["GridLatentActions", "GridLatentConfig"]


@dataclass(frozen=True, kw_only=True)
class GridLatentConfig(LatentActionConfig):
    """Shape of a latent action model of grid blocks."""


class GridLatentActions(LatentActionModel):
    """The encoder reads a frame and the next one; the decoder reads a frame, the previous one, and the action."""

    def __init__(self, config: GridLatentConfig) -> None:
        super().__init__(config)
        flat, width = config.patch * config.patch * 3, config.model_width
        self.seen = nn.Linear(2 * flat, width)
        self.encoder = _Blocks(config.encoder_layers, config)
        self.past = nn.Linear(2 * flat, width)
        self.tell = nn.Linear(config.code_width, width)
        self.decoder = _Blocks(config.decoder_layers, config)

    def describe(self, patches_BTNX: Tensor) -> Tensor:
        """Compare neighbouring frames."""
        described: Tensor = self.encoder(self.seen(torch.cat([patches_BTNX[:, :-1], patches_BTNX[:, 1:]], -1)))
        return described

    def foresee(self, patches_BTNX: Tensor, actions_BTE: Tensor) -> Tensor:
        """Read each frame, the one before it, and the action."""
        earlier = torch.cat([patches_BTNX[:, :1], patches_BTNX[:, :-1]], 1)
        past_BTND = self.past(torch.cat([patches_BTNX, patches_BTNX - earlier], -1))
        foreseen: Tensor = self.decoder(past_BTND + self.tell(actions_BTE).unsqueeze(2))
        return foreseen


class _Blocks(nn.Module):
    """Grid blocks over frames (B, T, N, D), and a norm."""

    def __init__(self, layers: int, config: LatentActionConfig) -> None:
        super().__init__()
        self.grid = (config.rows, config.columns)
        self.blocks = nn.ModuleList([ConvMixerBlock(config.model_width) for _ in range(layers)])
        self.norm = nn.LayerNorm(config.model_width)

    def forward(self, x_BTND: Tensor) -> Tensor:
        """Apply the blocks and the norm."""
        x_FRCD = x_BTND.flatten(0, 1).unflatten(1, self.grid)
        for block in self.blocks:
            x_FRCD = block(x_FRCD)
        out: Tensor = self.norm(x_FRCD.flatten(1, 2).view(x_BTND.shape))
        return out
