"""Frames one after the other, towards a goal: its picture is the first frame of every context.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), appendix A.2. Differs: a full window goes on with the same goal.

Shapes: n streams, T frames, K context frames, the goal's among them, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.models.frame_model import ContextFrames, InContext
from reelworld.models.world_model import Context, ProgressCallback
from reelworld.types import Clip, Sampler, StepScores

__all__ = ["GoalContextFrames", "in_context"]


class GoalContextFrames(ContextFrames):
    """The way of worlds with a context that is led by a goal.

    To the tokenizer and the dynamics the goal is the first frame of a window; windows are counted without it here.
    """

    has_goal = True

    def __init__(self, tokenizer: Any, dynamics: Any, n_begin: int, device: torch.device) -> None:
        """Make the way; ``n_begin`` does not count the goal."""
        super().__init__(tokenizer, dynamics, n_begin, device)
        self._n_frames -= 1
        self._n_context -= 1
        self._n_begin = max(n_begin, self._n_context)

    def begin(
        self,
        beginning: Context,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
    ) -> tuple[np.ndarray, InContext]:
        """Read the goal and the frames of the last window; the last one is shown."""
        assert beginning.goal is not None
        frames, taken = self._last_window(beginning)
        led = np.concatenate([beginning.goal[:, None], frames], 1)
        return frames[:, -1], self._read(torch.from_numpy(led).to(self._device), self._conditions(taken).actions)

    def _lined_up(self, actions: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return _behind_goal(actions)

    def _recent(self, frames: Tensor) -> Tensor:
        """Keep the goal, and what the next window begins with."""
        return torch.cat([frames[:, :1], super()._recent(frames[:, 1:])], 1)

    def _judged_window(self, clip: Clip, window: slice, actions: Mapping[str, Tensor]) -> StepScores:
        """Judge the frames of a window; a clip without a goal of its own went to its last frame."""
        goal = clip.frames[-1] if clip.goal is None else clip.goal
        led = np.concatenate([goal[None], clip.frames[window]])[None]
        judged: StepScores = self._dynamics.judge(self._encode(led), self._conditions(_behind_goal(actions)))
        return judged


def _behind_goal(actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a row in front of actions (n, T, ...): nothing leads from the goal to the first frame, and nobody asks."""
    return {k: torch.cat([v.new_zeros(len(v), 1, *v.shape[2:]), v], 1) for k, v in actions.items()}


def in_context(tokenizer: Any, dynamics: Any, n_begin: int, device: torch.device) -> ContextFrames:
    """Choose the way of a world whose first frames are the context of all others."""
    way = GoalContextFrames if dynamics.config.has_goal else ContextFrames
    return way(tokenizer, dynamics, n_begin, device)
