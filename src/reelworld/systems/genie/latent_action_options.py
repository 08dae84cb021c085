"""Options of latent action models that do not depend on the data. Torch-free: systems nest them in their configs."""

from __future__ import annotations

from dataclasses import dataclass

from reelworld.config import require


@dataclass(frozen=True, kw_only=True)
class LatentActionOptions:
    """Codes and networks of a latent action model."""

    patch: int = 16
    """Pixels per patch, along each side."""
    n_codes: int = 8
    """Latent actions; more fit better and are harder to play."""
    learned_codes: int = 0
    """Codes during training; afterwards those with the same effect are merged to n_codes. Actions that many codes keep
    apart often share one of few codes for ever ("turn" for left and right). 0 trains n_codes, as published."""
    code_width: int = 32
    """Width of a code's vector."""
    model_width: int = 512
    """Width of encoder and decoder."""
    encoder_layers: int = 8
    """Blocks of the encoder."""
    decoder_layers: int = 8
    """Blocks of the decoder."""
    augment_prob: float = 0.0
    """Probability that the decoder gets a training clip moved by whole patches (around the edges) and turned by
    quarters, with the codes of the clip as it was. A code must then mean the same anywhere and in any direction:
    "forward", not "up" or "to the third row". For games seen from above whose actions are relative to the agent; 0 as
    published."""
    rarity: float = 0.0
    """Changes seen c times in a batch weigh c ** -rarity in the loss; 0 weighs all alike, as published."""

    def __post_init__(self) -> None:
        require(self, "patch code_width model_width", lambda v: v >= 1, "at least 1")
        require(self, "encoder_layers decoder_layers", lambda v: v >= 1, "at least 1")
        require(self, "n_codes", lambda v: v >= 2, "at least 2")
        require(self, "learned_codes", lambda v: v == 0 or v >= self.n_codes, f"0, or at least n_codes, {self.n_codes}")
        require(self, "augment_prob rarity", lambda v: 0 <= v <= 1, "from 0 to 1")
