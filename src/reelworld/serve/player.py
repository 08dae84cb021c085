"""One client's game: a session, the client's input, and the frames on their way to the client.

Two loops share a ``Player``. ``run`` steps the session: at the world's fps or, in a turn-based world, once per input.
``send_frames`` sends the newest frame when all but ``MAX_IN_FLIGHT`` of the earlier ones are acknowledged; frames that
a slow client cannot take are skipped. Steps of all clients of a world run in its ``InferenceWorker``, in batches where
possible. While a world generates several frames at once, the client gets progress messages; the generation is
cancelled when its frames are no longer needed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import numpy as np

from reelworld.data.writers.played import EpisodeWriter
from reelworld.serve.action_previews import describe_action_previews, render_action_previews
from reelworld.serve.config import Limits
from reelworld.serve.controls import Controls
from reelworld.serve.encodings import PNG, Encoding
from reelworld.serve.initial_contexts import MAX_INITIAL_CONTEXTS, InitialContext
from reelworld.serve.interfaces import Playable, PlaySession, features_of, play_fps
from reelworld.serve.protocol import (
    Ack,
    Act,
    ActionPreviews,
    FrameMessage,
    Message,
    Pause,
    ProtocolError,
    Record,
    Reset,
    Rewind,
    Sample,
    SingleStep,
)
from reelworld.serve.recording import Recorder
from reelworld.serve.rewind_buffer import EpisodeState, RewindBuffer
from reelworld.serve.scheduler import ClientQuota, InferenceWorker, TimedStep, timed_step
from reelworld.types import StepResult

MAX_IN_FLIGHT = 2  # frames: one on screen, one on its way
MAX_QUEUED_ACTIONS = 4  # key presses that may wait for a slow turn-based world
PROGRESS_SECONDS = 0.3  # between two progress messages
PREVIEW_SECONDS = 1.0  # between two renderings of action previews

Send = Callable[[bytes], Awaitable[None]]
SendJSON = Callable[[dict[str, object]], Awaitable[None]]


class Cancelled(Exception):
    """The frames being generated are no longer needed."""


class Player:
    """One client's game: session, clock, input and newest frame."""

    def __init__(
        self,
        world: Playable,
        worker: InferenceWorker,
        send: Send,
        send_json: SendJSON,
        *,
        encoding: Encoding = PNG,
        limits: Limits | None = None,
        writer: EpisodeWriter | None = None,
    ) -> None:
        """Set up the game; ``run`` and ``send_frames`` start it.

        Args:
            world: The world to play.
            worker: Runs its steps.
            send: Sends a frame to the client.
            send_json: Sends a JSON message to the client.
            encoding: Encoding of the frames.
            limits: Limits of the server.
            writer: Destination of recorded episodes; None turns recording off.
        """
        limits = limits or Limits()
        self._world, self._worker, self._quota = world, worker, ClientQuota()
        self._send, self._send_json, self._encoding = send, send_json, encoding
        self.controls = Controls(world.spec.actions)
        self.fps = play_fps(world.spec)
        # input
        self.is_paused = not self.controls.is_turn_based
        self._queued_actions: deque[tuple[int, dict[str, np.ndarray]]] = deque(maxlen=MAX_QUEUED_ACTIONS)
        self._held_actions = (0, self.controls.null())
        self._tapped_actions: tuple[int, dict[str, np.ndarray]] | None = None
        self._single_steps: deque[int] = deque(maxlen=MAX_QUEUED_ACTIONS)
        self._jump: InitialContext | Rewind | None = None  # requested reset or rewind
        self._sampler = world.info.sampler
        self._wants_previews = False
        self._input_id = 0
        self._input_changed = asyncio.Event()
        # game
        self._state = EpisodeState(snapshot=None, frame=np.zeros((0, 0, 3), np.uint8))
        self._rewind_buffer = RewindBuffer(min(limits.rewind_bytes, limits.total_rewind_bytes // limits.sessions))
        self._recorder = Recorder(
            self.controls, writer, self._queue_json, limits.episode_bytes, features_of(world).record_all
        )
        self._previews_at = self._progress_at = 0.0
        self._has_left = False
        # output
        self._frame: tuple[np.ndarray, FrameMessage] | None = None
        self._messages: deque[dict[str, object]] = deque()
        self._sequence = self._sent = self._acknowledged = 0
        self._output_changed = asyncio.Event()

    # ------------------------------------------------------------------ input

    def handle(self, message: Message) -> None:
        """Handle one message of the client; never blocks.

        Raises:
            ProtocolError: If an action or an initial context is invalid, or recording is off.
        """
        match message:
            case Ack():
                # A sequence number from the future would disable flow control.
                self._acknowledged = max(self._acknowledged, min(message.sequence, self._sent))
                self._output_changed.set()
                return
            case Act():
                self._act(message)
            case Reset():
                self._jump = self._initial_context(message)
            case Rewind():
                self._request_rewind(message)
            case SingleStep():
                if self.is_paused:
                    self._single_steps.append(message.id)
            case Pause():
                self.is_paused = message.paused and not self.controls.is_turn_based
                self._single_steps.clear()
            case Sample():
                self._sampler = replace(self._sampler, temperature=message.temperature, steps=message.steps)
            case ActionPreviews():
                self._wants_previews = True
            case Record():
                self._recorder.switch(message.on, self._state.frame if self._sequence else None)
        self._input_changed.set()

    def start_from(self, frames: np.ndarray, input_id: int) -> None:
        """Start a new episode from frames, uint8 (T, H, W, 3)."""
        self._jump = InitialContext(id=input_id, frames=frames)
        self._input_changed.set()

    def _initial_context(self, message: Reset) -> InitialContext:
        if message.initial_context is None:
            return InitialContext(id=message.id, seed=message.seed)
        clips = self._world.initial_contexts[:MAX_INITIAL_CONTEXTS]
        if message.initial_context >= len(clips):
            raise ProtocolError(f"initial_context must be less than {len(clips)}, the number of recorded clips")
        return InitialContext.from_clip(clips[message.initial_context], message.id, message.seed)

    def _act(self, message: Act) -> None:
        actions = (message.id, self.controls.parse(message.actions))
        if self.controls.is_turn_based:
            self._queued_actions.append(actions)
            return
        if message.actions:
            self._tapped_actions = actions
        self._held_actions = actions

    def _request_rewind(self, message: Rewind) -> None:
        """Add the steps to a pending rewind; a pending reset takes precedence."""
        if isinstance(self._jump, InitialContext):
            return
        pending = self._jump.steps if self._jump else 0
        self._jump = replace(message, steps=message.steps + pending)
        self.is_paused = not self.controls.is_turn_based
        self._single_steps.clear()

    # ------------------------------------------------------------------ game

    async def run(self) -> None:
        """Step the session until cancelled."""
        session = await self._worker.run(lambda: self._world.session(n=1), self._quota)
        session.watch = partial(self._on_progress, asyncio.get_running_loop())
        await self._start_episode(session, partial(session.reset, seed=None))
        due = time.perf_counter()
        while True:
            due = await self._wait_until_due(due)
            session.sampler = self._sampler
            jump, self._jump = self._jump, None
            if jump is not None:
                self._input_id, self._tapped_actions = jump.id, None
                self._queued_actions.clear()
                self._single_steps.clear()
            if isinstance(jump, InitialContext):
                await self._start_episode(session, partial(jump.reset, session, self._world.spec.context[1]))
            elif isinstance(jump, Rewind):
                await self._rewind(session, jump.steps)
            elif self._wants_previews:
                await self._render_previews(session)
            else:
                self._input_id, actions = self._next_actions()
                await self._step(session, actions)

    async def close(self) -> None:
        """Finish recording, after the client has left."""
        await self._recorder.close()

    def leave(self) -> None:
        """Cancel the frames being generated, because the client has left."""
        self._has_left = True

    async def _wait_until_due(self, due: float) -> float:
        """Wait for the next work; return the due time of the step after it."""
        while self._jump is None and not self._wants_previews:
            has_work = self._queued_actions if self.controls.is_turn_based else self._single_steps or not self.is_paused
            if self._state.has_ended:
                self._queued_actions.clear()
                self._single_steps.clear()
            if not has_work or self._state.has_ended:
                self._input_changed.clear()
                await self._input_changed.wait()
                continue
            if self.controls.is_turn_based or self._single_steps:
                break
            if (rest := due - time.perf_counter()) <= 0:
                break
            await asyncio.sleep(rest)
        # A world slower than its fps runs as fast as it can and does not catch up later.
        return max(due, time.perf_counter() - 0.5 / self.fps) + 1 / self.fps

    def _next_actions(self) -> tuple[int, dict[str, np.ndarray]]:
        """Return the input of the next step; a key tapped between two steps still counts for one."""
        if self.controls.is_turn_based:
            return self._queued_actions.popleft()
        tapped, self._tapped_actions = self._tapped_actions, None
        input_id, actions = tapped or self._held_actions
        return (self._single_steps.popleft(), actions) if self._single_steps else (input_id, actions)

    async def _start_episode(self, session: PlaySession, reset: Callable[[], StepResult]) -> None:
        start = self._worker.run(lambda: timed_step(session, reset), self._quota)
        if (step := await self._unless_cancelled(start)) is None:
            return
        self._rewind_buffer.clear()
        self._state = EpisodeState(snapshot=step.snapshot, frame=step.result.frame[0])
        self._rewind_buffer.append(self._state)
        self._recorder.start_episode(self._state.frame)
        self._show(step.milliseconds)

    async def _step(self, session: PlaySession, actions: dict[str, np.ndarray]) -> None:
        """Take a step and queue its frame."""
        if (step := await self._unless_cancelled(self._worker.step(session, actions or None, self._quota))) is None:
            return
        reward = float(step.result.reward[0])
        terminated, truncated = bool(step.result.terminated[0]), bool(step.result.truncated[0])
        self._state = EpisodeState(
            snapshot=step.snapshot,
            frame=step.result.frame[0],
            step=self._state.step + 1,
            total_reward=self._state.total_reward + reward,
            has_ended=terminated or truncated,
        )
        self._rewind_buffer.append(self._state)
        self._recorder.add(self._state.frame, actions, reward, terminated, truncated)
        self._show(step.milliseconds, reward=reward, terminated=terminated, truncated=truncated)

    async def _unless_cancelled(self, work: Awaitable[TimedStep]) -> TimedStep | None:
        """Wait for a step and queue its message, if any; return None when it was cancelled."""
        self._progress_at = time.monotonic()
        try:
            step = await work
        except Cancelled:
            return None
        finally:
            self._messages = deque(m for m in self._messages if m["type"] != "progress")
        if "message" in step.result.info:
            self._queue_json(step.result.info["message"])
        return step

    async def _rewind(self, session: PlaySession, n_steps: int) -> None:
        start = time.perf_counter()
        before = self._state.step
        self._state = self._rewind_buffer.rewind(n_steps)
        self._recorder.rewind(before - self._state.step, self._state.frame)
        await self._worker.run(partial(session.restore, self._state.snapshot), self._quota)
        self._show(1000 * (time.perf_counter() - start))

    async def _render_previews(self, session: PlaySession) -> None:
        self._wants_previews = False
        if (now := time.monotonic()) - self._previews_at < PREVIEW_SECONDS:
            return
        self._previews_at = now
        state = self._state

        def render() -> dict[str, object]:
            return describe_action_previews(render_action_previews(session, state.frame, self.controls), state.step)

        self._queue_json(await self._worker.run(render, self._quota))

    def _on_progress(self, loop: asyncio.AbstractEventLoop, fraction: float, n_frames: int) -> None:
        """Report the progress of several frames, or cancel them; called in the worker's thread."""
        if self._has_left or self._jump is not None:
            raise Cancelled
        if (now := time.monotonic()) - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = now
            message = {"type": "progress", "fraction": round(fraction, 3), "frames": n_frames}
            loop.call_soon_threadsafe(self._queue_json, message)

    # ------------------------------------------------------------------ output

    def _queue_json(self, message: dict[str, object]) -> None:
        """Queue a JSON message; it replaces a queued one of its type, unless that reports a written episode."""
        kept = [m for m in self._messages if m["type"] != message["type"] or m["type"] == "recorded"]
        self._messages = deque([*kept, message])
        self._output_changed.set()

    def _show(
        self, milliseconds: float, *, reward: float = 0.0, terminated: bool = False, truncated: bool = False
    ) -> None:
        """Make the current state's frame the next one to be sent."""
        self._sequence += 1
        header = FrameMessage(
            sequence=self._sequence,
            step=self._state.step,
            input_id=self._input_id,
            reward=reward,
            total_reward=self._state.total_reward,
            milliseconds=milliseconds,
            terminated=terminated,
            truncated=truncated,
            n_pending=len(self._queued_actions) + self._worker.n_pending,
        )
        self._frame = self._state.frame, header
        self._output_changed.set()

    async def send_frames(self) -> None:
        """Send queued messages, and the newest frame whenever the client is ready for one, until cancelled."""
        in_flight: deque[int] = deque()
        while True:
            while in_flight and in_flight[0] <= self._acknowledged:
                in_flight.popleft()
            while self._messages:
                await self._send_json(self._messages.popleft())
            if self._frame is None or len(in_flight) >= MAX_IN_FLIGHT:
                self._output_changed.clear()
                await self._output_changed.wait()
                continue
            (pixels, header), self._frame = self._frame, None
            encode = self._encoding.encode
            image = encode(pixels) if self._encoding.is_instant else await asyncio.to_thread(encode, pixels)
            self._sent = header.sequence
            in_flight.append(self._sent)
            await self._send(header.pack(self._encoding.number, image))
