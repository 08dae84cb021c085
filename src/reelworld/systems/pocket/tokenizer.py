"""Per-frame patch tokenizer: each patch is encoded independently to one code; the decoder reads its neighbours.

Encoding a patch without its neighbours keeps codes stable: equal pixels always have equal codes. A tile game has one
code per tile, and dynamics need not predict code noise. The decoder's context removes seams between patches of smooth
images. Frames are encoded one by one, so the tokenizer is causal.

Shapes: B batch, T frames, H W pixel rows and columns, F = B * T, N tokens per frame, R C grid rows and
  columns, D width, K digits of a code, X = patch * patch * 3 pixel values of a patch
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.models.parts import Tokenizer
from reelworld.nn.conv_mixer import ConvMixerBlock
from reelworld.nn.pixels import check_divisible, patchify, rarity_weights, to_float, unpatchify
from reelworld.nn.quantize.fsq import FSQ
from reelworld.nn.quantize.input_norm import InputNorm
from reelworld.systems.pocket.config import TokenizerConfig
from reelworld.systems.pocket.patch_table import order_by_likeness
from reelworld.types import Batch, Codes, GridSpec, Losses, TokenSpec, UserError

UNUSED = 9.0
"""Pixel value of unused entries of the table: far from every patch."""


@dataclass(frozen=True, kw_only=True)
class PatchTokenizerConfig(TokenizerConfig):
    """Shape of a patch tokenizer."""

    rows: int = 8
    """Rows of the token grid."""
    columns: int = 8
    """Columns of the token grid."""
    patch: int = 8
    """Pixels per token, along each side."""
    encoder_layers: int = 2
    """Residual layers of the encoder (each sees one patch)."""
    decoder_layers: int = 2
    """Grid blocks of the decoder (each sees one ring of neighbours more)."""
    rarity: float = 0.5
    """Patches seen c times in a batch weigh c ** -rarity in the loss; 0 weighs all alike."""
    has_table: bool = False
    """Keep room for a table of patches."""
    uses_table: bool = False
    """Codes are numbers of patches of the table, and not those of the learned quantizer."""


class PatchLayer(nn.Module):
    """Pre-norm residual two-layer perceptron on single tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = x + self.outer(functional.gelu(self.inner(self.norm(x))))
        return out


class PatchTokenizer(Tokenizer):
    """Tokenizer with one code per patch: learned (FSQ), or the number of the nearest patch of a table.

    A learned code must tell apart all places of a ball within a patch, which takes very long to learn from patches that
    fill one place in ten thousand. Where the patches of a recording recur, a table of them is exact.

    Attributes:
        table: Patches in [-1, 1], float32 (V, X), where there is room for them.
    """

    table: Tensor

    def __init__(self, config: PatchTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        width, flat = config.width, config.patch * config.patch * 3
        self.quantizer = FSQ(config.levels)
        self.encoder = nn.Sequential(
            nn.Linear(flat, width),
            *[PatchLayer(width) for _ in range(config.encoder_layers)],
            nn.LayerNorm(width),
            nn.Linear(width, len(config.levels)),
        )
        self.spread = InputNorm(len(config.levels))
        self.embed = nn.Linear(len(config.levels), width)
        self.unfold = PatchLayer(width)
        self.mix = nn.ModuleList([ConvMixerBlock(width) for _ in range(config.decoder_layers)])
        self.pixels = nn.Sequential(PatchLayer(width), nn.LayerNorm(width), nn.Linear(width, flat))
        if config.has_table:
            self.register_buffer("table", torch.zeros(self.quantizer.codebook_size, flat))

    def use_table(self, patches: np.ndarray | None) -> None:
        """Replace the learned code by a table of patches, or return to it.

        Args:
            patches: Distinct ones, uint8, at most as many as there are codes, (V', X); None for the learned code.
        """
        self.config = replace(self.config, uses_table=patches is not None)
        if patches is None:
            return
        codes = torch.from_numpy(order_by_likeness(patches, self.config.levels))
        self.table.fill_(UNUSED)
        self.table[codes] = to_float(torch.from_numpy(patches)).to(self.table.device)

    def spec(self, n_frames: int, height: int, width: int) -> TokenSpec:
        """Describe the codes of clips of this size.

        Raises:
            UserError: If the size is not the tokenizer's.
        """
        config = self.config
        check_divisible(height, width, config.patch)
        if (height, width) != (config.rows * config.patch, config.columns * config.patch):
            raise UserError(
                f"frames are {height}x{width}; this tokenizer reads {config.rows * config.patch}x"
                f"{config.columns * config.patch}: resize them."
            )
        grid = GridSpec(
            rows=config.rows,
            columns=config.columns,
            codebook_size=self.quantizer.codebook_size,
            levels=config.levels,
        )
        return TokenSpec(grids={"video": grid}, time_stride=1, space_stride=config.patch, is_causal=True)

    def encode(self, video: Tensor) -> Codes:
        """Turn a clip into codes.

        Args:
            video: Pixels in [-1, 1], (B, T, H, W, 3).
            context: Unused; frames are coded one by one.

        Returns:
            Codes, int64, (B, T, N).
        """
        self.spec(video.shape[1], video.shape[2], video.shape[3])
        if self.config.uses_table:
            return Codes.of(self._nearest(patchify(video, self.config.patch)))
        return Codes.of(self.quantizer.nearest(self.spread(self.encoder(patchify(video, self.config.patch)))))

    def decode(self, codes: Codes) -> Tensor:
        """Turn codes (B, T, N) into pixels, clamped to [-1, 1], (B, T, H, W, 3)."""
        if self.config.uses_table:
            return unpatchify(self.table[codes.video], self.config.patch, self.config.rows, self.config.columns)
        return self._pixels(self.quantizer.lookup(codes.video)).clamp(-1, 1)

    def _nearest(self, patches_BTNX: Tensor) -> Tensor:
        """Return the number of the nearest patch of the table, (B, T, N)."""
        squares_V = self.table.square().sum(-1)
        return (squares_V - 2 * patches_BTNX.float() @ self.table.t()).argmin(-1)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Squared and absolute error of the reconstruction, with a higher weight for rare patches."""
        assert batch.video is not None
        patches_BTNX = patchify(batch.video, self.config.patch)
        values_BTNK = self.quantizer.quantize(self.spread(self.encoder(patches_BTNX))).vectors
        video_BTHWC = self._pixels(values_BTNK)
        error_BTNX = patchify(video_BTHWC.float(), self.config.patch) - patches_BTNX
        weight_BTN = rarity_weights(patches_BTNX, self.config.rarity)
        count = torch.tensor(float(weight_BTN.numel()), device=weight_BTN.device)
        square_BTN, absolute_BTN = error_BTNX.square().mean(-1), error_BTNX.abs().mean(-1)
        return Losses(
            {
                "square": ((square_BTN * weight_BTN).sum(), count),
                "absolute": ((absolute_BTN * weight_BTN).sum(), count),
                "plain_square": (square_BTN.detach().sum(), count),
            },
            {"square": 1.0, "absolute": 0.1, "plain_square": 0.0},
        )

    def _pixels(self, values_BTNK: Tensor) -> Tensor:
        batch, frames, tokens, _ = values_BTNK.shape
        rows, columns = self.config.rows, self.config.columns
        h_BTND = self.unfold(self.embed(values_BTNK))
        h_FRCD = h_BTND.reshape(batch * frames, rows, columns, -1)
        for block in self.mix:
            h_FRCD = block(h_FRCD)
        h_BTND = h_FRCD.reshape(batch, frames, tokens, -1)
        return unpatchify(self.pixels(h_BTND), self.config.patch, rows, columns)
