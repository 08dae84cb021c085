"""Base of the compositions whose pixels go through a tokenizer: encoding, decoding, loss and default sampler.

Shapes: B batch, T frames, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from reelworld.models.parts import Part, Tokenizer
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import Actions, WorldModel
from reelworld.nn.pixels import to_float
from reelworld.types import Batch, Codes, GridSpec, Losses, UserError


class CodedModel(WorldModel):
    """A tokenizer and a part that predicts its codes."""

    tokenizer: Tokenizer
    dynamics: Part

    def __init__(self, tokenizer: Tokenizer, dynamics: Part, sampler: SamplerConfig | None) -> None:
        """Register the parts.

        Args:
            tokenizer: Pixels <-> codes.
            dynamics: Predicts the codes.
            sampler: Default sampler settings; None for those of ``SamplerConfig``.
        """
        super().__init__()
        self.tokenizer, self.dynamics = tokenizer, dynamics
        self._sampler = sampler

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """Name -> module."""
        return dict(self.named_children())

    def encode(self, video: Tensor) -> Codes:
        """Encode one stretch of ``spec.windows``, (B, T, H, W, 3) in [-1, 1]; a goal is its first frame."""
        return self.tokenizer.encode(video)

    def decode(self, codes: Codes) -> Tensor:
        """Decode codes of ``encode`` to (B, T, H, W, 3) in [-1, 1]."""
        return self.tokenizer.decode(codes)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Loss of the dynamics; a batch of video is encoded first."""
        if batch.codes is None and batch.video is not None:
            with torch.no_grad():
                batch = replace(batch, codes=self.tokenizer.encode(batch.video), video=None)
        return self.dynamics.loss(batch, generator)

    def default_sampler(self, exact: float | None = None) -> SamplerConfig:
        """Return the sampler settings given at construction."""
        return self._sampler or SamplerConfig()

    def _encode_frames(self, frames: np.ndarray) -> Codes:
        """Encode frames, uint8 (B, T, H, W, 3)."""
        return self.tokenizer.encode(to_float(torch.from_numpy(frames).to(self.device)))

    def _on_device(self, actions: Actions) -> dict[str, Tensor]:
        return {k: v.to(self.device) for k, v in actions.items()}


def check_grid(read: GridSpec | None, made: GridSpec | None, frame: str) -> None:
    """Refuse dynamics that read another grid of codes than the tokenizer makes.

    Raises:
        UserError: If they do.
    """
    if read != made:
        texts = (f"{g.rows}x{g.columns} codes of {g.codebook_size}" if g else "none" for g in (read, made))
        raise UserError(
            "the dynamics read {} per {frame}, the tokenizer makes {}; the two parts do not belong together.".format(
                *texts, frame=frame
            )
        )
