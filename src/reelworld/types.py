"""Common types: clips, actions, codes, batches, losses, step results.

Nothing here computes. Importing this module does not import torch, so the command line stays fast.

Shapes: B batch, T frames, H W pixel rows and columns, A action width,
  P latent frames, N tokens per latent frame, Q codes per token, E latent width
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    Generators = torch.Generator | Sequence[torch.Generator] | None

__all__ = [
    "ActionSpec",
    "Batch",
    "Clip",
    "Codes",
    "Conditions",
    "Fit",
    "GridSpec",
    "Losses",
    "ModelSpec",
    "Sampler",
    "Score",
    "StepResult",
    "StepScores",
    "TokenSpec",
    "UserError",
]


Fit = Literal["none", "crop", "stretch", "pad"]
"""Resizing of frames of another shape to the requested size."""


LONGEST_STRETCH = 64
"""Frames that models without a window encode at once."""


class UserError(ValueError):
    """Error that the user can correct: one line with the actual value, the expected one, and a remedy.

    The command line prints it without a traceback and exits with code 2.
    """


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """One named stream of actions and how a person or an agent gives them."""

    kind: Literal["discrete", "continuous", "buttons"]
    """Discrete actions are ids, continuous ones are vectors. Buttons are vectors of 0 (up) and 1 (held), any of them at
    once."""
    n: int
    """Number of ids (discrete), width of the vector (continuous), or number of buttons."""
    names: tuple[str, ...] = ()
    """One name per id, per dimension or per button; empty when unknown."""
    low: tuple[float, ...] = ()
    """Least value per dimension (not of ids)."""
    high: tuple[float, ...] = ()
    """Greatest value per dimension (not of ids)."""
    null: int | tuple[float, ...] | None = None
    """Action for 'no key pressed'; None if there is none."""
    keys: Mapping[str, int | tuple[float, ...]] = field(default_factory=dict)
    """Browser KeyboardEvent.code -> action, e.g. {'ArrowLeft': 0}."""
    repeat: int = 1
    """Actions that stay together between two kept frames (frame stride k keeps k of them)."""

    def __post_init__(self) -> None:
        if self.kind not in ("discrete", "continuous", "buttons"):
            raise UserError(f"action kind is {self.kind!r}; it must be 'discrete', 'continuous' or 'buttons'.")
        if self.kind == "buttons":
            up, held = (0.0,) * self.n, (1.0,) * self.n
            for field_name, value in (("low", up), ("high", held), ("null", up)):
                object.__setattr__(self, field_name, value)
        if self.n < 1 or self.repeat < 1:
            raise UserError(f"an action stream has n={self.n}, repeat={self.repeat}; both must be at least 1.")
        for name, values in (("names", self.names), ("low", self.low), ("high", self.high)):
            if values and len(values) != self.n:
                raise UserError(f"action {name} has {len(values)} entries; n={self.n} are needed.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action: () for ids, (n,) for vectors and buttons."""
        return () if self.kind == "discrete" else (self.n,)

    @property
    def step_shape(self) -> tuple[int, ...]:
        """Shape of the actions of one frame: ``shape``, with ``repeat`` before it where it is above 1."""
        return self.shape if self.repeat == 1 else (self.repeat, *self.shape)

    @property
    def dtype(self) -> Literal["int64", "float32"]:
        """Type of the numbers: int64 for ids, float32 for vectors and buttons."""
        return "int64" if self.kind == "discrete" else "float32"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A stretch of one recording, as every reader yields it.

    ``actions[t]`` is taken after seeing frame t and leads to frame t+1; ``rewards[t]``, ``terminated[t]``
    and ``truncated[t]`` belong to arriving at frame t+1. Row T-1 of each is padding.
    """

    frames: np.ndarray
    """uint8, (T, H, W, 3)."""
    actions: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Stream name -> int64 (T,) or float32 (T, A); with frame stride k, (T, k) or (T, k, A)."""
    rewards: np.ndarray | None = None
    """float32, (T,)."""
    terminated: np.ndarray | None = None
    """bool, (T,)."""
    truncated: np.ndarray | None = None
    """bool, (T,)."""
    fps: float = 0.0
    """Frames per second of this clip; 0 when unknown."""
    source: str = ""
    """Stable id of the episode."""
    class_id: int | None = None
    """Number of the clip's class in the data set's list of classes; None when it has none."""
    goal: np.ndarray | None = None
    """Goal picture, uint8, (H, W, 3); None without a goal."""

    @property
    def action(self) -> np.ndarray:
        """The only action stream; raises when there is none or more than one."""
        if len(self.actions) != 1:
            raise UserError(f"the clip has {len(self.actions)} action streams {sorted(self.actions)}; name one.")
        return next(iter(self.actions.values()))


@dataclass(frozen=True, kw_only=True)
class GridSpec:
    """The shape of one grid of codes for one latent frame."""

    rows: int
    columns: int
    codebook_size: int = 0
    """Number of codes; 0 for float latents."""
    latent_width: int = 0
    """Width E of float latents; 0 for codes."""
    levels: tuple[int, ...] = ()
    """Levels per digit when a code is a mixed-radix number (FSQ, first digit fastest); else empty."""

    @property
    def n_tokens(self) -> int:
        """Tokens per latent frame, N."""
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """Interface of a tokenizer to dynamics: shapes of its codes."""

    grids: Mapping[str, GridSpec]
    time_stride: int = 1
    """Frames per latent frame."""
    space_stride: int = 8
    """Pixels per token, along each side."""
    is_causal: bool = True
    """True when the codes of a latent frame do not depend on later frames."""
    clip_frames: int = 0
    """Frames that are always coded together (the window of a non-causal tokenizer); 0: any number of them."""
    has_pictures: bool = True
    """False if the tokenizer is missing: such a world is used by its codes only."""
    remembers: bool = False
    """True when a frame's codes and pixels depend on earlier frames: frames are then decoded with a state."""
    context_frames: int = 0
    """First frames of a clip that have codes in a grid of their own ("context") and are seen by all others; their rows
    of "video" hold nothing, nor do the others' of "context" (``Codes.keep``). 0: all frames are coded alike."""

    @property
    def video(self) -> GridSpec:
        """The grid of one-grid tokenizers; where the context has its own, that of all later frames."""
        return self.grids["video"]


@dataclass(frozen=True)
class Codes:
    """Ordered named grids of codes, int64 (B, P, N) or (B, P, N, Q), or float latents (B, P, N, E)."""

    grids: Mapping[str, Tensor]
    keep: Mapping[str, Tensor] = field(default_factory=dict)
    """Grid name -> bool (B, P, N); False marks tokens that are absent."""

    @classmethod
    def of(cls, video: Tensor) -> Codes:
        """Wrap the codes of a one-grid tokenizer."""
        return cls({"video": video})

    @property
    def video(self) -> Tensor:
        """The grid of one-grid tokenizers, (B, P, N)."""
        return self.grids["video"]

    def __getitem__(self, frames: slice) -> Codes:
        """Codes of a range of latent frames."""
        return Codes({k: v[:, frames] for k, v in self.grids.items()}, {k: v[:, frames] for k, v in self.keep.items()})


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditioning of a model besides the past; every field is optional."""

    actions: Mapping[str, Tensor] = field(default_factory=dict)
    """Stream name -> int64 (B, T) or float32 (B, T, A); a dimension k after T with frame stride k."""
    class_id: Tensor | None = None
    """int64, (B,)."""
    context_video: Tensor | None = None
    """Frames a model is shown as pixels, float32 in [-1, 1], (B, T, H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Training batch: video or codes, with actions, rewards and other annotations."""

    video: Tensor | None = None
    """float32 in [-1, 1], (B, T, H, W, 3)."""
    codes: Codes | None = None
    conditions: Conditions = field(default_factory=Conditions)
    rewards: Tensor | None = None
    """float32, (B, T); row t belongs to arriving at frame t+1, the last row is padding."""
    terminated: Tensor | None = None
    """bool, (B, T), aligned like rewards."""
    valid: Tensor | None = None
    """bool, (B, T); None means every frame is real."""

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to a device."""

        def move(x: Any) -> Any:
            if isinstance(x, Mapping):
                return {k: move(v) for k, v in x.items()}
            if isinstance(x, Codes):
                return Codes(move(x.grids), move(x.keep))
            if isinstance(x, Conditions):
                return Conditions(**{k: move(v) for k, v in vars(x).items()})
            return x if x is None else x.to(device, non_blocking=True)

        return replace(self, **{k: move(v) for k, v in vars(self).items()})


@dataclass(frozen=True)
class Losses:
    """Named loss terms as sums and counts; only the training loop divides.

    The loss that is minimised is the sum over terms of weight * total sum / total count, where the totals
    run over micro-batches and ranks.
    """

    terms: Mapping[str, tuple[Tensor, Tensor]]
    """Name -> (sum, count), both scalars; the sum carries the gradient."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Name -> weight in the objective; a term without a weight counts 1, weight 0 is logged only."""

    def mean(self) -> dict[str, float]:
        """Each term divided by its count, as Python numbers (for logs and tests)."""
        return {k: float(s.detach()) / max(float(n), 1.0) for k, (s, n) in self.terms.items()}


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One frame of a session, in the order of gymnasium's step."""

    frame: np.ndarray
    """uint8, (n, H, W, 3): one frame per stream of the session."""
    reward: np.ndarray
    """float32, (n,)."""
    terminated: np.ndarray
    """bool, (n,)."""
    truncated: np.ndarray
    """bool, (n,)."""
    info: Mapping[str, Any] = field(default_factory=dict)


class StepScores(NamedTuple):
    """Teacher-forced scores of the frames after a context of K frames; each (B, T - K), K usually 1.

    Models that code several frames together score latent frames, (B, P - K'), and leave the step outcomes out.
    """

    nll: Tensor
    """Negative log-likelihood of the recorded frame in nats."""
    correct: Tensor | None = None
    """bool: the likeliest codes are all the recorded ones."""
    reward: Tensor | None = None
    """Expected reward of the step that leads to the frame."""
    terminated: Tensor | None = None
    """Probability that this step ends the episode."""
    code_nll: Tensor | None = None
    """Negative log-likelihood of every code, (B, P, N), where codes are drawn one after the other."""
    n_frames: int | None = None
    """Number of scored frames per clip where it is not that of ``nll``'s columns."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Public description of a world model: the shapes, streams and lengths that callers need.

    Free of torch; saved in world.json and compared with the one that the loaded parts give.
    """

    height: int
    """Pixel rows of a frame."""
    width: int
    """Pixel columns of a frame."""
    fps: float = 0.0
    """Frames per second, after the frame stride; 0 when unknown."""
    actions: Mapping[str, ActionSpec] = field(default_factory=dict)
    """Action streams; empty for unconditional models."""
    classes: tuple[str, ...] = ()
    """Class names of class-conditional models."""
    frame_stride: int = 1
    """Recorded frames per frame of the model."""
    context: tuple[int, int, int | None] = (1, 1, None)
    """Least, usual and largest number of frames to start from, a goal not counted; least 0: from nothing, largest None:
    any number."""
    chunk: int = 1
    """Frames that one call of the model makes."""
    time_stride: int = 1
    """Frames per latent frame."""
    window: int | None = None
    """Longest clip that is encoded and scored at once, a goal counted; None: unbounded."""
    min_clip: int = 1
    """Shortest clip that is encoded, a goal counted."""
    goal: bool = False
    """Rollouts need a goal picture."""
    rewards: bool = False
    """Steps predict rewards."""
    likelihood: Literal["exact", "bound", "pseudo"] | None = None
    """Kind of the scores; None where the likelihood is not tractable."""
    pixels: bool = True
    """False for models of codes whose tokenizer is missing."""
    grids: Mapping[str, GridSpec] = field(default_factory=dict)
    """Grids of codes; empty for models in pixel space."""

    def windows(self, n_frames: int) -> list[slice]:
        """Cut a clip into stretches that are encoded one at a time; what is too short for one at the end is left out.

        Args:
            n_frames: Length of the clip.
        """
        size = self.window or LONGEST_STRETCH
        starts = range(0, n_frames - self.min_clip + 1, size)
        return [slice(start, min(start + size, n_frames)) for start in starts]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Likelihood of a clip under a world (kinds are not comparable), and expected rewards and terminations."""

    nats_per_frame: float
    kind: Literal["exact", "bound", "pseudo"]
    n_frames: int = 1
    """Number of frames that the mean is over."""
    rewards: np.ndarray | None = None
    """float32, (T - 1,): expected reward of each step, from the true past; of the last steps, where the first frames of
    a clip are the context of all others."""
    terminated: np.ndarray | None = None
    """float32, like ``rewards``: probability that the step ends the episode."""


class Sampler(Protocol):
    """Chooses ids from logits, and in masked decoding the order in which they are kept."""

    steps: int
    """Passes per latent frame (masked decoding)."""

    @property
    def on_progress(self) -> Callable[[float, int], object] | None:
        """Called with the fraction that is done and the number of frames, while several frames are made at once."""
        ...

    def __call__(self, logits: Tensor, generator: Generators) -> Tensor:
        """Turn logits (B, ..., V) into ids (B, ...)."""
        ...

    def confidence(self, logits: Tensor, ids: Tensor, generator: Generators) -> Tensor:
        """Say how sure the ids are, (B, ...); the surest are kept first."""
        ...

    def order(self, sure: Tensor, generator: Generators, share_left: float = 1.0) -> Tensor:
        """Rate codes by log-probabilities (B, ...), highest first, given the fraction of passes to come."""
        ...
