"""Frames one after the other: each step asks the dynamics for one frame and decodes it.

Shapes: n streams, T frames, H W pixel rows and columns, A action width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.generate.rolling import Shown, State
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.types import Codes, Conditions, Sampler

__all__ = ["FrameByFrame"]


class FrameByFrame:
    """The way of worlds whose tokenizer codes each frame as it comes. The state is that of the dynamics."""

    def __init__(self, tokenizer: Any, dynamics: Any, device: torch.device) -> None:
        self._tokenizer, self._dynamics, self._device = tokenizer, dynamics, device

    def begin(
        self,
        frames: np.ndarray,
        actions: Mapping[str, Tensor],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
    ) -> tuple[np.ndarray, State]:
        """Read the frames at once; the last one is shown."""
        codes: Codes = self._tokenizer.encode(to_float(torch.from_numpy(frames).to(self._device)))
        return frames[:, -1], self._dynamics.prefill(codes, self._conditions(actions))

    def advance(
        self, state: Any, actions: Mapping[str, Tensor], sampler: Sampler, generators: Sequence[torch.Generator]
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
