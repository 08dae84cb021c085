"""Interfaces of the parts that world models are composed of: tokenizers, dynamics and priors.

Shapes: B batch, T frames, H W pixel rows and columns, P latent frames, N tokens per latent frame
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from reelworld.nn.random import Generators
from reelworld.nn.streams import Streams
from reelworld.types import (
    ActionSpec,
    Batch,
    Codes,
    Conditions,
    GridSpec,
    Losses,
    Sampler,
    StepScores,
    TokenSpec,
    UserError,
)

S = TypeVar("S", bound=Streams)
C = TypeVar("C")


class Part(nn.Module, ABC):
    """A module with a loss of its own: what a training stage trains and a safetensors file holds."""

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Return the loss terms of a batch as sums and counts."""


class Tokenizer(Part):
    """Pixels <-> codes. Video is float in [-1, 1], (B, T, H, W, 3)."""

    @abstractmethod
    def spec(self, n_frames: int, height: int, width: int) -> TokenSpec:
        """Describe the codes of clips of this size."""

    @abstractmethod
    def encode(self, video: Tensor) -> Codes:
        """Encode clips."""

    @abstractmethod
    def decode(self, codes: Codes) -> Tensor:
        """Decode clips, clamped to [-1, 1]."""


class StatefulTokenizer(Tokenizer, Generic[S]):
    """Tokenizer whose decoder depends on earlier frames: it decodes frame by frame with a state."""

    @abstractmethod
    def init_state(self, codes: Codes) -> S:
        """Read the codes of the first frames and return the decoder's state."""

    @abstractmethod
    def decode_step(self, codes: Codes, state: S) -> Tensor:
        """Decode the next frames given the state, which is updated in place: (B, T, H, W, 3)."""


class ActionInference(nn.Module, ABC):
    """Infers the latent actions of video."""

    @property
    @abstractmethod
    def n_actions(self) -> int:
        """Number of latent actions."""

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """Infer the actions of clips, (B, T, H, W, 3).

        Returns:
            int64, (B, T): row t leads to frame t + 1, the last row is padding.
        """


class DynamicsConfig(Protocol):
    """Fields that the config of every dynamics has."""

    @property
    def grid(self) -> GridSpec:
        """Grid of codes of a latent frame."""
        ...

    @property
    def actions(self) -> Mapping[str, ActionSpec]:
        """Action streams."""
        ...


class DynamicsState(Protocol):
    """Fields that the state of every dynamics has, in addition to its caches."""

    reward: Tensor
    """Expected reward of the last step, (B,)."""
    terminated: Tensor
    """Probability that the last step ended the episode, (B,)."""


class Dynamics(Part, Generic[S]):
    """Predicts the codes of the next frame; a step never recomputes the past.

    The state is a ``Streams`` with the fields of ``DynamicsState``.
    """

    config: DynamicsConfig

    @abstractmethod
    def prefill(self, codes: Codes, conditions: Conditions) -> S:
        """Read P context frames and the P - 1 actions between them."""

    @abstractmethod
    def step(self, state: S, conditions: Conditions, sampler: Sampler, generator: Generators) -> tuple[Codes, S]:
        """Take one action per stream (conditions with T = 1); return the codes of one frame and the new state."""

    @abstractmethod
    def score(self, codes: Codes, conditions: Conditions) -> StepScores:
        """Score every frame after the context, from the true past."""


class WindowConfig(DynamicsConfig, Protocol):
    """Fields that the config of dynamics with a context has."""

    @property
    def context_grid(self) -> GridSpec:
        """Grid of codes of a context frame."""
        ...

    @property
    def context_frames(self) -> int:
        """Context frames of a window, a goal counted."""
        ...

    @property
    def frames(self) -> int:
        """Frames of a window, its context included."""
        ...

    @property
    def has_goal(self) -> bool:
        """The first context frame is a goal."""
        ...

    @property
    def has_rewards(self) -> bool:
        """Steps predict rewards."""
        ...


class WindowDynamics(Dynamics[S]):
    """Dynamics with a window of fixed length that begins with context frames."""

    config: WindowConfig

    @abstractmethod
    def full(self, state: S) -> Tensor:
        """Return the indices of the streams whose window is full, int64 (k,)."""


class ClipPrior(Part, Generic[C]):
    """Distribution of the codes of clips of a fixed number of latent frames."""

    @property
    @abstractmethod
    def grid(self) -> GridSpec:
        """Grid of codes of a latent frame."""

    @property
    @abstractmethod
    def n_latents(self) -> int:
        """Latent frames of a clip."""

    @property
    @abstractmethod
    def cond_frames(self) -> int:
        """First frames of a clip that are read as pixels."""

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """Classes of class-conditional priors, else 0."""

    @abstractmethod
    def check_tokenizer(self, tokenizer: Tokenizer, height: int, width: int) -> None:
        """Refuse a tokenizer with another codebook, or frames of another size, than this prior was trained on.

        Raises:
            UserError: If they are not.
        """

    @abstractmethod
    def prefill(self, codes: Codes, conditions: Conditions) -> C:
        """Read the first latent frames of clips, (B, P', N) with P' from 0."""

    @abstractmethod
    def step(self, state: C, conditions: Conditions, sampler: Sampler, generator: Generators) -> tuple[Codes, C]:
        """Sample one latent frame, (B, 1, N)."""

    @abstractmethod
    def nll(self, codes: Codes, conditions: Conditions) -> Tensor:
        """Negative log-likelihood of every code of whole clips in nats, (B, P, N)."""


AnyDynamics = Dynamics[Any]
AnyWindowDynamics = WindowDynamics[Any]
AnyClipPrior = ClipPrior[Any]
AnyStatefulTokenizer = StatefulTokenizer[Any]


P = TypeVar("P", bound=nn.Module)


def take(parts: Mapping[str, nn.Module], name: str, kind: type[P]) -> P:
    """Return a part by name.

    Raises:
        UserError: If it is missing or of another kind.
    """
    if name not in parts:
        raise UserError(f"there is no part {name!r}; it is not a whole world.")
    part = parts[name]
    if not isinstance(part, kind):
        raise UserError(f"the part {name!r} is a {type(part).__name__}; wanted a {kind.__name__}: restore world.json.")
    return part


def config_of(part: nn.Module) -> object:
    """Return the config dataclass that a part was built from and is rebuilt from."""
    return part.config
