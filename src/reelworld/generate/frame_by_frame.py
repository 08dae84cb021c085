"""Frames one after the other: each step asks the dynamics for one frame and decodes it, with or without a memory.

Shapes: n streams, T frames, H W pixel rows and columns, A action width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.generate.rolling import Beginning, Shown, State, Watch
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.types import Codes, Conditions, Sampler, UserError

__all__ = ["FrameByFrame", "RememberedFrames"]


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
        codes = self._encode(beginning.frames)
        return beginning.frames[:, -1], self._dynamics.prefill(codes, self._conditions(beginning.actions))

    def phase(self, state: Any) -> None:
        """Every step is like every other."""

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
        return self._shown(codes, self._tokenizer.decode(codes), state), state

    def _encode(self, frames: np.ndarray) -> Codes:
        codes: Codes = self._tokenizer.encode(to_float(torch.from_numpy(frames).to(self._device)))
        return codes

    def _shown(self, codes: Codes, video: Tensor, state: Any) -> Shown:
        return Shown(
            frame=to_uint8(video[:, -1]).cpu().numpy(),
            reward=state.reward.cpu().numpy(),
            terminated=state.terminated.cpu().numpy(),
            codes=codes.video[:, -1].cpu().numpy(),
        )

    def _conditions(self, actions: Mapping[str, Tensor]) -> Conditions:
        return Conditions(actions={k: v.to(self._device) for k, v in actions.items()})


@dataclass(kw_only=True)
class Remembered:
    """Where n streams stand, and what the decoder remembers of their frames."""

    dynamics: Any
    memory: Any

    @classmethod
    def joined(cls, states: Sequence[Remembered]) -> Remembered:
        """Copy several states into one, their streams in this order."""
        dynamics, memories = [state.dynamics for state in states], [state.memory for state in states]
        return cls(dynamics=type(dynamics[0]).joined(dynamics), memory=type(memories[0]).joined(memories))

    def select(self, streams: Tensor) -> Remembered:
        """Copy the given streams."""
        return Remembered(dynamics=self.dynamics.select(streams), memory=self.memory.select(streams))

    def replace(self, streams: Tensor, other: Remembered) -> None:
        """Overwrite streams in place with those of another state."""
        self.dynamics.replace(streams, other.dynamics)
        self.memory.replace(streams, other.memory)


class RememberedFrames(FrameByFrame):
    """The way of worlds whose tokenizer decodes a frame knowing those before it (``TokenSpec.remembers``)."""

    def begin(
        self, beginning: Beginning, sampler: Sampler, generators: Sequence[torch.Generator], watch: Watch | None = None
    ) -> tuple[np.ndarray, State]:
        """Read the frames at once, for the dynamics and for the decoder; the last one is shown."""
        codes = self._encode(beginning.frames)
        dynamics = self._dynamics.prefill(codes, self._conditions(beginning.actions))
        return beginning.frames[:, -1], Remembered(dynamics=dynamics, memory=self._tokenizer.begin(codes))

    def advance(
        self,
        state: Any,
        actions: Mapping[str, Tensor],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: Watch | None = None,
    ) -> tuple[Shown, State]:
        """Draw the codes of one frame and decode them behind the frames before."""
        codes, dynamics = self._dynamics.step(state.dynamics, self._conditions(actions), sampler, generators)
        video = self._tokenizer.advance(codes, state.memory)
        return self._shown(codes, video, dynamics), Remembered(dynamics=dynamics, memory=state.memory)
