"""ST-ViViT, the tokenizer of Genie: spacetime transformers over patches, causal in time, one code per patch.

A frame's codes depend on that frame and those before it, and so do the decoded pixels. Moving objects can thus be
distinguished from static ones. Single frames are decoded with a cache of the previous ones (``init_state``,
``decode_step``). The pixels equal those of decoding all frames at once.

Source: Bruce et al. 2024 (arXiv:2402.15391), section 2.1 and appendix. Differs: positions in time are rotary, so that
clips can have any length; the codebook is learned by moving averages (the paper does not state its update); features
are normalized to unit variance before quantization; rare patches of a batch may have more weight in the loss; the
encoder may encode each patch independently.

Shapes: B batch, T frames, H W pixel rows and columns, N tokens per frame, D width, E width of a code's vector,
  X = patch * patch * 3 pixel values of a patch
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reelworld.config import require
from reelworld.models.parts import StatefulTokenizer
from reelworld.nn.kv_cache import FrameCache
from reelworld.nn.pixels import check_divisible, patchify, rarity_weights, unpatchify
from reelworld.nn.quantize.dead_code_reset import ResetFromBatch
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.input_norm import InputNorm
from reelworld.systems.genie.config import TokenizerConfig
from reelworld.systems.genie.spacetime import STConfig, STTransformer
from reelworld.types import Batch, Codes, GridSpec, Losses, TokenSpec, UserError

COMMITMENT = 0.25
RENEWED_BELOW = 0.1
"""Dead-code threshold: codes chosen by fewer rows of a batch (moving average) are reset. Low, so rare codes stay."""


@dataclass(frozen=True, kw_only=True)
class STViViTConfig(TokenizerConfig):
    """Shape of an ST-ViViT tokenizer."""

    height: int = 64
    """Pixel rows."""
    width: int = 64
    """Pixel columns."""
    window: int = 16
    """Attention window of each layer in frames, the current one included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "window", lambda v: v >= 1, "at least 1")
        check_divisible(self.height, self.width, self.patch)

    @property
    def rows(self) -> int:
        """Rows of the token grid."""
        return self.height // self.patch

    @property
    def columns(self) -> int:
        """Columns of the token grid."""
        return self.width // self.patch

    def transformer(self, side: str) -> STConfig:
        """Describe the transformer of one side, "encoder" or "decoder"."""
        same = {name: getattr(self, f"{side}_{name}") for name in ("width", "layers", "heads")}
        return STConfig(rows=self.rows, columns=self.columns, window=self.window, **same)


class STViViT(StatefulTokenizer[FrameCache]):
    """Clips <-> codes, causal in time."""

    def __init__(self, config: STViViTConfig) -> None:
        super().__init__()
        self.config = config
        flat = config.patch * config.patch * 3
        self.patches = nn.Linear(flat, config.encoder_width)
        self.encoder = STTransformer(config.transformer("encoder")) if config.encoder_layers else nn.GELU()
        self.before = nn.Linear(config.encoder_width, config.code_width)
        self.spread = InputNorm(config.code_width)
        self.codebook = EMACodebook(config.n_codes, config.code_width, reset=ResetFromBatch(RENEWED_BELOW))
        self.after = nn.Linear(config.code_width, config.decoder_width)
        self.decoder = STTransformer(config.transformer("decoder"))
        self.pixels = nn.Linear(config.decoder_width, flat)

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
        grid = GridSpec(rows=config.rows, columns=config.columns, codebook_size=config.n_codes)
        return TokenSpec(grids={"video": grid}, space_stride=config.patch, remembers=True)

    def features(self, video_BTHWC: Tensor) -> Tensor:
        """Encode without quantizing: (B, T, N, E)."""
        return self._features(patchify(video_BTHWC, self.config.patch))

    def _features(self, patches_BTNX: Tensor) -> Tensor:
        features: Tensor = self.spread(self.before(self.encoder(self.patches(patches_BTNX))))
        return features

    def encode(self, video: Tensor) -> Codes:
        """Encode clips in [-1, 1], (B, T, H, W, 3), to codes, int64 (B, T, N), causal in time."""
        self.spec(video.shape[1], video.shape[2], video.shape[3])
        return Codes.of(self.codebook.nearest(self.features(video)))

    def decode(self, codes: Codes) -> Tensor:
        """Decode codes (B, T, N) to pixels, clamped to [-1, 1], (B, T, H, W, 3)."""
        return self._pixels(self.decoder(self._embed(codes))).clamp(-1, 1)

    # ------------------------------------------------------------------ frame by frame

    def init_state(self, codes: Codes) -> FrameCache:
        """Read the codes of the first frames, (B, T, N), into a cache for later frames."""
        return self.decoder.prefill(self._embed(codes))[1]

    def decode_step(self, codes: Codes, state: FrameCache) -> Tensor:
        """Decode the codes of the next frame, (B, 1, N): pixels (B, 1, H, W, 3). The state is updated in place."""
        return self._pixels(self.decoder.step(self._embed(codes), state)).clamp(-1, 1)

    # ------------------------------------------------------------------ training

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Squared error of the reconstruction, and commitment loss.

        Args:
            batch: With ``video``.
            generator: Of the codebook's draws.
        """
        assert batch.video is not None
        patches_BTNX = patchify(batch.video, self.config.patch)
        features = self._features(patches_BTNX)
        quantized = self.codebook.quantize(features, generator)
        found_BTNX = self.pixels(self.decoder(self.after(quantized.vectors)))
        error_BTN = (found_BTNX.float() - patches_BTNX).square().mean(-1)
        weight_BTN = rarity_weights(patches_BTNX, self.config.rarity)
        one, count = error_BTN.new_ones(()), error_BTN.new_tensor(float(error_BTN.numel()))
        return Losses(
            terms={
                "square": ((error_BTN * weight_BTN).sum(), count),
                "commitment": (quantized.squared_error, one * features.numel()),
                "perplexity": (quantized.perplexity, one),
            },
            weights={"commitment": COMMITMENT, "perplexity": 0.0},
        )

    def _embed(self, codes: Codes) -> Tensor:
        embedded: Tensor = self.after(self.codebook.lookup(codes.video))
        return embedded

    def _pixels(self, x_BTND: Tensor) -> Tensor:
        config = self.config
        return unpatchify(self.pixels(x_BTND).float(), config.patch, config.rows, config.columns)
