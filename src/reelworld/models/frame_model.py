"""World model of a tokenizer and dynamics that make one frame per call.

Shapes: n streams, B batch, T frames, H W pixel rows and columns, A action width
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from reelworld.models.coded_model import CodedModel, check_grid
from reelworld.models.parts import ActionInference, AnyDynamics, DynamicsState, StatefulTokenizer, Tokenizer
from reelworld.models.samplers import SamplerConfig, suited_sampler
from reelworld.models.world_model import Actions, Context, FrameOutput, Rng, describe_actions
from reelworld.nn.pixels import to_uint8
from reelworld.nn.streams import Streams
from reelworld.types import Codes, Conditions, ModelSpec, Sampler, StepScores, UserError


@dataclass(kw_only=True)
class FrameState(Streams):
    """States of the dynamics and of the decoder for n streams."""

    dynamics: Any
    decoder: Any = None
    """None where each frame is decoded by itself."""


class FrameModel(CodedModel):
    """Encode each frame as it comes, sample the codes of the next frame, decode them.

    Where the tokenizer is a ``StatefulTokenizer``, frames are decoded with its state.
    """

    dynamics: AnyDynamics

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: Tokenizer,
        dynamics: AnyDynamics,
        latent_actions: ActionInference | None = None,
        sampler: SamplerConfig | None = None,
    ) -> None:
        """Compose the model.

        Args:
            spec: Size, rate, actions, frame stride and usual context; the rest is filled in from the parts.
            tokenizer: Pixels <-> codes.
            dynamics: The next codes.
            latent_actions: Model that infers the actions of video, where the dynamics were trained on these.
            sampler: Default sampler settings; None chooses by how certain the model is.

        Raises:
            UserError: If the parts do not belong together or are not those of ``spec``.
        """
        super().__init__(tokenizer, dynamics, sampler)
        self.latent_actions = latent_actions
        tokens = tokenizer.spec(1, spec.height, spec.width)
        check_actions(spec, dynamics)
        check_grid(dynamics.config.grid, tokens.video, "latent frame")
        self.spec = replace(
            spec,
            rewards=True,
            likelihood="exact",
            pixels=tokens.has_pictures,
            grids=dict(tokens.grids),
            context=(1, spec.context[1], None),
        )

    # ------------------------------------------------------------------ stepping

    def begin(self, context: Context, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, Streams]:
        """Read all context frames at once."""
        codes = self._codes(context)
        self.check_context(codes.video.shape[1])
        dynamics = self.dynamics.prefill(codes, self._conditions(context.actions))
        decoder = self.tokenizer.init_state(codes) if isinstance(self.tokenizer, StatefulTokenizer) else None
        last = context.frames[:, -1] if context.codes is None else no_frames(len(codes.video))
        return FrameOutput.of_context(last), FrameState(dynamics=dynamics, decoder=decoder)

    def step(self, state: FrameState, actions: Actions, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, Streams]:
        """Sample the codes of one frame and decode them."""
        codes, dynamics = self.dynamics.step(state.dynamics, self._conditions(actions), sampler, rng)
        if not self.spec.pixels:
            frame = no_frames(len(codes.video))
        elif isinstance(self.tokenizer, StatefulTokenizer):
            frame = to_frame(self.tokenizer.decode_step(codes, state.decoder))
        else:
            frame = to_frame(self.tokenizer.decode(codes))
        return output_of(frame, codes, dynamics), FrameState(dynamics=dynamics, decoder=state.decoder)

    # ------------------------------------------------------------------ scoring

    def score(self, clips: Context, n_context: int) -> StepScores:
        """Score every frame but the first, each (B, T - 1)."""
        return self.dynamics.score(self._codes(clips), self._conditions(clips.actions))

    def infer_actions(self, video: Tensor) -> Tensor | None:
        """Infer latent actions, int64 (B, T), where a part does that."""
        return None if self.latent_actions is None else self.latent_actions.encode(video)

    def default_sampler(self, exact: float | None = None) -> SamplerConfig:
        """Return the sampler given at construction, else one chosen by the fraction of exact frames."""
        if self._sampler is None and exact is not None:
            return suited_sampler(exact)
        return super().default_sampler()

    def _codes(self, context: Context) -> Codes:
        """Return the codes of a context, which may be given as codes."""
        return self._encode_frames(context.frames) if context.codes is None else Codes.of(context.codes.to(self.device))

    def _conditions(self, actions: Actions) -> Conditions:
        return Conditions(actions=self._on_device(actions))


def to_frame(video: Tensor) -> np.ndarray:
    """Convert the last frame of a video in [-1, 1], (n, T, H, W, 3), to uint8 (n, H, W, 3)."""
    frame: np.ndarray = to_uint8(video[:, -1]).cpu().numpy()
    return frame


def no_frames(n: int) -> np.ndarray:
    """Return the frames of a model without pixels."""
    return np.zeros((n, 0, 0, 3), np.uint8)


def output_of(frame: np.ndarray, codes: Codes, state: DynamicsState) -> FrameOutput:
    """Return a frame with the outcome of the step that led to it."""
    return FrameOutput(
        frame=frame,
        reward=state.reward.cpu().numpy(),
        terminated=state.terminated.cpu().numpy(),
        codes=codes.video[:, -1].cpu().numpy(),
    )


# ------------------------------------------------------------------ checks


def check_actions(spec: ModelSpec, dynamics: AnyDynamics) -> None:
    """Refuse a spec whose actions or classes are not those of the dynamics.

    Raises:
        UserError: If they are not.
    """
    listed, learned = describe_actions(spec.actions), describe_actions(dynamics.config.actions)
    if listed != learned:
        raise UserError(f"the world lists the actions {listed}; its dynamics learned {learned}: restore world.json.")
    if spec.classes:
        raise UserError(f"the world lists {len(spec.classes)} classes; its dynamics learned 0: restore world.json.")
