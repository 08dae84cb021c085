"""World model with context frames that are encoded on a separate grid of codes.

A window has room for a fixed number of frames. When it is full, its last frames begin the next one: they are encoded
again from their pixels, the first of them as the context. In models with a goal, the goal picture is the first context
frame of every window; lengths in this file do not count it unless noted.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), section 3.1 and, for goals, appendix A.2. Differs: a full window
goes on, with the same goal.

Shapes: n streams, B batch, T frames, K context frames, S frames that a window begins with, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.models.coded_model import CodedModel, check_grid
from reelworld.models.frame_model import check_actions, output_of, to_frame
from reelworld.models.parts import AnyStatefulTokenizer, AnyWindowDynamics
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import Actions, Context, FrameOutput, Rng, refuse_codes
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.nn.streams import Streams
from reelworld.types import Conditions, ModelSpec, Sampler, StepScores, UserError


@dataclass(kw_only=True)
class ContextState(Streams):
    """States of the dynamics and of the decoder, and the frames with which the next window begins."""

    dynamics: Any
    decoder: Any
    recent: Tensor
    """Last frames, the goal first where there is one, uint8, (n, S, H, W, 3)."""
    taken: Mapping[str, Tensor]
    """Actions between them: stream -> (n, S - 1, ...)."""


class ContextModel(CodedModel):
    """A stateful tokenizer with a context grid, and dynamics with a window."""

    tokenizer: AnyStatefulTokenizer
    dynamics: AnyWindowDynamics

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: AnyStatefulTokenizer,
        dynamics: AnyWindowDynamics,
        sampler: SamplerConfig | None = None,
    ) -> None:
        """Compose the model.

        Args:
            spec: Size, rate, actions, frame stride and usual context; the rest is filled in from the parts.
            tokenizer: Pixels <-> codes of both grids.
            dynamics: The next codes.
            sampler: Default sampler settings.

        Raises:
            UserError: If the parts do not belong together or are not those of ``spec``.
        """
        super().__init__(tokenizer, dynamics, sampler)
        tokens, config = tokenizer.spec(1, spec.height, spec.width), dynamics.config
        check_actions(spec, dynamics)
        check_grid(config.grid, tokens.video, "latent frame")
        check_grid(config.context_grid, tokens.grids.get("context"), "context frame")
        if tokens.context_frames != config.context_frames:
            raise UserError(
                f"the dynamics read a context of {config.context_frames} frames, the tokenizer "
                f"{tokens.context_frames}; the two parts do not belong together."
            )
        self._has_goal = config.has_goal
        self._n_context = config.context_frames - config.has_goal
        self._n_frames = config.frames - config.has_goal
        usual = spec.context[1]
        if not self._n_context <= usual < self._n_frames:
            raise UserError(
                f"the world says to begin with {usual} frames; this world can begin with {self._n_context} to "
                f"{self._n_frames - 1}: restore world.json."
            )
        self._n_begin = usual
        self.spec = replace(
            spec,
            rewards=config.has_rewards,
            likelihood="exact",
            grids=dict(tokens.grids),
            context=(1, usual, None),
            window=config.frames,
            min_clip=config.context_frames + 1,
            goal=config.has_goal,
        )

    # ------------------------------------------------------------------ windows

    @property
    def _stride(self) -> int:
        return self._n_frames - self._n_begin

    def window_start(self, frame: int) -> int:
        """Return the first frame of the window in which a frame, counted from 0, is predicted."""
        return max(0, frame - self._n_begin) // self._stride * self._stride

    def _last_window(self, context: Context) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Cut frames and actions; a context that is too short is extended with copies of its first frame."""
        frames, n_missing = context.frames, max(0, self._n_context - context.frames.shape[1])
        first = self.window_start(frames.shape[1] + n_missing)
        frames = np.concatenate([frames[:, :1].repeat(n_missing, 1), frames[:, first:]], 1)
        return frames, {k: v[:, first:] for k, v in context.actions.items()}

    def _read(self, frames: Tensor, actions: Mapping[str, Tensor]) -> ContextState:
        """Encode the first frames of a window, the goal among them, and the actions between all but the goal."""
        codes = self.tokenizer.encode(to_float(frames))
        return ContextState(
            dynamics=self.dynamics.prefill(codes, Conditions(actions=self._after_goal(actions))),
            decoder=self.tokenizer.init_state(codes),
            recent=self._recent(frames),
            taken={k: _last(v, self._n_begin - 1) for k, v in actions.items()},
        )

    def _recent(self, frames: Tensor) -> Tensor:
        """Copy the frames that begin the next window; the goal stays the first."""
        if not self._has_goal:
            return _last(frames, self._n_begin)
        return torch.cat([frames[:, :1], _last(frames[:, 1:], self._n_begin)], 1)

    def _after_goal(self, actions: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Insert a row of zeros for the step from the goal to the first frame, which is never read."""
        if not self._has_goal:
            return actions
        return {k: torch.cat([v.new_zeros(len(v), 1, *v.shape[2:]), v], 1) for k, v in actions.items()}

    # ------------------------------------------------------------------ stepping

    def begin(self, context: Context, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, Streams]:
        """Read the frames of the last window of the context."""
        refuse_codes(context, "this world codes its first frames in another grid than the rest")
        self.check_context(context.frames.shape[1])
        frames, actions = self._last_window(context)
        shown = frames[:, -1]
        if context.goal is not None:
            frames = np.concatenate([context.goal[:, None], frames], 1)
        state = self._read(torch.from_numpy(frames).to(self.device), self._on_device(actions))
        return FrameOutput.of_context(shown), state

    def step(self, state: ContextState, actions: Actions, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, Streams]:
        """Sample the codes of one frame and decode them; full windows begin again first."""
        full = self.dynamics.full(state.dynamics).to(self.device)
        if len(full):
            state.index_copy_(full, self._read(state.recent[full], {k: v[full] for k, v in state.taken.items()}))
        now = self._on_device(actions)
        codes, dynamics = self.dynamics.step(state.dynamics, Conditions(actions=now), sampler, rng)
        video = self.tokenizer.decode_step(codes, state.decoder)
        after = ContextState(
            dynamics=dynamics,
            decoder=state.decoder,
            recent=self._recent(torch.cat([state.recent, to_uint8(video)], 1)),
            taken={k: _last(torch.cat([v, now[k]], 1), self._n_begin - 1) for k, v in state.taken.items()},
        )
        return output_of(to_frame(video), codes, dynamics), after

    # ------------------------------------------------------------------ scoring

    def score(self, clips: Context, n_context: int) -> StepScores:
        """Score every frame after the first context, window by window: each (n, T - K)."""
        refuse_codes(clips, "this world codes its first frames in another grid than the rest")
        parts, known = [], self._n_context
        actions = self._on_device(clips.actions)
        for first in range(0, clips.frames.shape[1], self._stride):
            if first + known >= clips.frames.shape[1]:
                break
            window = slice(first, first + self._n_frames)
            frames = clips.frames[:, window]
            if clips.goal is not None:
                frames = np.concatenate([clips.goal[:, None], frames], 1)
            codes = self._encode_frames(frames.copy())
            inside = self._after_goal({k: v[:, window] for k, v in actions.items()})
            scores = self.dynamics.score(codes, Conditions(actions=inside))
            parts.append([row[:, known - self._n_context :] for row in scores if isinstance(row, Tensor)])
            known = self._n_begin
        # the field that is no tensor is the last, and these models leave it out
        return StepScores(*(torch.cat(rows, 1) for rows in zip(*parts, strict=True)))  # type: ignore[arg-type]


def _last(rows: Tensor, n: int) -> Tensor:
    """Copy the last n rows of (B, T, ...); missing ones are zeros before them, which are never read."""
    missing = rows.new_zeros(len(rows), max(0, n - rows.shape[1]), *rows.shape[2:])
    return torch.cat([missing, rows[:, max(0, rows.shape[1] - n) :]], 1)
