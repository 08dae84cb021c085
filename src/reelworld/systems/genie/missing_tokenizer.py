"""Placeholder for a tokenizer that is not available: it has the shape of the codes, but no pixels.

It is used for worlds of codes only: published dynamics with the tokenizer of another project.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reelworld.config import require
from reelworld.models.parts import Tokenizer
from reelworld.types import Batch, Codes, GridSpec, Losses, TokenSpec, UserError

__all__ = ["MissingTokenizer", "MissingTokenizerConfig"]


@dataclass(frozen=True, kw_only=True)
class MissingTokenizerConfig:
    """Shape of the codes and name of the missing tokenizer."""

    rows: int
    """Rows of the token grid."""
    columns: int
    """Columns of the token grid."""
    codebook_size: int
    """Number of codes."""
    space_stride: int
    """Pixels per token, along each side."""
    name: str
    """Name and source of the missing tokenizer, for users who need pixels."""

    def __post_init__(self) -> None:
        require(self, "rows columns codebook_size space_stride", lambda v: v >= 1, "at least 1")


class MissingTokenizer(Tokenizer):
    """Placeholder with the spec of the codes; refuses to encode or decode."""

    def __init__(self, config: MissingTokenizerConfig) -> None:
        super().__init__()
        self.config = config

    def spec(self, n_frames: int, height: int, width: int) -> TokenSpec:
        """Describe the codes."""
        config = self.config
        grid = GridSpec(rows=config.rows, columns=config.columns, codebook_size=config.codebook_size)
        return TokenSpec(grids={"video": grid}, space_stride=config.space_stride, has_pictures=False)

    def encode(self, video: Tensor) -> Codes:
        """Refuse.

        Raises:
            UserError: Always.
        """
        raise self._missing("turn pictures into codes")

    def decode(self, codes: Codes) -> Tensor:
        """Refuse.

        Raises:
            UserError: Always.
        """
        raise self._missing("show codes as pictures")

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Refuse.

        Raises:
            UserError: Always.
        """
        raise self._missing("be trained")

    def _missing(self, what: str) -> UserError:
        return UserError(
            f"this world cannot {what}: its tokenizer ({self.config.name}) is not part of it. Use its codes: "
            "World.generate_codes, World.score_codes."
        )
