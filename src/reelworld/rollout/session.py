"""Session: a model and the state of n streams. Reset with context frames, then one action in, one frame out.

One stream and a batch of streams are the same code. Every stream has its own random generator, so its frames do not
depend on the number of other streams in the batch.

Shapes: n streams, T frames, H W pixel rows and columns, A action width, N tokens per frame
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.models.world_model import Context, FrameOutput, ProgressCallback, ProgressFanOut, WorldModel
from reelworld.rollout.validation import (
    Action,
    ClassId,
    action_tensors,
    check_frames,
    check_goal,
    class_ids,
    stream_generators,
)
from reelworld.types import Clip, StepResult, UserError


@dataclass(frozen=True)
class Snapshot:
    """State of a session at one step; restoring it replays the same future under the same actions."""

    state: Any
    generators: tuple[Tensor, ...]
    frame: np.ndarray
    n_steps: int


class Session:
    """n streams of one model, stepped together. Make one with ``World.session``.

    Models with a chunk above 1 generate several frames at once. ``step`` still returns one frame; the step that has to
    generate the next chunk takes long.

    Attributes:
        spec: Of the model.
        sampler: Sampling settings; may be changed at any time, for frames that are not generated yet.
        watch: Progress callback, called with the finished fraction and the number of frames while several are
            generated. When it raises, generation ends and the session keeps its state; later samples differ then.
    """

    def __init__(
        self,
        model: WorldModel,
        n: int = 1,
        seed: int | None = None,
        *,
        sampler: SamplerConfig | None = None,
        initial_contexts: Sequence[Clip] = (),
    ) -> None:
        """Open a session.

        Args:
            model: The model.
            n: Streams.
            seed: Of the streams' generators; None draws a fresh one.
            sampler: Sampling settings; None takes the model's default.
            initial_contexts: Clips that ``reset`` without frames starts from.

        Raises:
            UserError: If ``n`` is below 1 or the seed is negative.
        """
        if n < 1:
            raise UserError(f"a session of {n} streams was asked for; it needs at least 1.")
        self.model, self.spec, self.n = model, model.spec, n
        self.height, self.width, self.fps = self.spec.height, self.spec.width, self.spec.fps
        self.action_specs = dict(self.spec.actions)
        self.sampler = sampler or model.default_sampler()
        self.initial_contexts = initial_contexts
        self.watch: ProgressCallback | None = None
        self.n_steps = 0
        self._state: Any = None
        self._frame = np.zeros((n, self.height, self.width, 3), np.uint8)
        self.seed(seed)

    def seed(self, seed: int | None) -> None:
        """Reseed the streams' generators; None draws a fresh seed."""
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
        """Reset streams.

        Args:
            context_frames: uint8, (n, T, H, W, 3) or (T, H, W, 3) for all streams. None begins with a start clip
                of the world, chosen by each stream's generator. Worlds that need no frames begin from nothing when
                T is 0, or when they have no start clips.
            context_actions: Actions between the context frames, (n, T - 1, ...) or (T - 1, ...), per stream name or
                bare when the world has one action stream. None uses null actions.
            seed: Reseeds the generators before anything is drawn.
            streams: Streams to reset, each once; None means all. Frames and actions are then given for
                these only, in this order.
            class_id: One number for all streams or one per stream, for worlds with classes. None takes the class of
                the start clip; without any frames, one is drawn.
            goal: Goal picture, uint8, (n, H, W, 3) or (H, W, 3) for all streams, for
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
        context = self._context(rows, context_frames, context_actions, class_id, goal)
        generators = [self._generators[row] for row in rows]
        first, state = self.model.begin(context, TokenSampler(self.sampler, self.watch), generators)
        if rows == everyone:
            self._state, self.n_steps = state, 0
        else:
            self._state.index_copy_(torch.tensor(rows), state)
        self._frame = self._frame.copy()
        self._frame[rows] = first.frame
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
        sampler = TokenSampler(self.sampler, self.watch)
        output, self._state = self.model.step(self._state, actions, sampler, self._generators)
        return self._result(output)

    def _result(self, output: FrameOutput) -> StepResult:
        self._frame = output.frame
        self.n_steps += 1
        return StepResult(
            frame=output.frame,
            reward=output.reward,
            terminated=output.terminated > 0.5,
            truncated=np.zeros(self.n, bool),
            info={"n_steps": self.n_steps, "terminated_probability": output.terminated, "codes": output.codes},
        )

    # ------------------------------------------------------------------ batches

    @property
    def batch_key(self) -> Hashable:
        """Key of the next step; sessions of one world with equal keys may be stepped with ``step_batch``."""
        if self._state is None:
            raise UserError("batch_key needs a session that was reset.")
        return self.sampler, self.model.batch_key(self._state)

    @staticmethod
    @torch.inference_mode()
    def step_batch(sessions: Sequence[Session], actions: Sequence[Action]) -> list[StepResult | Exception]:
        """Step several sessions of one world as one batch, each with its own action and random numbers.

        Every session goes on as if alone, up to rounding: products of matrices of another size add up in another
        order. So codes are the same but for near ties, and pixels of the same codes differ by 1 of 255 at most.

        Args:
            sessions: Sessions of one world, of equal ``batch_key``.
            actions: What ``step`` takes, one per session.

        Returns:
            Results in the order of the sessions. If a session's ``watch`` raised, its result is that error, and the
            session is unchanged; generation ends early when all have raised.

        Raises:
            UserError: If the sessions are not of equal batch_key, or an action does not fit.
        """
        first = sessions[0]
        if len({session.batch_key for session in sessions}) > 1:
            raise UserError(
                "sessions of different batch_key cannot be stepped as one batch; step them one after the other."
            )
        given = [
            action_tensors(session.action_specs, action, (session.n, 1), is_step=True)
            for session, action in zip(sessions, actions, strict=True)
        ]
        fan_out = ProgressFanOut([session.watch for session in sessions])
        try:
            output, state = first.model.step(
                type(first._state).cat([session._state for session in sessions]),
                {name: torch.cat([tensors[name] for tensors in given]) for name in first.action_specs},
                TokenSampler(first.sampler, fan_out),
                [generator for session in sessions for generator in session._generators],
            )
        except ProgressFanOut.AllCancelled:
            return [fan_out.raised[i] for i in range(len(sessions))]
        results: list[StepResult | Exception] = []
        rows = torch.arange(sum(session.n for session in sessions)).split([session.n for session in sessions])
        for i, session in enumerate(sessions):
            if i in fan_out.raised:
                results.append(fan_out.raised[i])
                continue
            session._state = state.index_select(rows[i])
            results.append(session._result(output.take(rows[i].numpy())))
        return results

    # ------------------------------------------------------------------ copies

    @torch.inference_mode()
    def fork(self, n: int) -> Session:
        """Make a session of n streams that all go on from this one's only stream, each with a generator of its own.

        Frames that a world made in advance, several at once, are the same in all of them.
        """
        if self.n != 1 or self._state is None:
            raise UserError(f"fork() needs a session of one stream that was reset; this one has {self.n}.")
        child = Session(self.model, n, sampler=self.sampler, initial_contexts=self.initial_contexts)
        child.n_steps = self.n_steps
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
        """True when the model cannot start from nothing."""
        return self.spec.context[0] > 0

    # ------------------------------------------------------------------ contexts

    def _context(
        self, rows: list[int], frames: np.ndarray | None, actions: Action, class_id: ClassId, goal: np.ndarray | None
    ) -> Context:
        n, spec = len(rows), self.spec
        if frames is None and self.initial_contexts:
            clips = self._initial_clips(rows, class_id)
            frames = np.stack([clip.frames for clip in clips])
            actions = {k: np.stack([clip.actions[k][:-1] for clip in clips]) for k in self.action_specs}
            class_id = np.array([clip.class_id for clip in clips]) if spec.classes else None
            if spec.goal and goal is None:
                goal = np.stack([clip.goal for clip in clips if clip.goal is not None])
        elif frames is None:
            if self.needs_frames:
                raise UserError("this world ships no start clips; give reset() context_frames.")
            frames = np.zeros((n, 0, self.height, self.width, 3), np.uint8)
        frames = check_frames(frames, n, self.height, self.width)
        self.model.check_context(frames.shape[1])
        if spec.classes and class_id is None and not frames.shape[1]:
            class_id = [int(torch.randint(len(spec.classes), (1,), generator=self._generators[row])) for row in rows]
        shape = (n, max(0, frames.shape[1] - 1))
        return Context(
            frames=frames,
            actions=action_tensors(self.action_specs, actions, shape),
            class_id=class_ids(spec.classes, class_id, n),
            goal=check_goal(goal, spec.goal, n, self.height, self.width),
        )

    def _initial_clips(self, rows: list[int], class_id: ClassId) -> list[Clip]:
        """Draw an initial context for every stream, of the requested class."""
        wanted = None if class_id is None else class_ids(self.spec.classes, class_id, len(rows))
        picks = []
        for i, row in enumerate(rows):
            clips = [c for c in self.initial_contexts if wanted is None or c.class_id == int(wanted[i])]
            if not clips:
                assert wanted is not None
                raise UserError(
                    f"this world ships no start clips of class {int(wanted[i])}; give reset() context_frames."
                )
            picks.append(clips[int(torch.randint(len(clips), (1,), generator=self._generators[row]))])
        return picks
