"""Patch discriminator of the adversarial loss: reconstructed against recorded frames.

Source: Rampas et al. 2022, Paella (arXiv:2211.07292), as used by iVideoGPT (arXiv:2405.15223). Differs: no sigmoid on
the output, as the hinge loss requires.

Shapes: B frames, C channels, H W rows and columns
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["Discriminator"]


class Discriminator(nn.Module):
    """Convolutions with stride 2 and bounded gain."""

    def __init__(self, width: int = 512, depth: int = 4) -> None:
        """Make the network.

        Args:
            width: Channels of the last layer; a multiple of 2 ** (depth - 1).
            depth: Layers; each but the first halves both sides.
        """
        super().__init__()
        widths = [width >> (depth - 1 - i) for i in range(depth)]
        layers: list[nn.Module] = [spectral_norm(nn.Conv2d(3, widths[0], 3, padding=1)), nn.LeakyReLU(0.2)]
        for inputs, outputs in pairwise(widths):
            layers += [
                spectral_norm(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)),
                nn.InstanceNorm2d(outputs),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Score frames (B, 3, H, W) in [-1, 1] at each position, (B, 1, h, w); higher is more real."""
        out: Tensor = self.layers(pixels)
        return out
