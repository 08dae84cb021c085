"""Clips that go towards a goal: their last frame stands first.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), appendix A.2: a clip of T frames is read in the order T, 1, 2 to
T - 1, so that the first frames, the context, are the goal and the frames that the clip begins with.

Shapes: T frames of a window, H W pixel rows and columns
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reelworld.data.clip_index import ClipIndex
from reelworld.types import Clip

__all__ = ["GoalClipIndex"]


class GoalClipIndex(ClipIndex):
    """Windows whose last frame, the goal, stands first; all other rows move along with their frames.

    So ``actions[t]`` still leads from row t to row t + 1, but for the first row: nothing leads from the goal to the
    first frame. What leads to the goal is in the last row, where padding is.
    """

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        """Copy window ``i`` as ``ClipIndex`` does, each row that belongs to a frame one further."""
        arrays = super().__getitem__(i)
        return {k: np.roll(v, 1, 0) if v.ndim else v for k, v in arrays.items()}

    def clip(self, i: int) -> Clip:
        """Copy window ``i`` as a clip of T - 1 frames in their order, and its goal."""
        whole = super().clip(i)  # made of rows that begin with the goal's

        def rest(rows: np.ndarray | None) -> np.ndarray | None:
            return None if rows is None else rows[1:]

        return replace(
            whole,
            frames=whole.frames[1:],
            actions={k: v[1:] for k, v in whole.actions.items()},
            rewards=rest(whole.rewards),
            terminated=rest(whole.terminated),
            truncated=rest(whole.truncated),
            goal=whole.frames[0],
        )
