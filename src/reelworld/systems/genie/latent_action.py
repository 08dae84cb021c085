"""Latent action model: a few discrete codes for the change between two frames, learned without action labels.

The encoder reads the next frame and encodes the change in one code. The decoder reads the past and this code, and
predicts the next frame. The code thus carries the information that the past does not determine: the action. In play
the codes are mapped to keys.

This file is the base class; the networks are in the system.

Source: Bruce et al. 2024 (arXiv:2402.15391), section 2.1. Differs, against the collapse that is the known failure of
such models (all changes in one code): a frame's features are pooled by how much each patch changed, and normalized to
unit variance before quantization; the decoder predicts the change of the last frame and starts as a copy of it (the
paper: the frame, through a sigmoid); rarely used codes are reset. The decoder may be trained on shifted and rotated
clips, so that codes are independent of position and direction (``augment_prob``). More codes than needed may be
learned; codes with the same effect are merged at the end (``learned_codes``).

Shapes: B batch, T frames, H W pixel rows and columns, N patches per frame, D width, E width of a code's vector,
  X = patch * patch * 3 pixel values of a patch, K codes in use, A latent actions
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reelworld.models.parts import ActionInference
from reelworld.nn.pixels import check_divisible, patchify, rarity_weights, unpatchify
from reelworld.nn.quantize.dead_code_reset import ResetFromBatch
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.input_norm import InputNorm
from reelworld.nn.random import uniform
from reelworld.systems.genie.cluster_latents import k_medoids
from reelworld.systems.genie.latent_action_options import LatentActionOptions
from reelworld.types import Batch, Losses, UserError

COMMITMENT = 0.25
RENEWED_BELOW = 0.1
"""Dead-code threshold: codes that fewer rows of a batch choose, in the moving average, are reset."""
TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class LatentActionConfig(LatentActionOptions):
    """Shape of a latent action model."""

    height: int = 64
    """Pixel rows."""
    width: int = 64
    """Pixel columns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divisible(self.height, self.width, self.patch)
        if self.augment_prob and self.height != self.width:
            raise UserError(
                f"augment_prob is {self.augment_prob}, frames are {self.height}x{self.width}; only square frames can "
                "be turned: leave it at 0."
            )

    @property
    def rows(self) -> int:
        """Rows of patches."""
        return self.height // self.patch

    @property
    def columns(self) -> int:
        """Columns of patches."""
        return self.width // self.patch


class LatentActionModel(ActionInference):
    """Frames -> codes of the changes between them."""

    merged: Tensor
    """Code of the codebook -> latent action, (learned codes,); itself until codes are merged."""
    kept: Tensor
    """Latent action -> code of the codebook, (learned codes,); only the first ``n_codes`` count when merged."""

    def __init__(self, config: LatentActionConfig) -> None:
        super().__init__()
        self.config = config
        self.before = nn.Linear(config.model_width, config.code_width)
        self.spread = InputNorm(config.code_width)
        learned = config.learned_codes or config.n_codes
        self.codebook = EMACodebook(learned, config.code_width, reset=ResetFromBatch(RENEWED_BELOW))
        self.register_buffer("merged", torch.arange(learned))
        self.register_buffer("kept", torch.arange(learned))
        self.change = nn.Linear(config.model_width, config.patch * config.patch * 3)
        nn.init.zeros_(self.change.weight)  # start as a copy of the last frame
        nn.init.zeros_(self.change.bias)

    @abstractmethod
    def describe(self, patches_BTNX: Tensor) -> Tensor:
        """Encode the transition to each frame but the first, per patch, (B, T - 1, N, D)."""

    @abstractmethod
    def foresee(self, patches_BTNX: Tensor, actions_BTE: Tensor) -> Tensor:
        """Predict features of the frame after each frame, given its action, per patch, (B, T, N, D)."""

    @property
    def n_actions(self) -> int:
        """Number of latent actions."""
        return self.config.n_codes

    def features(self, patches_BTNX: Tensor) -> Tensor:
        """Encode the transition to each frame but the first, (B, T - 1, E)."""
        moved_BTN = (patches_BTNX[:, 1:] - patches_BTNX[:, :-1]).square().mean(-1) + TINY
        weight_BTN = moved_BTN / moved_BTN.sum(-1, keepdim=True)
        pooled_BTD = (self.describe(patches_BTNX) * weight_BTN.unsqueeze(-1)).sum(2)
        features: Tensor = self.spread(self.before(pooled_BTD))
        return features

    def encode(self, video: Tensor) -> Tensor:
        """Infer the latent actions of clips.

        Args:
            video: Pixels in [-1, 1], (B, T, H, W, 3), T at least 2.

        Returns:
            int64, (B, T), below ``n_codes`` once codes are merged: row t is taken after frame t and leads to frame
            t + 1; the last row is padding, 0.

        Raises:
            UserError: If the frames have another size, or there is only one.
        """
        self._check(video)
        codes_BT = self.merged[self.codebook.nearest(self.features(patchify(video, self.config.patch)))]
        return torch.cat([codes_BT, torch.zeros_like(codes_BT[:, :1])], 1)

    def predict(self, video: Tensor, codes: Tensor) -> Tensor:
        """Predict the frame after each frame.

        Args:
            video: Frames of the past in [-1, 1], (B, T, H, W, 3).
            codes: Latent action taken after each, int64 (B, T).

        Returns:
            The frames one step later, in [-1, 1], (B, T, H, W, 3).
        """
        config = self.config
        patches_BTNX = self._next(patchify(video, config.patch), self.codebook.lookup(self.kept[codes]))
        return unpatchify(patches_BTNX, config.patch, config.rows, config.columns).clamp(-1, 1)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Squared error of the predicted frames, plus the commitment loss.

        Args:
            batch: With ``video`` of clips of at least two frames.
            generator: Random numbers of the codebook and of the augmentation.

        Returns:
            Terms ``square`` (per patch), ``commitment``, and, logged only, ``copy`` (the error of repeating the last
            frame) and ``perplexity`` (1: all changes share one code).
        """
        assert batch.video is not None
        quantized = self.codebook.quantize(self.features(patchify(batch.video, self.config.patch)), generator)
        patches_BTNX = patchify(self._moved(batch.video, generator), self.config.patch)
        past, future = patches_BTNX[:, :-1], patches_BTNX[:, 1:]
        error_BTN = (self._next(past, quantized.vectors).float() - future).square().mean(-1)
        weight_BTN = rarity_weights(future - past, self.config.rarity)
        one, count = error_BTN.new_ones(()), error_BTN.new_tensor(float(error_BTN.numel()))
        return Losses(
            terms={
                "square": ((error_BTN * weight_BTN).sum(), count),
                "copy": ((future - past).square().mean(-1).sum(), count),
                "commitment": (quantized.squared_error, one * quantized.n_entries),
                "perplexity": (quantized.perplexity, one),
            },
            weights={"copy": 0.0, "commitment": COMMITMENT, "perplexity": 0.0},
        )

    @torch.no_grad()
    def merge(self, video: Tensor, seed: int = 0) -> None:
        """Keep the ``n_codes`` most representative codes; the most frequent becomes action 0.

        Codes with the same effect on the next frame are merged to one action, at any position and direction. Call it
        after training; calling it again starts from the learned codes. Without ``learned_codes`` it does nothing.

        Args:
            video: Clips to compare the codes' effects on, pixels in [-1, 1], (B, T, H, W, 3).
            seed: Seed of the augmentation.
        """
        if not self.config.learned_codes:
            return
        codes_BT = self.codebook.nearest(self.features(patchify(video, self.config.patch)))
        used_K, used_BT, counts_K = codes_BT.unique(return_inverse=True, return_counts=True)
        cost_KK = self._costs(video, used_K, used_BT, torch.Generator().manual_seed(seed))
        kept_A = k_medoids(cost_KK, self.config.n_codes)
        action_K = cost_KK[:, kept_A].argmin(1)
        shares_A = torch.zeros_like(kept_A).index_add_(0, action_K, counts_K)
        order_A = shares_A.argsort(descending=True, stable=True)
        # unused codes are merged with the nearest used one
        nearest = torch.cdist(self.codebook.vectors, self.codebook.vectors[used_K]).argmin(1)
        self.merged.copy_(order_A.argsort()[action_K][nearest])
        self.kept.fill_(int(used_K[kept_A[order_A[0]]]))
        self.kept[: len(order_A)] = used_K[kept_A[order_A]]

    def _costs(self, video: Tensor, used_K: Tensor, used_BT: Tensor, generator: torch.Generator) -> Tensor:
        """Sum the prediction errors of the steps of each code (row) when another code (column) is used."""
        patches_BTNX = patchify(self._moved(video, generator), self.config.patch)
        past, future = patches_BTNX[:, :-1], patches_BTNX[:, 1:]
        weight_BTN = rarity_weights(future - past, self.config.rarity)
        cost_KK = weight_BTN.new_zeros(len(used_K), len(used_K))
        for column, code in enumerate(used_K):
            vectors_BTE = self.codebook.lookup(code.expand(used_BT.shape))
            error_BTN = (self._next(past, vectors_BTE) - future).square().mean(-1) * weight_BTN
            cost_KK[:, column].index_add_(0, used_BT.flatten(), error_BTN.mean(-1).flatten())
        return cost_KK

    def _next(self, past_BTNX: Tensor, vectors_BTE: Tensor) -> Tensor:
        change: Tensor = self.change(self.foresee(past_BTNX, vectors_BTE))
        return past_BTNX + change

    def _moved(self, video_BTHWC: Tensor, generator: torch.Generator | None) -> Tensor:
        """Shift and rotate a random part of the clips, each differently."""
        config, n = self.config, len(video_BTHWC)
        if not config.augment_prob:
            return video_BTHWC
        chance_B, *ways_B = uniform((4, n), generator, video_BTHWC.device)
        sizes = (config.rows, config.columns, 4)
        down, right, quarters = ((way_B * size).long().tolist() for way_B, size in zip(ways_B, sizes, strict=True))
        is_moved = (chance_B < config.augment_prob).tolist()
        return torch.stack(
            [
                clip.roll((config.patch * down[i], config.patch * right[i]), (1, 2)).rot90(quarters[i], (1, 2))
                if is_moved[i]
                else clip
                for i, clip in enumerate(video_BTHWC)
            ]
        )

    def _check(self, video: Tensor) -> None:
        config = self.config
        if video.shape[2:4] != (config.height, config.width):
            raise UserError(
                f"frames are {video.shape[2]}x{video.shape[3]} pixels; this latent action model was made for "
                f"{config.height}x{config.width}."
            )
        if video.shape[1] < 2:
            raise UserError("one frame was given; an action is what happens between two: give clips of 2 or more.")
