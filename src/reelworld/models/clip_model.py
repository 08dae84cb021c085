"""World model of a tokenizer and a prior of whole clips: a window of fixed length that slides.

A window is as long as the training clips. The frames after the context are sampled and decoded at once, then returned
one per step. After the last one, the window slides by one latent frame: the prior reads the codes again, at positions
from 0 on, and samples one more. Keys and values are not kept across windows, so every latent frame after the first
window costs one prefill.

Source: Yan et al. 2021 (arXiv:2104.10157) generate one window. Differs: given frames stay as they are, their codes come
from them alone, and the window slides.

Shapes: B streams, T frames of a window, P its latent frames, N tokens per latent frame, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reelworld.models.coded_model import CodedModel, check_grid
from reelworld.models.parts import AnyClipPrior, Tokenizer
from reelworld.models.samplers import CountingSampler, SamplerConfig
from reelworld.models.world_model import Actions, Context, FrameOutput, ProgressCallback, Rng, refuse_codes
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.nn.streams import Streams
from reelworld.types import Batch, Codes, Conditions, Losses, ModelSpec, Sampler, StepScores, UserError


@dataclass(kw_only=True)
class WindowState(Streams):
    """Windows of B streams."""

    codes: Tensor
    """int64, (B, P, N); undefined from ``known`` on."""
    frames: Tensor
    """uint8, (B, T, H, W, 3); undefined from ``shown`` on while codes are unknown."""
    known: Tensor
    """Number of latent frames whose codes are known, int64 (B,), on the CPU; P when the whole window was made."""
    shown: Tensor
    """Number of frames that were given or returned, the current one included, int64 (B,), on the CPU."""
    class_id: Tensor | None
    """int64, (B,); None in models without classes."""


class ClipModel(CodedModel):
    """A tokenizer of whole clips and an unconditional or class-conditional prior of their codes."""

    dynamics: AnyClipPrior

    def __init__(
        self, spec: ModelSpec, tokenizer: Tokenizer, dynamics: AnyClipPrior, sampler: SamplerConfig | None = None
    ) -> None:
        """Compose the model.

        Args:
            spec: Size, rate, classes, frame stride and usual context; the rest is filled in from the parts.
            tokenizer: Clips <-> codes.
            dynamics: The prior.
            sampler: Default sampler settings.

        Raises:
            UserError: If the parts do not belong together or are not those of ``spec``.
        """
        super().__init__(tokenizer, dynamics, sampler)
        tokens = tokenizer.spec(1, spec.height, spec.width)
        if spec.actions:
            raise UserError(
                f"the world lists the actions {sorted(spec.actions)}; its dynamics learned {{}}: restore world.json."
            )
        if len(spec.classes) != dynamics.n_classes:
            raise UserError(
                f"the world lists {len(spec.classes)} classes; its dynamics learned {dynamics.n_classes}: restore "
                "world.json."
            )
        check_grid(dynamics.grid, tokens.video, "latent frame")
        if dynamics.n_latents != (latents := tokens.clip_frames // tokens.time_stride):
            raise UserError(
                f"the dynamics read clips of {dynamics.n_latents} latent frames, its tokenizer makes {latents}; the "
                "two parts do not belong together."
            )
        dynamics.check_tokenizer(tokenizer, spec.height, spec.width)
        self._n_frames, self._stride = tokens.clip_frames, tokens.time_stride
        self._n_tokens, self._n_latents = tokens.video.n_tokens, tokens.clip_frames // tokens.time_stride
        least, usual = dynamics.cond_frames, spec.context[1]
        if not least <= usual <= self._n_frames:
            raise UserError(
                f"the world says to begin with {usual} frames; this world can begin with {least} to {self._n_frames}: "
                "restore world.json."
            )
        self.spec = replace(
            spec,
            likelihood="exact",
            grids=dict(tokens.grids),
            context=(least, usual, self._n_frames),
            chunk=self._n_frames,
            time_stride=self._stride,
            window=self._n_frames,
            min_clip=self._n_frames,
        )

    # ------------------------------------------------------------------ the context

    def fit_context(self, frames: np.ndarray) -> np.ndarray:
        """Cut a context to a length whose frames are all known to the prior.

        That is a whole number of latent frames, or just the frames that the prior reads as pixels. Surplus frames are
        dropped at the beginning; less than one latent frame is filled up there with copies of the first frame.

        Args:
            frames: uint8, (B, C, H, W, 3).

        Returns:
            uint8, (B, C', H, W, 3).
        """
        n, n_pixels = frames.shape[1], self.dynamics.cond_frames
        if n == n_pixels:
            return frames
        if n < self._stride:
            return np.concatenate([frames[:, :1].repeat(self._stride - n, 1), frames], 1)
        return frames[:, n - max(n - n % self._stride, n_pixels) :]

    def context_codes(self, frames: np.ndarray) -> Tensor:
        """Encode the whole latent frames of a context from these frames alone; copies of the last one fill the window.

        Args:
            frames: uint8, (B, C, H, W, 3).

        Returns:
            int64, (B, C // time stride, N).
        """
        known = frames.shape[1] // self._stride
        if known == 0:
            return torch.zeros((len(frames), 0, self._n_tokens), dtype=torch.int64, device=self.device)
        filled = np.concatenate([frames, frames[:, -1:].repeat(self._n_frames - frames.shape[1], 1)], 1)
        return self._encode_frames(filled).video[:, :known]

    def begin(self, context: Context, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, WindowState]:
        """Encode the context; the rest of the window is generated at the first step.

        Without a context the first frame of a new window is returned.
        """
        refuse_codes(context, "this world codes whole clips together")
        self.check_context(context.frames.shape[1])
        frames = self.fit_context(context.frames)
        batch, n_given = frames.shape[:2]
        known_BPN = self.context_codes(frames)
        state = WindowState(
            codes=known_BPN.new_zeros(batch, self._n_latents, self._n_tokens),
            frames=torch.zeros((batch, self._n_frames, *frames.shape[2:]), dtype=torch.uint8, device=self.device),
            known=torch.full((batch,), known_BPN.shape[1]),
            shown=torch.full((batch,), n_given),
            class_id=None if context.class_id is None else context.class_id.to(self.device),
        )
        state.codes[:, : known_BPN.shape[1]] = known_BPN
        state.frames[:, :n_given] = torch.from_numpy(frames).to(self.device)
        if n_given:
            return FrameOutput.of_context(frames[:, -1]), state
        return self.step(state, {}, sampler, rng)

    # ------------------------------------------------------------------ the window

    def batch_key(self, state: WindowState) -> Hashable:
        """Return the number of known latent frames of each stream when the next frame is due."""
        used_up = state.shown == self._n_frames
        return tuple(torch.where(used_up, self._n_latents - 1, state.known).tolist())

    def step(self, state: WindowState, actions: Actions, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, WindowState]:
        """Return the next frame of every stream; generate more if all frames of a window were returned."""
        is_due = (state.known < self._n_latents) | (state.shown == self._n_frames)
        if is_due.any():
            self._generate(state, is_due.nonzero().flatten(), sampler, rng)
        state.shown = state.shown + 1
        batch, last = len(state.shown), state.shown - 1
        streams = torch.arange(batch)
        output = FrameOutput(
            frame=state.frames[streams, last].cpu().numpy(),
            reward=np.zeros(batch, np.float32),
            terminated=np.zeros(batch, np.float32),
            codes=state.codes[streams, last // self._stride].cpu().numpy(),
        )
        return output, state

    def _generate(self, state: WindowState, due: Tensor, sampler: Sampler, rng: Rng) -> None:
        """Slide the windows that are used up, then fill all; streams with equally many known frames go as a batch."""
        self._slide(state, due[state.known[due] == self._n_latents])
        known = state.known[due]
        groups = [due[known == n] for n in known.unique().tolist()]
        if sampler.on_progress is not None:
            n_calls = sum((self._n_latents - int(state.known[group[0]])) * self._n_tokens for group in groups)
            n_frames = self._n_frames - int(state.shown[due].min())
            sampler = CountingSampler(sampler, report(sampler.on_progress, n_calls, n_frames))
        for group in groups:
            self._fill(state, group, sampler, [rng[i] for i in group.tolist()])

    def _slide(self, state: WindowState, streams: Tensor) -> None:
        """Move windows by one latent frame."""
        if not len(streams):
            return
        kept, n_pixels = self._n_frames - self._stride, self.dynamics.cond_frames
        if n_pixels > kept:
            raise UserError(
                f"this world is shown the first {n_pixels} of {self._n_frames} frames, so that no window can follow "
                "the first one; reset the session."
            )
        state.codes[streams, :-1] = state.codes[streams, 1:]
        state.frames[streams, :kept] = state.frames[streams, self._stride :]
        state.known[streams] = self._n_latents - 1
        state.shown[streams] = kept

    def _fill(self, state: WindowState, streams: Tensor, sampler: Sampler, rng: Rng) -> None:
        """Sample the unknown latent frames of streams with equally many known ones; decode their windows."""
        codes_BPN = state.codes[streams]
        conditions = self._conditions(state.frames[streams], state.class_id, streams)
        inner = self.dynamics.prefill(Codes.of(codes_BPN[:, : int(state.known[streams[0]])]), conditions)
        for latent in range(int(state.known[streams[0]]), self._n_latents):
            made, inner = self.dynamics.step(inner, conditions, sampler, rng)
            codes_BPN[:, latent] = made.video[:, 0]
        frames = to_uint8(self.tokenizer.decode(Codes.of(codes_BPN)))
        is_new = torch.arange(self._n_frames) >= state.shown[streams, None]
        is_new = is_new.to(self.device)[..., None, None, None]
        state.frames[streams] = torch.where(is_new, frames, state.frames[streams])
        state.codes[streams] = codes_BPN
        state.known[streams] = self._n_latents

    def _conditions(self, frames: Tensor, class_id: Tensor | None, streams: Tensor) -> Conditions:
        n = self.dynamics.cond_frames
        return Conditions(
            context_video=to_float(frames[:, :n]) if n else None,
            class_id=None if class_id is None else class_id[streams],
        )

    # ------------------------------------------------------------------ scoring

    def score(self, clips: Context, n_context: int) -> StepScores:
        """Score the latent frames after a context, window by window, each independently.

        Args:
            clips: Frames uint8 (B, C, H, W, 3), C at least ``spec.window``; what is left after the last whole window is
                ignored.
            n_context: Frames at the beginning of each window that are its context.

        Returns:
            ``nll`` (B, P') of the latent frames that are not context, and ``code_nll`` (B, P', N).
        """
        refuse_codes(clips, "this world codes whole clips together")
        size, frames = self._n_frames, clips.frames
        if frames.shape[1] < size:
            raise UserError(
                f"the clip has {frames.shape[1]} frames; this world scores windows of {size}: give {size} or more."
            )
        n_given = self.fit_context(frames[:, : min(n_context, size)]).shape[1]
        class_id = None if clips.class_id is None else clips.class_id.to(self.device)
        parts, n_scored = [], 0
        for first in range(0, frames.shape[1] - size + 1, size):
            window = frames[:, first : first + size]
            known_BPN = self.context_codes(window[:, :n_given])
            n_known = known_BPN.shape[1]
            codes_BPN = torch.cat([known_BPN, self._encode_frames(window.copy()).video[:, n_known:]], 1)
            pixels = torch.from_numpy(window.copy()).to(self.device)
            conditions = self._conditions(pixels, class_id, torch.arange(len(window)))
            parts.append(self.dynamics.nll(Codes.of(codes_BPN), conditions)[:, n_known:])
            n_scored += size - n_known * self._stride
        if not n_scored:
            raise UserError(f"all {size} frames of a window are context; there is nothing to score.")
        nll_BPN = torch.cat(parts, 1)
        return StepScores(nll=nll_BPN.double().sum(-1), code_nll=nll_BPN, n_frames=n_scored)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Loss of the prior; a batch of video is encoded first, its first frames stay as pixels where needed."""
        n = self.dynamics.cond_frames
        if batch.video is not None and n:
            batch = replace(batch, conditions=replace(batch.conditions, context_video=batch.video[:, :n]))
        return super().loss(batch, generator)


def report(callback: ProgressCallback, n_calls: int, n_frames: int) -> Callable[[int], None]:
    """Turn a number of sampler calls into progress."""
    return lambda n: callback(min(1.0, n / n_calls), n_frames)
