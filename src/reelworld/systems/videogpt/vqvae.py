"""The 3D VQ-VAE of VideoGPT: strided 3D convolutions, axial attention, one code per cell of a clip.

A whole clip is coded at once: with attention over all frames and padding on both sides the codes of a frame depend
on later frames, so the tokenizer is not causal and needs clips of its training length.

Source: Yan et al. 2021 (arXiv:2104.10157), section 3.1 and the authors' code. Differs: values are in [-1, 1] at the
border (the published [-0.5, 0.5] inside); strides whose greatest is 2 work; frames need not be square; the codebook
remembers that it has started.

Shapes: B batch, T frames, H W pixel rows and columns, P latent frames, R C grid rows and columns, N = R * C,
  D width, E width of a code's vector
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reelworld.models.parts import Tokenizer
from reelworld.nn.decoder import SelfAttention
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.systems.videogpt.config import TokenizerConfig
from reelworld.systems.videogpt.same_pad_conv3d import SamePadConv3d, SamePadConvTranspose3d
from reelworld.types import Batch, Codes, GridSpec, Losses, TokenSpec, UserError

DATA_VARIANCE = 0.06
"""Divisor of the squared error in the published code."""
COMMITMENT = 0.25


@dataclass(frozen=True, kw_only=True)
class VQVAE3DConfig(TokenizerConfig):
    """Shape of a 3D VQ-VAE."""

    clip_frames: int = 16
    """Frames of a clip."""
    height: int = 64
    """Pixel rows."""
    width: int = 64
    """Pixel columns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clip(self.clip_frames, self.height, self.width, self.downsample)


def check_clip(n_frames: int, height: int, width: int, downsample: tuple[int, int, int]) -> None:
    """Refuse clips that the strides do not divide, and name the nearest sizes that they do.

    Raises:
        UserError: One line.
    """
    wrong = []
    for what, n, s in zip(("frames", "rows", "columns"), (n_frames, height, width), downsample, strict=True):
        if n < s or n % s:
            below, above = n // s * s, (n // s + 1) * s
            legal = f"{below} or {above}" if below else f"{above}"
            wrong.append(f"{n} {what} are no multiple of the stride {s} (nearest: {legal})")
    if wrong:
        raise UserError(f"clips of {n_frames}x{height}x{width} cannot be coded: {'; '.join(wrong)}.")


def stride_steps(downsample: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """List the strides of the convolutions: 2 wherever a dimension still has halvings left."""
    halvings = [int(math.log2(s)) for s in downsample]
    return [tuple(2 if h > i else 1 for h in halvings) for i in range(max(halvings))]


class AxialBlock(nn.Module):
    """Sum of three attentions, each along one axis of the grid."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.columns = SelfAttention(width, heads)
        self.rows = SelfAttention(width, heads)
        self.frames = SelfAttention(width, heads)

    def forward(self, x_BDPRC: Tensor) -> Tensor:
        """Mix (B, D, P, R, C)."""
        x = x_BDPRC.permute(0, 2, 3, 4, 1)  # B P R C D
        over_columns = self.columns(x)
        over_rows = self.rows(x.transpose(2, 3)).transpose(2, 3)
        over_frames = self.frames(x.permute(0, 2, 3, 1, 4)).permute(0, 3, 1, 2, 4)
        out: Tensor = (over_columns + over_rows + over_frames).permute(0, 4, 1, 2, 3)
        return out


class AttentionResidual(nn.Module):
    """Residual block of two convolutions and axial attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.BatchNorm3d(width),
            nn.ReLU(),
            SamePadConv3d(width, width // 2, 3, bias=False),
            nn.BatchNorm3d(width // 2),
            nn.ReLU(),
            SamePadConv3d(width // 2, width, 1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            AxialBlock(width, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, P, R, C) to the same shape."""
        out: Tensor = x + self.block(x)
        return out


def residual_stack(width: int, n_layers: int) -> nn.Sequential:
    """Make the blocks between the strided convolutions and the codes."""
    return nn.Sequential(*(AttentionResidual(width) for _ in range(n_layers)), nn.BatchNorm3d(width), nn.ReLU())


class Encoder(nn.Module):
    """Pixels (B, 3, T, H, W) -> features (B, D, P, R, C)."""

    def __init__(self, width: int, n_layers: int, downsample: tuple[int, int, int]) -> None:
        super().__init__()
        steps = stride_steps(downsample)
        inputs = [3] + [width] * (len(steps) - 1)
        self.down = nn.ModuleList(SamePadConv3d(i, width, 4, s) for i, s in zip(inputs, steps, strict=True))
        self.last = SamePadConv3d(width, width, 3)
        self.residuals = residual_stack(width, n_layers)

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        for conv in self.down:
            x = torch.relu(conv(x))
        features: Tensor = self.residuals(self.last(x))
        return features


class Decoder(nn.Module):
    """Features (B, D, P, R, C) -> pixels (B, 3, T, H, W)."""

    def __init__(self, width: int, n_layers: int, downsample: tuple[int, int, int]) -> None:
        super().__init__()
        steps = stride_steps(downsample)
        outputs = [width] * (len(steps) - 1) + [3]
        self.residuals = residual_stack(width, n_layers)
        self.up = nn.ModuleList(SamePadConvTranspose3d(width, o, s) for o, s in zip(outputs, steps, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Decode."""
        x = self.residuals(x)
        for i, conv in enumerate(self.up):
            x = conv(x if i == 0 else torch.relu(x))
        return x


class VQVAE3D(Tokenizer):
    """Whole clips <-> codes."""

    def __init__(self, config: VQVAE3DConfig) -> None:
        super().__init__()
        self.config = config
        width, layers = config.n_hiddens, config.n_res_layers
        self.encoder = Encoder(width, layers, config.downsample)
        self.before = SamePadConv3d(width, config.embedding_dim, 1)
        self.codebook = EMACodebook(config.n_codes, config.embedding_dim)
        self.after = SamePadConv3d(config.embedding_dim, width, 1)
        self.decoder = Decoder(width, layers, config.downsample)

    def spec(self, n_frames: int, height: int, width: int) -> TokenSpec:
        """Describe the codes of clips of this size; any number of frames that the stride divides can be coded."""
        config = self.config
        if (height, width) != (config.height, config.width):
            raise UserError(
                f"frames are {height}x{width} pixels; this tokenizer was made for {config.height}x{config.width}."
            )
        frames, rows, columns = config.downsample
        grid = GridSpec(rows=height // rows, columns=width // columns, codebook_size=config.n_codes)
        return TokenSpec(
            grids={"video": grid},
            time_stride=frames,
            space_stride=rows,
            is_causal=False,
            clip_frames=config.clip_frames,
        )

    def features(self, video_BTHWC: Tensor) -> Tensor:
        """Encode without quantizing: (B, P, R, C, E)."""
        _, n_frames, height, width, _ = video_BTHWC.shape
        check_clip(n_frames, height, width, self.config.downsample)
        pixels = video_BTHWC.permute(0, 4, 1, 2, 3) * 0.5
        features: Tensor = self.before(self.encoder(pixels)).permute(0, 2, 3, 4, 1)
        return features

    def encode(self, video: Tensor) -> Codes:
        """Turn clips into codes, int64 (B, P, N), rows first.

        Raises:
            UserError: If the strides do not divide the clip.
        """
        return Codes.of(self.codebook.nearest(self.features(video)).flatten(2))

    def decode(self, codes: Codes) -> Tensor:
        """Turn codes into video in [-1, 1], (B, T, H, W, 3)."""
        rows, columns = self.config.height // self.config.downsample[1], self.config.width // self.config.downsample[2]
        vectors = self.codebook.lookup(codes.video.unflatten(2, (rows, columns)))
        return self._pixels(vectors).clamp(-0.5, 0.5).mul(2)

    def _pixels(self, vectors_BPRCE: Tensor) -> Tensor:
        """Decode vectors into pixels in [-0.5, 0.5] (not clamped), (B, T, H, W, 3)."""
        pixels: Tensor = self.decoder(self.after(vectors_BPRCE.permute(0, 4, 1, 2, 3)))
        return pixels.permute(0, 2, 3, 4, 1)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Squared error over the data's variance, plus how far features are from their codes.

        Args:
            batch: With ``video``.
            generator: Of the codebook's draws.
        """
        assert batch.video is not None
        features = self.features(batch.video)
        quantized = self.codebook.quantize(features, generator)
        error = (self._pixels(quantized.vectors).float() - batch.video * 0.5).pow(2).sum()
        one = error.new_ones(())
        return Losses(
            terms={
                "reconstruction": (error / DATA_VARIANCE, one * batch.video.numel()),
                "commitment": (COMMITMENT * quantized.squared_error, one * features.numel()),
                "perplexity": (quantized.perplexity, one),
            },
            weights={"perplexity": 0.0},
        )
