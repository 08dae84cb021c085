"""A VQGAN that codes every frame alone, with the border of the compressive tokenizer: what that is compared with.

Shapes: B clips, T frames, K context frames, H W pixel rows and columns, M codes of a frame, E width of a code's vector
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reelworld.nn.pixels import patchify, unpatchify
from reelworld.systems.ivideogpt.config import Config
from reelworld.systems.ivideogpt.context_attention import ContextMemory
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN, ContextVQGANConfig, Rebuilt, make_codebook
from reelworld.systems.ivideogpt.vqgan import FrameDecoder, FrameEncoder
from reelworld.types import Codes, GridSpec, TokenSpec

__all__ = ["FrameVQGAN", "as_large_as"]

GROUPS = 8
"""Of the norms; channels are multiples of it."""
MOST_APART = 0.05
"""Share by which the number of parameters may differ."""


class FrameVQGAN(nn.Module):
    """Clips <-> codes of single frames. Both grids hold the codes of all frames; ``Codes.keep`` says whose count."""

    def __init__(
        self, config: Config, other: ContextVQGANConfig, channels: tuple[int, ...], patch: int, side: int
    ) -> None:
        """Make the networks.

        Args:
            config: Of the recipe: context, residual blocks, latents, size of the codebook.
            other: Of the compressive tokenizer: its kind of codebook.
            channels: Of each block; each but the last halves both sides.
            patch: Cells per code, along each side.
            side: Pixel rows and columns.
        """
        super().__init__()
        self.config, self.patch = config, patch
        self.rows = side >> (len(channels) - 1)
        n_rows = self.rows // patch
        self.grid = GridSpec(rows=n_rows, columns=n_rows, codebook_size=config.frame_codes)
        shape = (channels, config.block_layers, config.latent, GROUPS, False)
        self.encoder, self.decoder = FrameEncoder(*shape), FrameDecoder(*shape)
        self.quant_linear = nn.Linear(patch * patch * config.latent, config.latent)
        self.post_quant_linear = nn.Linear(config.latent, patch * patch * config.latent)
        self.codebook = make_codebook(other, config.frame_codes)
        self.weights = {"video_commitment": other.commitment}

    def spec(self, n_frames: int, height: int, width: int) -> TokenSpec:
        """Describe the codes as the compressive tokenizer does, so that the same dynamics and sessions take them."""
        return TokenSpec(
            grids={"context": self.grid, "video": self.grid},
            space_stride=height // self.grid.rows,
            remembers=True,
            context_frames=self.config.context_frames,
        )

    def encode(self, video: Tensor, context: Any = None) -> Codes:
        """Turn clips in [-1, 1], (B, T, H, W, 3), into codes, int64 (B, T, M) in both grids."""
        codes_BTM = self.codebook.nearest(self._features(video))
        is_context_T = torch.arange(video.shape[1], device=video.device) < self.config.context_frames
        kept = {"context": is_context_T, "video": ~is_context_T}
        return Codes(
            dict.fromkeys(kept, codes_BTM), {k: v[None, :, None].expand_as(codes_BTM) for k, v in kept.items()}
        )

    def decode(self, codes: Codes, context: Any = None) -> Tensor:
        """Turn codes into pixels, clamped to [-1, 1], (B, T, H, W, 3)."""
        n_context = self.config.context_frames
        both_BTM = torch.cat([codes.grids["context"][:, :n_context], codes.video[:, n_context:]], 1)
        return self._pixels(self.codebook.lookup(both_BTM)).clamp(0, 1) * 2 - 1

    def begin(self, codes: Codes) -> ContextMemory:
        """Remember nothing."""
        return ContextMemory(())

    def advance(self, codes: Codes, memory: ContextMemory) -> Tensor:
        """Decode later frames, (B, F, H, W, 3)."""
        return self._pixels(self.codebook.lookup(codes.video)).clamp(0, 1) * 2 - 1

    def rebuild(self, video: Tensor, generator: torch.Generator | None = None) -> Rebuilt:
        """Send clips in [-1, 1] through the codes and back."""
        quantized, n_context = self.codebook.quantize(self._features(video), generator), self.config.context_frames
        pixels = self._pixels(quantized.vectors)
        return Rebuilt(pixels[:, :n_context], pixels[:, n_context:], {"video": quantized})

    terms = ContextVQGAN.terms
    """The same losses."""

    def _features(self, video: Tensor) -> Tensor:
        pixels = (video * 0.5 + 0.5).flatten(0, 1).permute(0, 3, 1, 2)
        latents = self.encoder.read_out(list(self.encoder.maps(pixels))[-1])
        features: Tensor = self.quant_linear(patchify(latents.permute(0, 2, 3, 1), self.patch))
        return features.unflatten(0, video.shape[:2])

    def _pixels(self, vectors_BTME: Tensor) -> Tensor:
        patches = self.post_quant_linear(vectors_BTME.flatten(0, 1))
        latents = unpatchify(patches, self.patch, self.grid.rows, self.grid.columns).permute(0, 3, 1, 2)
        pixels: Tensor = self.decoder.read_out(list(self.decoder.maps(latents))[-1])
        return pixels.permute(0, 2, 3, 1).unflatten(0, vectors_BTME.shape[:2])


def as_large_as(
    other: ContextVQGAN, config: Config, channels: tuple[int, ...], patch: int, side: int = 64
) -> FrameVQGAN:
    """Widen all blocks alike until there are as many parameters as in another tokenizer, within 5%."""
    wanted = sum(p.numel() for p in other.parameters())
    closest, distance = None, float("inf")
    for percent in range(100, 400, 5):
        wide = tuple(round(c * percent / 100 / GROUPS) * GROUPS for c in channels)
        with torch.device("meta"):
            n = sum(p.numel() for p in FrameVQGAN(config, other.config, wide, patch, side).parameters())
        if abs(n / wanted - 1) < distance:
            closest, distance = wide, abs(n / wanted - 1)
    assert closest is not None and distance <= MOST_APART, f"nearest width is {distance:.0%} off {wanted} parameters"
    torch.manual_seed(config.seed)
    return FrameVQGAN(config, other.config, closest, patch, side)
