"""Frames a window at a time: for tokenizers that code whole clips and dynamics with absolute positions.

A window is as long as the clips the world was trained on. What follows the context in it is drawn and decoded at
once, then shown frame by frame. When all of it was shown, the window slides by one latent frame: the dynamics read
the codes again, now at the positions from 0 on, and draw one more. Nothing is kept of attention between two windows,
so that every latent frame after the first window costs one reading of it.

Source: Yan et al. 2021 (arXiv:2104.10157) make one window. Differs: given frames stay as they are, their codes come
from them alone, and the window slides.

Shapes: B streams, T frames of a window, P its latent frames, N tokens per latent frame, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.models.samplers import Counted
from reelworld.models.world_model import Context, FrameOutput, ProgressCallback
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.nn.streams import Streams
from reelworld.types import Codes, Conditions, Sampler, TokenSpec, UserError

__all__ = ["SlidingWindow", "WindowState"]


@dataclass(kw_only=True)
class WindowState(Streams):
    """Where the windows of B streams stand."""

    codes: Tensor
    """int64, (B, P, N); those from ``known`` on mean nothing."""
    frames: Tensor
    """uint8, (B, T, H, W, 3); those from ``shown`` on mean nothing while codes are unknown."""
    known: Tensor
    """Latent frames whose codes are there, int64 (B,), on the CPU; P when the whole window was made."""
    shown: Tensor
    """Frames that were given or shown, the current one included, int64 (B,), on the CPU."""
    class_id: Tensor | None
    """int64, (B,); None in worlds without classes."""


class SlidingWindow:
    """The way of worlds whose tokenizer codes whole clips. Such worlds take no actions."""

    has_goal = False

    def __init__(self, tokenizer: Any, dynamics: Any, spec: TokenSpec, device: torch.device) -> None:
        self._tokenizer, self._dynamics, self._device = tokenizer, dynamics, device
        self._n_frames, self._stride, self._n_tokens = spec.clip_frames, spec.time_stride, spec.video.n_tokens
        self._n_latents = spec.clip_frames // spec.time_stride
        self._n_shown_as_pixels = int(getattr(dynamics.config, "cond_frames", 0))

    # ------------------------------------------------------------------ the context

    @property
    def can_begin_from_nothing(self) -> bool:
        """True when the dynamics want to see no frames."""
        return self._n_shown_as_pixels == 0

    def check_context(self, n_frames: int) -> None:
        """Refuse a context that is longer than a window, or shorter than what the dynamics are shown as pixels."""
        least, most = self._n_shown_as_pixels, self._n_frames
        if n_frames > most:
            raise UserError(
                f"{n_frames} context frames were given; this world codes {most} frames at a time: give at most {most}, "
                "the last ones."
            )
        if n_frames < least:
            raise UserError(
                f"{n_frames} context frames were given; this world needs to see at least {least}, at most {most}."
            )

    def fit_context(self, frames: np.ndarray) -> np.ndarray:
        """Bring a context to a length at which everything in it is known to the dynamics.

        That is a whole number of latent frames, or just the frames that are shown as pixels. Surplus frames are
        dropped at the beginning; less than one latent frame is filled up there by letting the first frame stand
        still.

        Args:
            frames: uint8, (B, C, H, W, 3).

        Returns:
            uint8, (B, C', H, W, 3).
        """
        n, wanted = frames.shape[1], self._n_shown_as_pixels
        if n == wanted:
            return frames
        if n < self._stride:
            return np.concatenate([frames[:, :1].repeat(self._stride - n, 1), frames], 1)
        return frames[:, n - max(n - n % self._stride, wanted) :]

    def context_codes(self, frames: np.ndarray) -> Tensor:
        """Code the whole latent frames of a context from these frames alone: the last one fills the window up.

        Args:
            frames: uint8, (B, C, H, W, 3).

        Returns:
            int64, (B, C // time stride, N).
        """
        known = frames.shape[1] // self._stride
        if known == 0:
            return torch.zeros((len(frames), 0, self._n_tokens), dtype=torch.int64, device=self._device)
        filled = np.concatenate([frames, frames[:, -1:].repeat(self._n_frames - frames.shape[1], 1)], 1)
        return self._encode(filled)[:, :known]

    def begin(
        self,
        beginning: Context,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
    ) -> tuple[np.ndarray, WindowState]:
        """Code the context; the rest of the window is made when it is asked for.

        Without a context the first frame of a new window is shown.
        """
        frames = self.fit_context(beginning.frames)
        batch, n_given = frames.shape[:2]
        known_BPN = self.context_codes(frames)
        state = WindowState(
            codes=known_BPN.new_zeros(batch, self._n_latents, self._n_tokens),
            frames=torch.zeros((batch, self._n_frames, *frames.shape[2:]), dtype=torch.uint8, device=self._device),
            known=torch.full((batch,), known_BPN.shape[1]),
            shown=torch.full((batch,), n_given),
            class_id=None if beginning.class_id is None else beginning.class_id.to(self._device),
        )
        state.codes[:, : known_BPN.shape[1]] = known_BPN
        state.frames[:, :n_given] = torch.from_numpy(frames).to(self._device)
        if n_given:
            return frames[:, -1], state
        shown, state = self.advance(state, {}, sampler, generators, watch)
        return shown.frame, state

    # ------------------------------------------------------------------ the window

    def phase(self, state: WindowState) -> tuple[int, ...]:
        """Latent frames that each stream knows when the next frame is asked for; all of them: nothing must be made."""
        used_up = state.shown == self._n_frames
        return tuple(torch.where(used_up, self._n_latents - 1, state.known).tolist())

    def advance(
        self,
        state: WindowState,
        actions: Mapping[str, Tensor],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None = None,
    ) -> tuple[FrameOutput, WindowState]:
        """Show the next frame of every stream; make more of a window where all of it was shown."""
        is_due = (state.known < self._n_latents) | (state.shown == self._n_frames)
        if is_due.any():
            self._make(state, is_due.nonzero().flatten(), sampler, generators, watch)
        state.shown = state.shown + 1
        batch, last = len(state.shown), state.shown - 1
        streams = torch.arange(batch)
        shown = FrameOutput(
            frame=state.frames[streams, last].cpu().numpy(),
            reward=np.zeros(batch, np.float32),
            terminated=np.zeros(batch, np.float32),
            codes=state.codes[streams, last // self._stride].cpu().numpy(),
        )
        return shown, state

    def _make(
        self,
        state: WindowState,
        due: Tensor,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        watch: ProgressCallback | None,
    ) -> None:
        """Slide where a window is used up, then fill the windows; streams of equal phase go side by side."""
        self._slide(state, due[state.known[due] == self._n_latents])
        known = state.known[due]
        groups = [due[known == n] for n in known.unique().tolist()]
        if watch is not None:
            n_calls = sum((self._n_latents - int(state.known[group[0]])) * self._n_tokens for group in groups)
            sampler = Counted(sampler, tell(watch, n_calls, self._n_frames - int(state.shown[due].min())))
        for group in groups:
            self._fill(state, group, sampler, [generators[i] for i in group.tolist()])

    def _slide(self, state: WindowState, streams: Tensor) -> None:
        """Move windows by one latent frame."""
        if not len(streams):
            return
        kept = self._n_frames - self._stride
        if self._n_shown_as_pixels > kept:
            raise UserError(
                f"this world is shown the first {self._n_shown_as_pixels} of {self._n_frames} frames, so that no "
                "window can follow the first one; reset the session."
            )
        state.codes[streams, :-1] = state.codes[streams, 1:]
        state.frames[streams, :kept] = state.frames[streams, self._stride :]
        state.known[streams] = self._n_latents - 1
        state.shown[streams] = kept

    def _fill(
        self, state: WindowState, streams: Tensor, sampler: Sampler, generators: Sequence[torch.Generator]
    ) -> None:
        """Draw the unknown latent frames of streams that know equally many, and decode their windows as whole clips."""
        codes_BPN = state.codes[streams]
        conditions = self._conditions(state.frames[streams], state.class_id, streams)
        inner = self._dynamics.prefill(Codes.of(codes_BPN[:, : int(state.known[streams[0]])]), conditions)
        for latent in range(int(state.known[streams[0]]), self._n_latents):
            made, inner = self._dynamics.step(inner, conditions, sampler, generators)
            codes_BPN[:, latent] = made.video[:, 0]
        frames = to_uint8(self._tokenizer.decode(Codes.of(codes_BPN)))
        is_new = torch.arange(self._n_frames) >= state.shown[streams, None]
        is_new = is_new.to(self._device)[..., None, None, None]
        state.frames[streams] = torch.where(is_new, frames, state.frames[streams])
        state.codes[streams] = codes_BPN
        state.known[streams] = self._n_latents

    def _conditions(self, frames: Tensor, class_id: Tensor | None, streams: Tensor) -> Conditions:
        n = self._n_shown_as_pixels
        return Conditions(
            context_video=to_float(frames[:, :n]) if n else None,
            class_id=None if class_id is None else class_id[streams],
        )

    def _encode(self, frames: np.ndarray) -> Tensor:
        codes: Tensor = self._tokenizer.encode(to_float(torch.from_numpy(frames).to(self._device))).video
        return codes

    # ------------------------------------------------------------------ scores

    def nats_per_frame(self, frames: np.ndarray, n_context: int, class_id: Tensor | None) -> float:
        """Measure how surprising the frames after a context are, windows one after the other, each on its own.

        Args:
            frames: uint8, (C, H, W, 3); what is left after the last whole window does not count.
            n_context: Frames at the beginning of each window that count as its context.
            class_id: int64, (1,); None in worlds without classes.

        Returns:
            Nats of the latent frames that are not context, per frame that they cover.
        """
        size, frames = self._n_frames, frames[None]
        if frames.shape[1] < size:
            raise UserError(
                f"the clip has {frames.shape[1]} frames; this world scores windows of {size}: give {size} or more."
            )
        n_given = self.fit_context(frames[:, : min(n_context, size)]).shape[1]
        total, n_scored = 0.0, 0
        for first in range(0, frames.shape[1] - size + 1, size):
            window = frames[:, first : first + size]
            known_BPN = self.context_codes(window[:, :n_given])
            n_known = known_BPN.shape[1]
            codes_BPN = torch.cat([known_BPN, self._encode(window)[:, n_known:]], 1)
            pixels = torch.from_numpy(window).to(self._device)
            conditions = self._conditions(pixels, class_id, torch.arange(1))
            total += float(self._dynamics.nats(Codes.of(codes_BPN), conditions)[:, n_known:].double().sum())
            n_scored += size - n_known * self._stride
        if not n_scored:
            raise UserError(f"all {size} frames of a window are context; there is nothing to score.")
        return total / n_scored


def tell(watch: ProgressCallback, n_calls: int, n_frames: int) -> Callable[[int], None]:
    """Turn a count of calls of a sampler into what ``watch`` wants to know."""
    return lambda n: watch(min(1.0, n / n_calls), n_frames)
