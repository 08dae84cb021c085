"""Learned positions of a window of frames, and how a longer run slides it: a full window is read again from its end.

A table has no entry for a frame beyond it, so the cache of a full window is of no use: its last frames are read once
more as the first ones of a new window. Models that are told time by the transformer need none of this.

Shapes: B streams, T frames of the window, N tokens per frame, D width, A width of an action's vector
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reelworld.types import UserError

__all__ = ["FrameTable", "History"]


class FrameTable(nn.Module):
    """A learned vector per frame of the window and place.

    Attributes:
        frames: T.
        kept: Frames that a full window is begun with again.
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
        """Cut a clip as steps would read it.

        Args:
            frames: Of the clip.

        Returns:
            Per window, the frame it begins with, the first frame that is predicted in it, and the frame it ends before.
        """
        cuts = [(0, 1, min(frames, self.frames))]
        while cuts[-1][2] < frames:
            known = cuts[-1][2]
            begin = known - self.kept
            cuts.append((begin, known, min(frames, begin + self.frames)))
        return cuts


@dataclass(kw_only=True)
class History:
    """The frames of each stream's window."""

    codes: Tensor
    """int64, (B, T, N); the known ones come last."""
    actions: Tensor
    """Vectors of the actions that led to them, (B, T, A)."""
    ages: list[int]
    """How many of them are known, per stream."""

    @classmethod
    def of(cls, codes: Tensor, actions: Tensor, frames: int) -> History:
        """Begin with some frames, (B, P, N), of a window of ``frames``."""
        batch, known = codes.shape[:2]
        assert known < frames, (known, frames)
        empty = (batch, frames - known)
        return cls(
            codes=torch.cat([codes.new_zeros(*empty, codes.shape[2]), codes], 1),
            actions=torch.cat([actions.new_zeros(*empty, actions.shape[2]), actions], 1),
            ages=[known] * batch,
        )

    def after(self, codes: Tensor, action: Tensor) -> History:
        """Add a frame, (B, N)."""
        return History(
            codes=torch.cat([self.codes[:, 1:], codes[:, None]], 1),
            actions=torch.cat([self.actions[:, 1:], action[:, None]], 1),
            ages=[age + 1 for age in self.ages],
        )

    def full(self) -> list[int]:
        """Name the streams whose window has no room for another frame."""
        return [row for row, age in enumerate(self.ages) if age >= self.codes.shape[1]]

    def last(self, streams: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Return the last frames of some streams, and what led to them."""
        return self.codes[streams, -frames:], self.actions[streams, -frames:]

    @classmethod
    def joined(cls, histories: Sequence[History]) -> History:
        """Copy several histories into one, their streams in this order."""
        return cls(
            codes=torch.cat([history.codes for history in histories]),
            actions=torch.cat([history.actions for history in histories]),
            ages=[age for history in histories for age in history.ages],
        )

    def select(self, streams: Tensor) -> History:
        """Copy the given streams."""
        ages = [self.ages[row] for row in streams.tolist()]
        return History(codes=self.codes[streams], actions=self.actions[streams], ages=ages)

    def replace(self, streams: Tensor, other: History) -> None:
        """Overwrite streams in place with those of another history."""
        self.codes[streams], self.actions[streams] = other.codes, other.actions
        for row, age in zip(streams.tolist(), other.ages, strict=True):
            self.ages[row] = age
