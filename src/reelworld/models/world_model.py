"""``WorldModel``: the interface of all world models.

Sessions, evaluation, the server and the agents use a world model through this class and its ``ModelSpec`` only.
``FrameModel``, ``ContextModel`` and ``ClipModel`` are the compositions that systems build on; a system that fits none
of them writes its own.

Shapes: n streams, T frames, H W pixel rows and columns, A action width, P latent frames, N tokens per latent frame
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelworld.models.samplers import SamplerConfig
from reelworld.nn.streams import Streams
from reelworld.types import ActionSpec, Batch, Codes, Losses, ModelSpec, Sampler, StepScores, UserError

Actions = Mapping[str, Tensor]
"""Stream name -> one action per stream of the session, int64 (n, 1, ...) or float32 (n, 1, ..., A)."""
Rng = Sequence[torch.Generator]
"""One generator per stream."""
ProgressCallback = Callable[[float, int], Any]
"""Called while several frames are generated, with the completed fraction (0 to 1) and the number of frames."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Frames, actions and conditions that n streams start from, or clips to score."""

    frames: np.ndarray
    """uint8, (n, T, H, W, 3); T may be 0 where ``spec.context`` begins at 0. Ignored where ``codes`` are given."""
    actions: Mapping[str, Tensor] = field(default_factory=dict)
    """Between the frames: stream name -> (n, T - 1, ...)."""
    class_id: Tensor | None = None
    """int64, (n,); None for models without classes."""
    goal: np.ndarray | None = None
    """Goal pictures, uint8, (n, H, W, 3); None for models without goals."""
    codes: Tensor | None = None
    """Codes of the frames instead of the frames, int64 (n, T, N)."""


@dataclass(frozen=True, kw_only=True)
class FrameOutput:
    """The next frame of each stream and the outcome of the step."""

    frame: np.ndarray
    """uint8, (n, H, W, 3); (n, 0, 0, 3) for models of codes only."""
    reward: np.ndarray
    """float32, (n,)."""
    terminated: np.ndarray
    """Probability that the step ended the episode, float32, (n,)."""
    codes: np.ndarray
    """Codes of the latent frame that the frame belongs to, int64, (n, N)."""

    def take(self, streams: np.ndarray) -> FrameOutput:
        """Copy the given streams, so that none keeps the others in memory."""
        return FrameOutput(**{name: rows[streams] for name, rows in vars(self).items()})

    @classmethod
    def of_context(cls, frame: np.ndarray) -> FrameOutput:
        """Return the last given frames, (n, H, W, 3), as an output without a step."""
        zeros = np.zeros(len(frame), np.float32)
        return cls(frame=frame, reward=zeros, terminated=zeros.copy(), codes=np.zeros((len(frame), 0), np.int64))


class ProgressFanOut:
    """Reports progress to several callbacks; a callback that raises is cancelled, and when all are, the work ends.

    Attributes:
        raised: Exceptions of the callbacks, by their index.
    """

    class AllCancelled(Exception):
        """Every callback has raised."""

    def __init__(self, callbacks: Sequence[ProgressCallback | None]) -> None:
        self._callbacks = callbacks
        self.raised: dict[int, Exception] = {}

    def __call__(self, fraction: float, n_frames: int) -> None:
        """Report to the callbacks that are not cancelled."""
        for i, callback in enumerate(self._callbacks):
            if callback is None or i in self.raised:
                continue
            try:
                callback(fraction, n_frames)
            except Exception as error:  # noqa: BLE001 (returned to the caller)
                self.raised[i] = error
        if len(self.raised) == len(self._callbacks):
            raise ProgressFanOut.AllCancelled


class WorldModel(nn.Module, ABC):
    """Predicts the next frame of n streams from a context and actions.

    Cached steps equal the parallel pass, a batch of streams equals the streams alone, and all randomness comes from the
    generators that are passed in.

    Attributes:
        spec: Shapes, streams and lengths.
    """

    spec: ModelSpec

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, nn.Module]:
        """Name -> module; each is saved in a file of its own."""

    @abstractmethod
    def begin(self, context: Context, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, Streams]:
        """Read the context.

        Returns:
            The last given frame, or the first generated one where there is no context; and the state.

        Raises:
            UserError: If the context has another length than ``spec.context`` allows.
        """

    @abstractmethod
    def step(self, state: Any, actions: Actions, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, Streams]:
        """Take one action per stream and return one frame per stream, also where ``spec.chunk`` is above 1.

        The old state must not be used again.
        """

    def batch_key(self, state: Any) -> Hashable:
        """Return a key; streams with equal keys may be stepped as one batch."""
        return None

    def encode(self, video: Tensor) -> Codes | None:
        """Encode one stretch of ``spec.windows``, (B, T, H, W, 3) in [-1, 1]; None for models in pixel space."""
        return None

    def decode(self, codes: Codes) -> Tensor | None:
        """Decode codes of ``encode`` to (B, T, H, W, 3) in [-1, 1]."""
        return None

    def reconstruct(self, video: Tensor) -> Tensor | None:
        """Encode and decode one stretch of ``spec.windows``; None for models in pixel space."""
        codes = self.encode(video)
        return None if codes is None else self.decode(codes)

    def score(self, clips: Context, n_context: int) -> StepScores | None:
        """Score the frames of clips after a context, teacher-forced; None if ``spec.likelihood`` is None.

        Args:
            clips: Frames, actions and conditions.
            n_context: Number of context frames; models with a fixed context length ignore it.
        """
        return None

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Training loss of the dynamics on a batch of ``video`` or ``codes``."""

    def infer_actions(self, video: Tensor) -> Tensor | None:
        """Infer the latent actions of clips, int64 (B, T); None for models that learn none."""
        return None

    @abstractmethod
    def default_sampler(self, exact: float | None = None) -> SamplerConfig:
        """Return the sampler settings that suit the model.

        Args:
            exact: Fraction of held-out frames whose likeliest codes are all right, if measured.
        """

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def check_context(self, n_frames: int) -> None:
        """Refuse a number of context frames outside ``spec.context``.

        Raises:
            UserError: If it is.
        """
        least, _, most = self.spec.context
        if most is not None and n_frames > most:
            raise UserError(
                f"{n_frames} context frames were given; this world reads {most} frames at a time: give at most {most}, "
                "the last ones."
            )
        if n_frames < least == 1:
            raise UserError("0 context frames were given; this world goes on from a frame: give one or more.")
        if n_frames < least:
            raise UserError(f"{n_frames} context frames were given; this world needs at least {least}, at most {most}.")


def refuse_codes(context: Context, reason: str) -> None:
    """Refuse a context that is given as codes, in models that cannot start from them.

    Raises:
        UserError: If it is.
    """
    if context.codes is not None:
        raise UserError(f"{reason}; give it frames.")


def describe_actions(actions: Mapping[str, ActionSpec]) -> dict[str, tuple[str, int, int]]:
    """Return kind, size and repeat of every stream, on which parts must agree."""
    return {name: (spec.kind, spec.n, spec.repeat) for name, spec in actions.items()}
