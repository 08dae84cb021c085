"""Learned absolute positions of a sliding window of frames.

A table has no entry for a frame beyond it. The cache of a full window is therefore dropped, and its last frames are
read again as the first ones of a new window. Models whose transformer has positions in time do not need this.

Shapes: B streams, T frames of the window, N tokens per frame, D width, A width of an action's vector
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reelworld.nn.streams import Streams
from reelworld.types import UserError


class FrameTable(nn.Module):
    """A learned vector per frame of the window and position.

    Attributes:
        frames: T.
        kept: Last frames of a full window with which the next one begins.
    """

    def __init__(self, frames: int, tokens: int, width: int, kept: int = 0) -> None:
        """Make the table.

        Args:
            frames: T, 2 or more.
            tokens: N.
            width: D.
            kept: Below T; 0 for half of the window.
        """
        super().__init__()
        self.frames, self.kept = frames, kept or max(1, frames // 2)
        self.table = nn.Parameter(0.02 * torch.randn(frames, tokens, width))

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Add the vectors of frames of these numbers, (T,) or (B, T), to (B, T, N, D); None counts from 0."""
        if positions is not None:
            return x + self.table[positions]
        if x.shape[1] > self.frames:
            raise UserError(f"a clip has {x.shape[1]} frames; this model has positions for {self.frames}: cut it.")
        return x + self.table[: x.shape[1]]

    def windows(self, frames: int) -> list[tuple[int, int, int]]:
        """Cut a clip into the windows that stepping would use.

        Args:
            frames: Of the clip.

        Returns:
            Per window: its first frame, the first frame predicted in it, and its end (exclusive).
        """
        cuts = [(0, 1, min(frames, self.frames))]
        while cuts[-1][2] < frames:
            known = cuts[-1][2]
            begin = known - self.kept
            cuts.append((begin, known, min(frames, begin + self.frames)))
        return cuts


@dataclass(kw_only=True)
class History(Streams):
    """The frames of each stream's window."""

    codes: Tensor
    """int64, (B, T, N); the known ones come last."""
    actions: Tensor
    """Vectors of the actions that led to them, (B, T, A)."""
    ages: Tensor
    """Number of known frames of each stream, int64 (B,), on the CPU."""

    @classmethod
    def of(cls, codes: Tensor, actions: Tensor, frames: int) -> History:
        """Make the history of P frames, (B, P, N), in a window of ``frames``."""
        batch, known = codes.shape[:2]
        assert known < frames, (known, frames)
        empty = (batch, frames - known)
        return cls(
            codes=torch.cat([codes.new_zeros(*empty, codes.shape[2]), codes], 1),
            actions=torch.cat([actions.new_zeros(*empty, actions.shape[2]), actions], 1),
            ages=torch.full((batch,), known),
        )

    def after(self, codes: Tensor, action: Tensor) -> History:
        """Add a frame, (B, N)."""
        return History(
            codes=torch.cat([self.codes[:, 1:], codes[:, None]], 1),
            actions=torch.cat([self.actions[:, 1:], action[:, None]], 1),
            ages=self.ages + 1,
        )

    def full(self) -> list[int]:
        """Return the streams whose window is full."""
        return (self.ages >= self.codes.shape[1]).nonzero().flatten().tolist()

    def last(self, streams: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Return the last frames of some streams, and the actions that led to them."""
        return self.codes[streams, -frames:], self.actions[streams, -frames:]
