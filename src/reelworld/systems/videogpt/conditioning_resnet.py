"""Residual network that encodes conditioning frames.

Source: VideoGPT (arXiv:2104.10157), the authors' code: a ResNet-34-like network of 3D convolutions with layer norm
over channels; the second norm of a block has a ReLU too, before the sum.

Shapes: B batch, C channels, T H W frames, pixel rows and columns
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = (3, 4, 6, 3)
STRIDES = (1, 2, 2, 1)
SPACE_STRIDE = 4
"""Pixels per feature, along each side; every frame keeps its own features."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, T, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """Residual block: two convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, is_first: bool) -> None:
        super().__init__()
        steps = (1, stride, stride)
        self.conv1 = nn.Conv3d(inputs, outputs, 3, steps, padding=1, bias=False)
        self.norm1 = ChannelNorm(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = ChannelNorm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if is_first:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, steps, bias=False), ChannelNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C', T, H / stride, W / stride)."""
        h = torch.relu(self.norm1(self.conv1(x)))
        h = torch.relu(self.norm2(self.conv2(h)))
        return functional.relu(self.shortcut(x) + h)


class ConditioningResNet(nn.Module):
    """Frames (B, T, H, W, 3) in [-1, 1] -> features (B, T, H / 4, W / 4, F)."""

    def __init__(self, width: int, features: int) -> None:
        """Make the network.

        Args:
            width: Channels of the first group; the next ones have twice and four times as many.
            features: Channels F of the last group.
        """
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, width, 3, padding=1, bias=False), ChannelNorm(width), nn.ReLU())
        widths = (width, 2 * width, 4 * width, features)
        inputs = (width, *widths[:-1])
        self.groups = nn.ModuleList(
            nn.Sequential(*(Block(i if b == 0 else o, o, s if b == 0 else 1, b == 0) for b in range(n)))
            for i, o, s, n in zip(inputs, widths, STRIDES, BLOCKS, strict=True)
        )

    def forward(self, video_BTHWC: Tensor) -> Tensor:
        """Read frames."""
        x = self.stem(video_BTHWC.permute(0, 4, 1, 2, 3) * 0.5)
        for group in self.groups:
            x = group(x)
        out: Tensor = x.permute(0, 2, 3, 4, 1)
        return out
