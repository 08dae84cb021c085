"""Latent actions with spacetime transformers, as Genie has them.

Source: Bruce et al. 2024 (arXiv:2402.15391), section 2.1 and appendix. Differs: positions are rotary, so that a code
need not depend on the position of a change; the decoder's action conditioning is configurable (the paper adds it);
see also ``latent_action.py``.

Shapes: B batch, T frames, N patches per frame, D width, E width of a code's vector, X pixel values of a patch
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from reelworld.systems.genie.action_conditioning import Conditioning, action_conditioning
from reelworld.systems.genie.latent_action import LatentActionConfig, LatentActionModel
from reelworld.systems.genie.spacetime import STConfig, STTransformer

__all__ = ["STLatentActions", "STLatentConfig"]


@dataclass(frozen=True, kw_only=True)
class STLatentConfig(LatentActionConfig):
    """Shape of a latent action model of spacetime transformers."""

    window: int = 16
    """Attention window of each layer, in frames."""
    heads: int = 8
    """Attention heads."""
    conditioning: Conditioning = "add"
    """Action conditioning of the decoder."""

    def transformer(self, layers: int) -> STConfig:
        """Describe a transformer of some layers."""
        return STConfig(
            width=self.model_width,
            layers=layers,
            heads=self.heads,
            rows=self.rows,
            columns=self.columns,
            window=self.window,
            space="rotary",
        )


class STLatentActions(LatentActionModel):
    """Encoder and decoder attend to all earlier frames of the window."""

    def __init__(self, config: STLatentConfig) -> None:
        super().__init__(config)
        flat, width = config.patch * config.patch * 3, config.model_width
        self.seen = nn.Linear(flat, width)
        self.encoder = STTransformer(config.transformer(config.encoder_layers))
        self.past = nn.Linear(flat, width)
        self.tell = action_conditioning(config.conditioning, width, config.code_width, config.decoder_layers)
        self.decoder = STTransformer(config.transformer(config.decoder_layers))

    def describe(self, patches_BTNX: Tensor) -> Tensor:
        """Read all frames; each describes what led to it."""
        described: Tensor = self.encoder(self.seen(patches_BTNX))[:, 1:]
        return described

    def foresee(self, patches_BTNX: Tensor, actions_BTE: Tensor) -> Tensor:
        """Read the past under its actions."""
        told = self.tell(self.past(patches_BTNX), actions_BTE)
        return self.tell.strip(self.decoder(told.x, told.film))
