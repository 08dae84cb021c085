"""Frames one after the other: each step asks the dynamics for one frame and decodes it, with or without a memory.

Shapes: n streams, T frames, K context frames, H W pixel rows and columns, A action width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.models.world_model import Context, FrameOutput, ProgressCallback, State
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.nn.streams import Streams
from reelworld.types import Clip, Codes, Conditions, Sampler, StepScores, UserError

__all__ = ["ContextFrames", "FrameByFrame", "RememberedFrames"]


class FrameByFrame:
    """The way of worlds whose tokenizer codes each frame as it comes. The state is that of the dynamics."""

    has_goal = False

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
        self,
        beginning: Context,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
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
        watch: ProgressCallback | None = None,
    ) -> tuple[FrameOutput, State]:
        """Draw the codes of one frame and decode them."""
        codes, state = self._dynamics.step(state, self._conditions(actions), sampler, generators)
        return self._shown(codes, self._tokenizer.decode(codes), state), state

    def _encode(self, frames: np.ndarray) -> Codes:
        codes: Codes = self._tokenizer.encode(to_float(torch.from_numpy(frames).to(self._device)))
        return codes

    def _shown(self, codes: Codes, video: Tensor, state: Any) -> FrameOutput:
        return FrameOutput(
            frame=to_uint8(video[:, -1]).cpu().numpy(),
            reward=state.reward.cpu().numpy(),
            terminated=state.terminated.cpu().numpy(),
            codes=codes.video[:, -1].cpu().numpy(),
        )

    def _conditions(self, actions: Mapping[str, Tensor]) -> Conditions:
        return Conditions(actions={k: v.to(self._device) for k, v in actions.items()})


@dataclass(kw_only=True)
class Remembered(Streams):
    """Where n streams stand, and what the decoder remembers of their frames."""

    dynamics: Any
    memory: Any


class RememberedFrames(FrameByFrame):
    """The way of worlds whose tokenizer decodes a frame knowing those before it (``TokenSpec.remembers``)."""

    def begin(
        self,
        beginning: Context,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
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
        watch: ProgressCallback | None = None,
    ) -> tuple[FrameOutput, State]:
        """Draw the codes of one frame and decode them behind the frames before."""
        codes, dynamics = self._dynamics.step(state.dynamics, self._conditions(actions), sampler, generators)
        video = self._tokenizer.advance(codes, state.memory)
        return self._shown(codes, video, dynamics), Remembered(dynamics=dynamics, memory=state.memory)


@dataclass(kw_only=True)
class InContext(Remembered):
    """The same, and the last frames of each stream and the actions between them, with which a window begins anew."""

    recent: Tensor
    """uint8, (n, S, H, W, 3)."""
    taken: Mapping[str, Tensor]
    """Stream -> (n, S - 1, ...)."""


class ContextFrames(FrameByFrame):
    """The way of worlds whose first frames are the context of all others (``TokenSpec.context_frames``).

    A window has room for so many frames (``dynamics.config.frames``). When it is full, its last frames begin the next
    one: they are coded anew from their pixels, the first of them as context.
    """

    def __init__(self, tokenizer: Any, dynamics: Any, n_begin: int, device: torch.device) -> None:
        """Make the way.

        Args:
            tokenizer: Of the world.
            dynamics: Of the world.
            n_begin: Frames that a new window begins with; those beyond the context are coded as later ones.
            device: Where both are.
        """
        super().__init__(tokenizer, dynamics, device)
        self._n_context, self._n_frames = int(dynamics.config.context_frames), int(dynamics.config.frames)
        self._n_begin = max(n_begin, self._n_context)

    @property
    def _stride(self) -> int:
        return self._n_frames - self._n_begin

    def window_of(self, frame: int) -> int:
        """Return the first frame of the window in which a frame, counted from 0, is predicted."""
        return max(0, frame - self._n_begin) // self._stride * self._stride

    def begin(
        self,
        beginning: Context,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
    ) -> tuple[np.ndarray, State]:
        """Read the frames of the last window."""
        frames, taken = self._last_window(beginning)
        return frames[:, -1], self._read(torch.from_numpy(frames).to(self._device), self._conditions(taken).actions)

    def _last_window(self, beginning: Context) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Cut frames and actions; where there are fewer frames than a context, the first one stands still."""
        frames, n_missing = beginning.frames, max(0, self._n_context - beginning.frames.shape[1])
        first = self.window_of(frames.shape[1] + n_missing)
        frames = np.concatenate([frames[:, :1].repeat(n_missing, 1), frames[:, first:]], 1)
        return frames, {k: v[:, first:] for k, v in beginning.actions.items()}

    def _read(self, frames: Tensor, taken: Mapping[str, Tensor]) -> InContext:
        codes = self._tokenizer.encode(to_float(frames))
        dynamics = self._dynamics.prefill(codes, Conditions(actions=self._lined_up(taken)))
        recent, taken = self._recent(frames), {k: _last(v, self._n_begin - 1) for k, v in taken.items()}
        return InContext(dynamics=dynamics, memory=self._tokenizer.begin(codes), recent=recent, taken=taken)

    def _lined_up(self, actions: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Row t of actions leads from frame t to the next."""
        return actions

    def _recent(self, frames: Tensor) -> Tensor:
        """Copy what the next window begins with."""
        return _last(frames, self._n_begin)

    def advance(
        self,
        state: Any,
        actions: Mapping[str, Tensor],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
    ) -> tuple[FrameOutput, State]:
        """Draw the codes of one frame and decode them in the light of the context."""
        full = self._dynamics.full(state.dynamics).to(self._device)
        if len(full):
            state.index_copy_(full, self._read(state.recent[full], {k: v[full] for k, v in state.taken.items()}))
        told = self._conditions(actions)
        codes, dynamics = self._dynamics.step(state.dynamics, told, sampler, generators)
        video = self._tokenizer.advance(codes, state.memory)
        recent = self._recent(torch.cat([state.recent, to_uint8(video)], 1))
        taken = {k: _last(torch.cat([v, told.actions[k]], 1), self._n_begin - 1) for k, v in state.taken.items()}
        after = InContext(dynamics=dynamics, memory=state.memory, recent=recent, taken=taken)
        return self._shown(codes, video, dynamics), after

    def judged(self, clip: Clip, actions: Mapping[str, Tensor]) -> StepScores:
        """Compare every frame of one clip behind the first context with its prediction, window after window.

        Args:
            clip: T frames, T above K.
            actions: Its own, stream -> (1, T, ...); the last row is not used.

        Returns:
            Each (1, T - K).
        """
        parts, known = [], self._n_context
        for first in range(0, len(clip.frames), self._stride):
            if first + known >= len(clip.frames):
                break
            window = slice(first, first + self._n_frames)
            judged = self._judged_window(clip, window, {k: v[:, window] for k, v in actions.items()})
            parts.append([part[:, known - self._n_context :] for part in judged])
            known = self._n_begin
        return StepScores(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    def _judged_window(self, clip: Clip, window: slice, actions: Mapping[str, Tensor]) -> StepScores:
        judged: StepScores = self._dynamics.judge(self._encode(clip.frames[None, window]), self._conditions(actions))
        return judged


def _last(rows: Tensor, n: int) -> Tensor:
    """Copy the last n rows of (B, T, ...); where there are fewer, zeros stand before them, which nobody reads."""
    missing = rows.new_zeros(len(rows), max(0, n - rows.shape[1]), *rows.shape[2:])
    return torch.cat([missing, rows[:, max(0, rows.shape[1] - n) :]], 1)
