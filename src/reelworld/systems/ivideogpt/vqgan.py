"""Encoder and decoder of a VQGAN for single frames, with access to intermediate features.

Names of layers are those of the published weights (the autoencoder blocks of diffusers 0.27).

Source: Esser et al. 2021 (arXiv:2012.09841), section 3.1. Differs: attention in the middle is an option of the caller.

Shapes: B frames, C channels, H W rows and columns of a feature map, L = H * W
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional

from reelworld.nn.attention import attention

__all__ = ["FrameDecoder", "FrameEncoder", "MidBlock", "UpBlock", "norm"]

EPSILON = 1e-6


def norm(channels: int, groups: int) -> nn.GroupNorm:
    """Make the norm of the residual blocks."""
    return nn.GroupNorm(groups, channels, eps=EPSILON)


class ResidualBlock(nn.Module):
    """Residual block: two convolutions, each after a norm and SiLU."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = norm(inputs, groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = norm(outputs, groups)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        h = self.conv1(functional.silu(self.norm1(x)))
        out: Tensor = self.conv_shortcut(x) + self.conv2(functional.silu(self.norm2(h)))
        return out


class Downsample(nn.Module):
    """Halve both sides; the extra row and column of zeros are at the bottom and right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H / 2, W / 2)."""
        out: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Double both sides by repetition, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2 H, 2 W)."""
        out: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class MapAttention(nn.Module):
    """Self-attention over all positions of a feature map, with one head."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = norm(channels, groups)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix (B, C, H, W)."""
        x_BLC = self.group_norm(x_BCHW).flatten(2).transpose(1, 2)
        q, k, v = (layer(x_BLC).unsqueeze(1) for layer in (self.to_q, self.to_k, self.to_v))
        mixed_BLC = self.to_out[0](attention(q, k, v).squeeze(1))
        out: Tensor = x_BCHW + mixed_BLC.transpose(1, 2).unflatten(2, x_BCHW.shape[2:])
        return out


class MidBlock(nn.Module):
    """Two residual blocks, perhaps with attention between them."""

    def __init__(self, channels: int, groups: int, has_attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(channels, channels, groups) for _ in range(2))
        self.attentions = nn.ModuleList([MapAttention(channels, groups)] if has_attention else [])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = self.resnets[0](x)
        for mix in self.attentions:
            x = mix(x)
        out: Tensor = self.resnets[1](x)
        return out


class DownBlock(nn.Module):
    """Residual blocks, then half the size unless it is the last one."""

    def __init__(self, inputs: int, outputs: int, n_layers: int, groups: int, is_last: bool) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * (n_layers - 1)
        self.resnets = nn.ModuleList(ResidualBlock(width, outputs, groups) for width in widths)
        self.downsamplers = nn.ModuleList([] if is_last else [Downsample(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / 2, W / 2), or (B, C', H, W)."""
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class UpBlock(nn.Module):
    """Residual blocks, then twice the size unless it is the last one."""

    def __init__(self, inputs: int, outputs: int, n_layers: int, groups: int, is_last: bool) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * (n_layers - 1)
        self.resnets = nn.ModuleList(ResidualBlock(width, outputs, groups) for width in widths)
        self.upsamplers = nn.ModuleList([] if is_last else [Upsample(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', 2 H, 2 W), or (B, C', H, W)."""
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class FrameEncoder(nn.Module):
    """Pixels (B, 3, H, W) -> features (B, E, H / 2^k, W / 2^k), k blocks less one."""

    def __init__(self, channels: Sequence[int], n_layers: int, latent: int, groups: int, has_attention: bool) -> None:
        """Make the network.

        Args:
            channels: Of each block, from the pixels inwards.
            n_layers: Residual blocks per block.
            latent: Output channels, E.
            groups: Of the norms.
            has_attention: True for self-attention in the middle.
        """
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for i, (inputs, outputs) in enumerate(zip((channels[0], *channels[:-1]), channels, strict=True)):
            self.down_blocks.append(DownBlock(inputs, outputs, n_layers, groups, i == len(channels) - 1))
        self.mid_block = MidBlock(channels[-1], groups, has_attention)
        self.conv_norm_out = norm(channels[-1], groups)
        self.conv_out = nn.Conv2d(channels[-1], latent, 3, padding=1)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the feature maps after the first convolution, after each block, and after the middle."""
        x = self.conv_in(x)
        yield x
        for block in (*self.down_blocks, self.mid_block):
            x = block(x)
            yield x

    def read_out(self, x: Tensor) -> Tensor:
        """Project the map after the middle to the features before quantization."""
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return out


class FrameDecoder(nn.Module):
    """Features (B, E, h, w) -> pixels (B, 3, h * 2^k, w * 2^k), k blocks less one."""

    def __init__(self, channels: Sequence[int], n_layers: int, latent: int, groups: int, has_attention: bool) -> None:
        """Make the network; the arguments are those of the encoder, with its blocks in reverse order."""
        super().__init__()
        inwards = tuple(reversed(channels))
        self.conv_in = nn.Conv2d(latent, inwards[0], 3, padding=1)
        self.mid_block = MidBlock(inwards[0], groups, has_attention)
        self.up_blocks = nn.ModuleList()
        for i, (inputs, outputs) in enumerate(zip((inwards[0], *inwards[:-1]), inwards, strict=True)):
            self.up_blocks.append(UpBlock(inputs, outputs, n_layers + 1, groups, i == len(channels) - 1))
        self.conv_norm_out = norm(channels[0], groups)
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the feature maps after the middle, then after each block."""
        x = self.conv_in(x)
        for block in (self.mid_block, *self.up_blocks):
            x = block(x)
            yield x

    def read_out(self, x: Tensor) -> Tensor:
        """Turn the last map into pixels."""
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return out
