"""A session steps a world: reset with some frames, then one action in, one frame out.

A session holds n independent streams; one stream and a batch of them are the same code. Every stream has its own
random generator, so what it shows does not depend on how many others run beside it.

Shapes: n streams, T frames, H W pixel rows and columns, A action width, N tokens per frame
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.models.clip_model import SlidingWindow
from reelworld.models.frame_model import FrameByFrame, RememberedFrames
from reelworld.models.goal_conditioned import in_context
from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.models.world_model import Context, FrameOutput, ProgressCallback, ProgressFanOut, Rolling
from reelworld.rollout.validation import (
    Action,
    ClassId,
    action_tensors,
    check_frames,
    check_goal,
    class_ids,
    stream_generators,
)
from reelworld.types import ActionSpec, Clip, StepResult, UserError

__all__ = ["Session", "SessionParts", "Snapshot"]


@dataclass(frozen=True, kw_only=True)
class SessionParts:
    """What a session needs of a world."""

    tokenizer: Any
    dynamics: Any
    height: int
    width: int
    fps: float
    action_specs: Mapping[str, ActionSpec]
    sampler: SamplerConfig
    starts: Sequence[Clip]
    """Clips that ``reset`` without frames begins with."""
    device: torch.device
    classes: Sequence[str] = ()
    """Names of the classes that clips belong to; empty for worlds without classes."""
    context_frames: int = 1
    """Frames that a session should begin with."""


def rolling_of(parts: SessionParts) -> Rolling:
    """Choose how frames come out of a world: as its tokenizer codes them."""
    spec = parts.tokenizer.spec(1, parts.height, parts.width)
    if spec.clip_frames:
        return SlidingWindow(parts.tokenizer, parts.dynamics, spec, parts.device)
    if spec.context_frames:
        return in_context(parts.tokenizer, parts.dynamics, parts.context_frames, parts.device)
    way = RememberedFrames if spec.remembers else FrameByFrame
    return way(parts.tokenizer, parts.dynamics, parts.device)


@dataclass(frozen=True)
class Snapshot:
    """A moment of a session; restoring it replays the same future under the same actions."""

    state: Any
    generators: tuple[Tensor, ...]
    frame: np.ndarray
    n_steps: int


class Session:
    """n streams of one world, stepped together. Make one with ``World.session``.

    Some worlds make several frames at once (their tokenizer codes whole clips). ``step`` gives one frame here as
    well; making the next ones takes long when those that were made are used up.

    Attributes:
        sampler: How codes are drawn; may be changed at any time, for frames that are not made yet.
        watch: When set, called with the share that is done and the number of frames while several are made at once.
            When it raises, the making ends, and the session stands where it stood; later draws are others then.
    """

    def __init__(self, parts: SessionParts, n: int = 1, seed: int | None = None) -> None:
        if n < 1:
            raise UserError(f"a session of {n} streams was asked for; it needs at least 1.")
        self.parts, self.n = parts, n
        self.height, self.width, self.fps = parts.height, parts.width, parts.fps
        self.action_specs = dict(parts.action_specs)
        self.sampler = parts.sampler
        self.watch: ProgressCallback | None = None
        self.n_steps = 0
        self._rolling = rolling_of(parts)
        self._state: Any = None
        self._frame = np.zeros((n, parts.height, parts.width, 3), np.uint8)
        self.seed(seed)

    def seed(self, seed: int | None) -> None:
        """Start the streams' generators anew; None draws a fresh seed."""
        self._generators = stream_generators(self.n, seed)

    # ------------------------------------------------------------------ reset and step

    @torch.inference_mode()
    def reset(
        self,
        context_frames: np.ndarray | None = None,
        context_actions: Action = None,
        seed: int | None = None,
        streams: Sequence[int] | None = None,
        class_id: ClassId = None,
        goal: np.ndarray | None = None,
    ) -> StepResult:
        """Begin anew.

        Args:
            context_frames: uint8, (n, T, H, W, 3) or (T, H, W, 3) for all streams. None begins with a start clip
                of the world, chosen by each stream's generator. Worlds that need no frames begin from nothing when
                T is 0, or when they have no start clips.
            context_actions: Actions between the context frames, (n, T - 1, ...) or (T - 1, ...), per stream name or
                bare when the world has one action stream. None uses null actions.
            seed: Starts the generators anew before anything is drawn.
            streams: Which streams begin anew, each once; None means all. Frames and actions are then given for
                these only, in this order.
            class_id: One number for all streams or one per stream, for worlds with classes. None takes the class of
                the start clip; without any frames, one is drawn.
            goal: A picture of what the streams go towards, uint8, (n, H, W, 3) or (H, W, 3) for all streams, for
                worlds with goals. None takes that of the start clip.

        Returns:
            The last context frame, as given; the first frame that was made, where the world began from nothing.

        Raises:
            UserError: If frames, actions, classes or goals have the wrong shape, type or range, or there are no such
                streams.
        """
        everyone = list(range(self.n))
        rows = everyone if streams is None else list(streams)
        if not rows or len(set(rows)) < len(rows) or not set(rows) <= set(everyone):
            raise UserError(f"streams {rows} were to be reset; wanted one or more of 0..{self.n - 1}, each once.")
        if rows != everyone and self._state is None:
            raise UserError("some streams were reset before the session was; call reset() for all of them first.")
        if seed is not None:
            self.seed(seed)
        beginning = self._beginning(rows, context_frames, context_actions, class_id, goal)
        generators = [self._generators[row] for row in rows]
        first, state = self._rolling.begin(beginning, TokenSampler(self.sampler), generators, self.watch)
        if rows == everyone:
            self._state, self.n_steps = state, 0
        else:
            self._state.index_copy_(torch.tensor(rows), state)
        self._frame = self._frame.copy()
        self._frame[rows] = first
        zero = np.zeros(self.n, np.float32)
        no = np.zeros(self.n, bool)
        return StepResult(frame=self._frame, reward=zero, terminated=no, truncated=no, info={"n_steps": 0})

    @torch.inference_mode()
    def step(self, action: Action = None) -> StepResult:
        """Take one action per stream.

        Args:
            action: An id for all streams, n ids, an array (n, A), or a mapping from stream name to one of these;
                None means the null action (or nothing, for worlds without actions).

        Returns:
            The next frame; reward and end of episode as the world predicts them. ``info`` has
            ``terminated_probability`` (n,) and ``codes`` (n, N).
        """
        if self._state is None:
            self.reset()
        actions = action_tensors(self.action_specs, action, (self.n, 1), is_step=True)
        shown, self._state = self._rolling.advance(
            self._state, actions, TokenSampler(self.sampler), self._generators, self.watch
        )
        return self._result(shown)

    def _result(self, shown: FrameOutput) -> StepResult:
        self._frame = shown.frame
        self.n_steps += 1
        return StepResult(
            frame=shown.frame,
            reward=shown.reward,
            terminated=shown.terminated > 0.5,
            truncated=np.zeros(self.n, bool),
            info={"n_steps": self.n_steps, "terminated_probability": shown.terminated, "codes": shown.codes},
        )

    # ------------------------------------------------------------------ together

    @property
    def batch_key(self) -> Hashable:
        """What the next step asks of a batch; sessions of one world with equal company may ``step_batch``."""
        if self._state is None:
            raise UserError("company needs a session that was reset.")
        return self.sampler, self._rolling.phase(self._state)

    @staticmethod
    @torch.inference_mode()
    def step_batch(sessions: Sequence[Session], actions: Sequence[Action]) -> list[StepResult | Exception]:
        """Step several sessions of one world as one batch, each with its own action and random numbers.

        Every session goes on as if alone, up to rounding: products of matrices of another size add up in another
        order. So codes are the same but for near ties, and pixels of the same codes differ by 1 of 255 at most.

        Args:
            sessions: Sessions of one world, of equal ``company``.
            actions: What ``step`` takes, one per session.

        Returns:
            Results in the order of the sessions. Where a session's ``watch`` raised, that error stands instead, and
            the session stands where it stood; the making ends early when all have raised.

        Raises:
            UserError: If the sessions are not of equal company, or an action does not fit.
        """
        first = sessions[0]
        if len({session.batch_key for session in sessions}) > 1:
            raise UserError("sessions of different company cannot step together; step them one after the other.")
        given = [
            action_tensors(session.action_specs, action, (session.n, 1), is_step=True)
            for session, action in zip(sessions, actions, strict=True)
        ]
        watches = ProgressFanOut([session.watch for session in sessions])
        try:
            shown, state = first._rolling.advance(
                type(first._state).cat([session._state for session in sessions]),
                {name: torch.cat([tensors[name] for tensors in given]) for name in first.action_specs},
                TokenSampler(first.sampler),
                [generator for session in sessions for generator in session._generators],
                watches,
            )
        except ProgressFanOut.AllCancelled:
            return [watches.raised[i] for i in range(len(sessions))]
        results: list[StepResult | Exception] = []
        rows = torch.arange(sum(session.n for session in sessions)).split([session.n for session in sessions])
        for i, session in enumerate(sessions):
            if i in watches.raised:
                results.append(watches.raised[i])
                continue
            session._state = state.index_select(rows[i])
            results.append(session._result(shown.select(rows[i].numpy())))
        return results

    # ------------------------------------------------------------------ copies

    @torch.inference_mode()
    def fork(self, n: int) -> Session:
        """Make a session of n streams that all go on from this one's only stream, each with a generator of its own.

        Frames that a world made in advance, several at once, are the same in all of them.
        """
        if self.n != 1 or self._state is None:
            raise UserError(f"fork() needs a session of one stream that was reset; this one has {self.n}.")
        child = Session(self.parts, n)
        child.sampler, child.n_steps = self.sampler, self.n_steps
        seeds = torch.randint(2**62, (n,), generator=self._generators[0]).tolist()
        child._generators = [torch.Generator().manual_seed(s) for s in seeds]
        child._state = self._state.index_select(torch.zeros(n, dtype=torch.int64))
        child._frame = np.repeat(self._frame, n, 0)
        return child

    @torch.inference_mode()
    def snapshot(self) -> Snapshot:
        """Keep this moment."""
        if self._state is None:
            raise UserError("snapshot() needs a session that was reset.")
        state = self._state.index_select(torch.arange(self.n))
        return Snapshot(state, tuple(g.get_state() for g in self._generators), self._frame.copy(), self.n_steps)

    @torch.inference_mode()
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a moment of this session (or of one with as many streams)."""
        if len(snapshot.generators) != self.n:
            raise UserError(f"the snapshot has {len(snapshot.generators)} streams, this session {self.n}.")
        self._state = snapshot.state.index_select(torch.arange(self.n))
        for generator, state in zip(self._generators, snapshot.generators, strict=True):
            generator.set_state(state)
        self._frame, self.n_steps = snapshot.frame.copy(), snapshot.n_steps

    @property
    def frame(self) -> np.ndarray:
        """The current frame of each stream, uint8 (n, H, W, 3)."""
        return self._frame

    @property
    def needs_frames(self) -> bool:
        """True when the world cannot begin from nothing."""
        return not self._rolling.can_begin_from_nothing

    # ------------------------------------------------------------------ where streams begin

    def _beginning(
        self, rows: list[int], frames: np.ndarray | None, actions: Action, class_id: ClassId, goal: np.ndarray | None
    ) -> Context:
        n, classes, has_goal = len(rows), self.parts.classes, self._rolling.has_goal
        if frames is None and self.parts.starts:
            clips = self._start_clips(rows, class_id)
            frames = np.stack([clip.frames for clip in clips])
            actions = {k: np.stack([clip.actions[k][:-1] for clip in clips]) for k in self.action_specs}
            class_id = np.array([clip.class_id for clip in clips]) if classes else None
            if has_goal and goal is None:
                goal = np.stack([clip.goal for clip in clips if clip.goal is not None])
        elif frames is None:
            if not self._rolling.can_begin_from_nothing:
                raise UserError("this world ships no start clips; give reset() context_frames.")
            frames = np.zeros((n, 0, self.height, self.width, 3), np.uint8)
        frames = check_frames(frames, n, self.height, self.width)
        self._rolling.check_context(frames.shape[1])
        if classes and class_id is None and not frames.shape[1]:
            class_id = [int(torch.randint(len(classes), (1,), generator=self._generators[row])) for row in rows]
        shape = (n, max(0, frames.shape[1] - 1))
        return Context(
            frames=frames,
            actions=action_tensors(self.action_specs, actions, shape),
            class_id=class_ids(classes, class_id, n),
            goal=check_goal(goal, has_goal, n, self.height, self.width),
        )

    def _start_clips(self, rows: list[int], class_id: ClassId) -> list[Clip]:
        """Draw a start clip of the world for every stream, of the class that is asked for."""
        wanted = None if class_id is None else class_ids(self.parts.classes, class_id, len(rows))
        picks = []
        for i, row in enumerate(rows):
            clips = [c for c in self.parts.starts if wanted is None or c.class_id == int(wanted[i])]
            if not clips:
                assert wanted is not None
                raise UserError(
                    f"this world ships no start clips of class {int(wanted[i])}; give reset() context_frames."
                )
            picks.append(clips[int(torch.randint(len(clips), (1,), generator=self._generators[row]))])
        return picks
