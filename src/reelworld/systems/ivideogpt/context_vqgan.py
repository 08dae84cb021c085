"""Compressive tokenizer of iVideoGPT: many codes for context frames, few for every later frame.

The first frames of a clip are its context; a VQGAN encodes each independently. A second VQGAN encodes later frames. It
attends to the context's features, so that its few codes need only represent changes. A later frame depends on the
context and on itself, on no other frame. Features of the context are computed once, for encoding (``watch``) and for
decoding (``init_state``). Later frames are then processed one at a time or in batches.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), section 3.1 and the authors' code. Differs: values are in [-1, 1]
at the border (the published [0, 1] inside); both grids follow from the config; frames need not be square;
codebooks may follow the features by moving averages.

Shapes: B clips, T frames, K context frames, F = T - K later frames, H W pixel rows and columns, N M codes of a context
  frame and of a later frame, h w rows and columns of the context's grid, D channels of the latents, E width of a code's
  vector
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reelworld.config import require
from reelworld.models.parts import StatefulTokenizer
from reelworld.nn.pixels import patchify, unpatchify
from reelworld.nn.quantize.dead_code_reset import NoReset, ResetFromBatch
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.gradient_codebook import GradientCodebook
from reelworld.nn.quantize.quantizer import Quantized
from reelworld.nn.quantize.straight_through import rotation
from reelworld.systems.ivideogpt.config import TokenizerConfig
from reelworld.systems.ivideogpt.context_attention import (
    NORM_GROUPS,
    ConditionalDecoder,
    ConditionalEncoder,
    ContextMemory,
)
from reelworld.systems.ivideogpt.vqgan import FrameDecoder, FrameEncoder
from reelworld.types import Batch, Codes, GridSpec, Losses, TokenSpec, UserError

__all__ = ["ContextVQGAN", "ContextVQGANConfig", "Rebuilt", "make_codebook", "with_context"]

AT_ONCE = 32
"""Later frames per clip that are encoded or decoded at once; more are processed in chunks, to limit memory."""


@dataclass(frozen=True, kw_only=True)
class ContextVQGANConfig(TokenizerConfig):
    """Shape of a context VQGAN. Defaults are those of the published 64x64 model."""

    height: int = 64
    """Pixel rows."""
    width: int = 64
    """Pixel columns."""
    context_frames: int = 2
    """First frames of a clip; they have many codes and condition all others."""
    code_width: int = 64
    """Width of a code's vector, in both codebooks."""
    attends_in_middle: bool = False
    """Self-attention in the middle of the context frames' networks; those of later frames always have it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "context_frames code_width", lambda v: v >= 1, "at least 1")
        for channels in self.channels:
            if channels < 1 or channels % self.groups or channels % NORM_GROUPS:
                raise UserError(
                    f"channels are {self.channels}; each must be a multiple of groups ({self.groups}) and of "
                    f"{NORM_GROUPS}."
                )
        stride = self.patch << max(len(self.channels) - 1, 0)
        if not self.channels or self.height % stride or self.width % stride or min(self.height, self.width) < stride:
            raise UserError(
                f"frames are {self.height}x{self.width}; with {len(self.channels)} blocks and patch {self.patch} both "
                f"sides must be multiples of {stride}."
            )

    @property
    def rows(self) -> int:
        """Rows of the context's grid."""
        return self.height >> (len(self.channels) - 1)

    @property
    def columns(self) -> int:
        """Columns of the context's grid."""
        return self.width >> (len(self.channels) - 1)

    def grids(self) -> dict[str, GridSpec]:
        """Describe the codes of context frames and those of later frames ("video")."""
        return {
            "context": GridSpec(rows=self.rows, columns=self.columns, codebook_size=self.context_codes),
            "video": GridSpec(
                rows=self.rows // self.patch, columns=self.columns // self.patch, codebook_size=self.frame_codes
            ),
        }


class Rebuilt(NamedTuple):
    """Reconstruction of a clip, with gradients."""

    context: Tensor
    """Pixels in [0, 1], not clamped, (B, K, H, W, 3)."""
    frames: Tensor
    """The same of the later frames, (B, F, H, W, 3)."""
    quantized: Mapping[str, Quantized]
    """Quantizer output of both grids."""


class ContextVQGAN(StatefulTokenizer[ContextMemory]):
    """Clips <-> codes in two grids: "context" for the first frames, "video" for all later ones.

    Both grids have a row for every frame of the clip; ``Codes.keep`` masks the valid rows.
    """

    def __init__(self, config: ContextVQGANConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.channels, config.layers, config.latent, config.groups)
        watching: dict[str, Any] = {
            "size": (config.height, config.width),
            "n_context": config.context_frames,
            "largest": config.max_attention_resolution,
            "dropout": config.dropout,
        }
        self.encoder = FrameEncoder(*shape, config.attends_in_middle)
        self.decoder = FrameDecoder(*shape, config.attends_in_middle)
        self.cond_encoder = ConditionalEncoder(
            *shape, **(watching | ({"largest": 0} if config.unconditional_encoder else {}))
        )
        self.cond_decoder = ConditionalDecoder(*shape, **watching)
        self.quant_conv = nn.Conv2d(config.latent, config.code_width, 1)
        self.post_quant_conv = nn.Conv2d(config.code_width, config.latent, 1)
        flat = config.patch * config.patch * config.latent
        self.quant_linear = nn.Linear(flat, config.code_width)
        self.post_quant_linear = nn.Linear(config.code_width, flat)
        self.context_codebook = make_codebook(config, config.context_codes)
        self.frame_codebook = make_codebook(config, config.frame_codes)

    def spec(self, n_frames: int, height: int, width: int) -> TokenSpec:
        """Describe the codes of clips of this size.

        Raises:
            UserError: If the size is not the tokenizer's.
        """
        config = self.config
        if (height, width) != (config.height, config.width):
            raise UserError(
                f"frames are {height}x{width} pixels; this tokenizer was made for {config.height}x{config.width}."
            )
        return TokenSpec(
            grids=config.grids(),
            space_stride=config.patch << (len(config.channels) - 1),
            remembers=True,
            context_frames=config.context_frames,
        )

    # ------------------------------------------------------------------ pixels to codes

    def encode(self, video: Tensor) -> Codes:
        """Turn clips in [-1, 1], (B, T, H, W, 3), T >= K, into codes, int64 (B, T, N) and (B, T, M).

        Raises:
            UserError: If the clips are shorter than the context, or have another size.
        """
        self._check(video)
        n_context = self.config.context_frames
        codes_BKN, memory = self.watch(video[:, :n_context])
        none_B0M = codes_BKN.new_zeros(len(video), 0, self.config.grids()["video"].n_tokens)
        later = [self.encode_frames(part, memory) for part in video[:, n_context:].split(AT_ONCE, 1) if part.shape[1]]
        return self._side_by_side(codes_BKN, torch.cat([none_B0M, *later], 1))

    def watch(self, context: Tensor) -> tuple[Tensor, ContextMemory]:
        """Encode the context, (B, K, H, W, 3): its codes (B, K, N), and the memory for later frames."""
        features_BKNE, memory = self._context_features(_inside(context))
        return self.context_codebook.nearest(features_BKNE), memory

    def encode_frames(self, frames: Tensor, memory: ContextMemory) -> Tensor:
        """Encode later frames, (B, F, H, W, 3), conditioned on their context: codes (B, F, M)."""
        return self.frame_codebook.nearest(self._frame_features(_inside(frames), memory))

    # ------------------------------------------------------------------ codes to pixels

    def decode(self, codes: Codes) -> Tensor:
        """Turn codes of T >= K frames into pixels, clamped to [-1, 1], (B, T, H, W, 3)."""
        return _outside(self.pixels(codes))

    def pixels(self, codes: Codes) -> Tensor:
        """Decode codes to unclamped pixels, about [0, 1], (B, T, H, W, 3)."""
        n_context = self.config.context_frames
        context, memory = self._decode_context(self._context_vectors(codes))
        later = [part for part in codes.video[:, n_context:].split(AT_ONCE, 1) if part.shape[1]]
        return torch.cat([context, *(self._decode_frames(self.frame_codebook.lookup(c), memory) for c in later)], 1)

    def init_state(self, codes: Codes) -> ContextMemory:
        """Decode the context and return the memory for later frames."""
        return self._decode_context(self._context_vectors(codes))[1]

    def decode_step(self, codes: Codes, state: ContextMemory) -> Tensor:
        """Decode later frames conditioned on their context: codes (B, F, M) to pixels (B, F, H, W, 3)."""
        return _outside(self._decode_frames(self.frame_codebook.lookup(codes.video), state))

    # ------------------------------------------------------------------ training

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Absolute error of both kinds of frames, and commitment losses.

        Args:
            batch: With ``video``, T > K.
            generator: Of the codebooks' draws.
        """
        assert batch.video is not None
        return Losses(self.terms(batch.video, self.rebuild(batch.video, generator)), self.weights)

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the terms with a weight other than 1."""
        return {f"{name}_commitment": self.config.commitment_weight for name in self.codebooks}

    def terms(self, video: Tensor, rebuilt: Rebuilt) -> dict[str, tuple[Tensor, Tensor]]:
        """Compare clips in [-1, 1] with their reconstruction."""
        wanted, n_context = _inside(video), self.config.context_frames
        errors = {
            "frames": (rebuilt.frames.float() - wanted[:, n_context:]).abs(),
            "context": (rebuilt.context.float() - wanted[:, :n_context]).abs(),
        }
        one = errors["frames"].new_ones(())
        terms = {name: (error.sum(), one * error.numel()) for name, error in errors.items()}
        for name, quantized in rebuilt.quantized.items():
            both = quantized.squared_error + quantized.codebook_error
            terms[f"{name}_commitment"] = (both, one * quantized.n_entries)
        return terms

    def rebuild(self, video: Tensor, generator: torch.Generator | None = None) -> Rebuilt:
        """Encode and decode clips in [-1, 1], (B, T, H, W, 3), T > K."""
        features, books = self.features(video), self.codebooks
        quantized = {name: books[name].quantize(rows, generator) for name, rows in features.items()}
        context, memory = self._decode_context(quantized["context"].vectors)
        return Rebuilt(context, self._decode_frames(quantized["video"].vectors, memory), quantized)

    @property
    def codebooks(self) -> dict[str, GradientCodebook | EMACodebook]:
        """Grid -> its codebook."""
        return {"context": self.context_codebook, "video": self.frame_codebook}

    def features(self, video: Tensor) -> dict[str, Tensor]:
        """Encode without quantizing: grid -> features of its frames, (B, K, N, E) and (B, F, M, E)."""
        self._check(video)
        pixels, n_context = _inside(video), self.config.context_frames
        context_BKNE, memory = self._context_features(pixels[:, :n_context])
        return {"context": context_BKNE, "video": self._frame_features(pixels[:, n_context:], memory)}

    # ------------------------------------------------------------------ the four networks

    def _context_features(self, pixels: Tensor) -> tuple[Tensor, ContextMemory]:
        """Encode context frames (B, K, H, W, 3) without quantizing: (B, K, N, E), and the memory for later frames."""
        clips = pixels.shape[0]
        maps = list(self.encoder.maps(_channels_first(pixels)))
        latents = self.quant_conv(self.encoder.read_out(maps[-1]))
        memory = self.cond_encoder.encode_context([m.unflatten(0, (clips, -1)) for m in maps])
        return latents.flatten(2).transpose(1, 2).unflatten(0, (clips, -1)), memory

    def _frame_features(self, pixels: Tensor, memory: ContextMemory) -> Tensor:
        """Encode later frames (B, F, H, W, 3) without quantizing: (B, F, M, E)."""
        latents = self.cond_encoder(_channels_first(pixels), memory)
        patches = patchify(latents.permute(0, 2, 3, 1), self.config.patch)
        features: Tensor = self.quant_linear(patches).unflatten(0, pixels.shape[:2])
        return features

    def _decode_context(self, vectors_BKNE: Tensor) -> tuple[Tensor, ContextMemory]:
        """Decode vectors of the context: pixels (B, K, H, W, 3), and the memory for later frames."""
        clips, size = vectors_BKNE.shape[0], (self.config.rows, self.config.columns)
        latents = self.post_quant_conv(vectors_BKNE.flatten(0, 1).transpose(1, 2).unflatten(2, size))
        maps = list(self.decoder.maps(latents))
        pixels = self.decoder.read_out(maps[-1]).permute(0, 2, 3, 1)
        memory = self.cond_decoder.encode_context([m.unflatten(0, (clips, -1)) for m in maps])
        return pixels.unflatten(0, (clips, -1)), memory

    def _decode_frames(self, vectors_BFME: Tensor, memory: ContextMemory) -> Tensor:
        """Decode vectors of later frames: pixels (B, F, H, W, 3)."""
        config = self.config
        patches = self.post_quant_linear(vectors_BFME.flatten(0, 1))
        latents = unpatchify(patches, config.patch, config.rows // config.patch, config.columns // config.patch)
        pixels = self.cond_decoder(latents.permute(0, 3, 1, 2), memory).permute(0, 2, 3, 1)
        out: Tensor = pixels.unflatten(0, vectors_BFME.shape[:2])
        return out

    # ------------------------------------------------------------------ two grids

    def _context_vectors(self, codes: Codes) -> Tensor:
        return self.context_codebook.lookup(codes.grids["context"][:, : self.config.context_frames])

    def _side_by_side(self, context_BKN: Tensor, later_BFM: Tensor) -> Codes:
        """Give both grids a row for every frame."""
        clips, n_context, n_later = context_BKN.shape[0], context_BKN.shape[1], later_BFM.shape[1]
        grids = {
            "context": torch.cat([context_BKN, context_BKN.new_zeros(clips, n_later, context_BKN.shape[2])], 1),
            "video": torch.cat([later_BFM.new_zeros(clips, n_context, later_BFM.shape[2]), later_BFM], 1),
        }
        is_context_T = torch.arange(n_context + n_later, device=context_BKN.device) < n_context
        kept = {"context": is_context_T, "video": ~is_context_T}
        return Codes(grids, {name: kept[name][None, :, None].expand_as(grids[name]) for name in grids})

    def _check(self, video: Tensor) -> None:
        self.spec(video.shape[1], video.shape[2], video.shape[3])
        if video.shape[1] < self.config.context_frames:
            raise UserError(
                f"a clip has {video.shape[1]} frames; this tokenizer reads {self.config.context_frames} as the context "
                "of all others: give as many or more."
            )


def make_codebook(config: ContextVQGANConfig, n_codes: int) -> GradientCodebook | EMACodebook:
    """Make an untrained codebook of ``n_codes`` vectors (n_codes, E), of the config's kind.

    Source: the published one learns by gradients. Moving averages: van den Oord et al. 2017 (arXiv:1711.00937),
    appendix A.1; gradients that turn with the features: Fifty et al. 2024 (arXiv:2410.06424).
    """
    renewal = ResetFromBatch(config.dead_code_threshold) if config.dead_code_threshold else NoReset()
    if config.codebook_decay:
        decay = config.codebook_decay
        return EMACodebook(n_codes, config.code_width, decay=decay, estimator=rotation, reset=renewal)
    learned = GradientCodebook(n_codes, config.code_width, reset=renewal)
    nn.init.uniform_(learned.vectors, -1 / n_codes, 1 / n_codes)
    return learned


@torch.no_grad()
def with_context(tokenizer: ContextVQGAN, n_context: int) -> ContextVQGAN:
    """Adapt a tokenizer to another number of context frames.

    Only the positions in the attention to the context depend on it. A shorter context keeps those of the last frames;
    a longer one repeats those of the first frame in front of them, and should be trained on.
    """
    made = ContextVQGAN(replace(tokenizer.config, context_frames=n_context))
    state = tokenizer.state_dict()
    for name in [name for name in state if name.endswith("kv_pos_emb")]:
        frames = state[name].unflatten(0, (tokenizer.config.context_frames, -1))
        longer = torch.cat([frames[:1].expand(max(0, n_context - len(frames)), -1, -1), frames])
        state[name] = longer[len(longer) - n_context :].flatten(0, 1)
    made.load_state_dict(state)
    return made.train(tokenizer.training)


def _inside(video: Tensor) -> Tensor:
    """Scale [-1, 1] to the published [0, 1]."""
    return video * 0.5 + 0.5


def _outside(pixels: Tensor) -> Tensor:
    """Scale the model's output to [-1, 1]."""
    return pixels.clamp(0, 1) * 2 - 1


def _channels_first(pixels: Tensor) -> Tensor:
    """Turn (B, F, H, W, C) into (B * F, C, H, W)."""
    return pixels.flatten(0, 1).permute(0, 3, 1, 2)
