"""Frames one after the other: each step asks the dynamics for one frame and decodes it.

Shapes: n streams, T frames, H W pixel rows and columns, A action width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.generate.rolling import Beginning, Shown, State, Watch
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.types import Codes, Conditions, Sampler, UserError

__all__ = ["FrameByFrame"]


class FrameByFrame:
    """The way of worlds whose tokenizer codes each frame as it comes. The state is that of the dynamics."""

    def __init__(self, tokenizer: Any, dynamics: Any, device: torch.device) -> None:
        self._tokenizer, self._dynamics, self._device = tokenizer, dynamics, device

    @property
    def can_begin_from_nothing(self) -> bool:
        """Each frame is a change of the one before, so there must be one."""
        return False

    def check_context(self, n_frames: int) -> None:
        """Refuse to begin without a frame."""
        if n_frames < 1:
            raise UserError("0 context frames were given; this world goes on from a frame: give one or more.")

    def begin(
        self, beginning: Beginning, sampler: Sampler, generators: Sequence[torch.Generator], watch: Watch | None = None
    ) -> tuple[np.ndarray, State]:
        """Read the frames at once; the last one is shown."""
        frames = beginning.frames
        codes: Codes = self._tokenizer.encode(to_float(torch.from_numpy(frames).to(self._device)))
        return frames[:, -1], self._dynamics.prefill(codes, self._conditions(beginning.actions))

    def advance(
        self,
        state: Any,
        actions: Mapping[str, Tensor],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: Watch | None = None,
    ) -> tuple[Shown, State]:
        """Draw the codes of one frame and decode them."""
        codes, state = self._dynamics.step(state, self._conditions(actions), sampler, generators)
        shown = Shown(
            frame=to_uint8(self._tokenizer.decode(codes)[:, -1]).cpu().numpy(),
            reward=state.reward.cpu().numpy(),
            terminated=state.terminated.cpu().numpy(),
            codes=codes.video[:, -1].cpu().numpy(),
        )
        return shown, state

    def _conditions(self, actions: Mapping[str, Tensor]) -> Conditions:
        return Conditions(actions={k: v.to(self._device) for k, v in actions.items()})
