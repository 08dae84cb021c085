"""One tab's game: a session, the player's input, and the frames on their way to the client.

Two loops share a ``Player``. ``play`` steps the session, in time with the world's fps or, in a turn-based
world, once per input. ``deliver`` sends the newest frame whenever the client has acknowledged all but
``WINDOW`` of the earlier ones; frames that a slow client had no time for are skipped, so nothing queues up.
Steps of all players of a world run in its ``Stepper``, those that wait at the same time side by side. A world that
makes several frames at once tells how far it is; that is passed on to the client, and given up when nobody wants the
frames.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from reelworld.serve.controls import Controls
from reelworld.serve.effects import describe_effects, draw_effects
from reelworld.serve.encodings import PNG, Encoding
from reelworld.serve.history import History, Moment
from reelworld.serve.playable import Playable, PlayableInfo, PlaySession, rules_of
from reelworld.serve.protocol import (
    Ack,
    Act,
    Effects,
    Message,
    Pause,
    ProtocolError,
    Record,
    Reset,
    Rewind,
    Sample,
    SingleStep,
    pack_frame,
)
from reelworld.serve.recording import Archive, Tape, describe_saved
from reelworld.serve.starts import MAX_STARTS, InitialContext
from reelworld.serve.stepper import Stepped, Stepper
from reelworld.serve.turns import Share
from reelworld.types import Clip, StepResult, UserError

__all__ = ["Player", "playing_fps"]

WINDOW = 2  # frames in flight: one on screen, one on its way
MAX_TURNS = 4  # key presses that may wait for a slow turn-based world
DEFAULT_FPS = 10.0  # for worlds whose recordings did not say
MAX_FPS = 60.0  # more than screens show
TELL_SECONDS = 0.3  # how often a client is told how far the frames are that take longer
EFFECTS_SECONDS = 1.0  # from one drawing of the actions' pictures to the next


class Abandoned(Exception):
    """Nobody wants the frames any more that are being made."""


def playing_fps(info: PlayableInfo) -> float:
    """Return the steps per second that a world is played at."""
    return min(info.fps or DEFAULT_FPS, MAX_FPS)


class Player:
    """A session with its clock, its input and its newest frame."""

    def __init__(
        self,
        world: Playable,
        stepper: Stepper,
        send: Callable[[bytes], Awaitable[None]],
        tell: Callable[[dict[str, Any]], Awaitable[None]],
        *,
        encoding: Encoding = PNG,
        rewind_bytes: int = 1 << 26,
        archive: Archive | None = None,
        tape_bytes: int = 1 << 28,
    ) -> None:
        """Get ready; nothing runs before ``play`` and ``deliver`` do.

        Args:
            world: What is played.
            stepper: Where its steps run.
            send: Brings a frame to the client.
            tell: Brings a JSON message to the client.
            encoding: How frames are sent.
            rewind_bytes: Room for the moments that can be gone back to.
            archive: Where episodes go that the player records; None when nothing may be recorded.
            tape_bytes: Room for the frames of one recorded episode.
        """
        self._world, self._rules = world, rules_of(world)
        self._stepper, self._share = stepper, Share()
        self._send, self._tell, self._encoding = send, tell, encoding
        self.controls = Controls(world.info.actions)
        self.fps = playing_fps(world.info)
        self.is_paused = not self.controls.is_turn_based
        self._turns: deque[tuple[int, dict[str, np.ndarray]]] = deque(maxlen=MAX_TURNS)
        self._held = (0, self.controls.rest())
        self._tap: tuple[int, dict[str, np.ndarray]] | None = None
        self._wish: InitialContext | Rewind | None = None
        self._single_steps: deque[int] = deque(maxlen=MAX_TURNS)
        self._sampler = world.info.sampler
        self._wants_effects = False
        self._effects_at = 0.0
        self._history = History(rewind_bytes)
        self._archive, self._tape_bytes = archive, tape_bytes
        self._tape: Tape | None = None
        self._saving: set[asyncio.Task[None]] = set()
        self._input_id = 0
        self._present = Moment(snapshot=None, frame=np.zeros((0, 0, 3), np.uint8), step=0, total=0.0, has_ended=False)
        self._frame: tuple[np.ndarray, dict[str, Any]] | None = None
        self._news: deque[dict[str, Any]] = deque()
        self._told_at = 0.0
        self._has_left = False
        self._sequence = self._sent = self._acked = 0
        self._input_changed = asyncio.Event()
        self._output_changed = asyncio.Event()

    @property
    def can_record(self) -> bool:
        """True when there is a place for what is played."""
        return self._archive is not None

    # ------------------------------------------------------------------ what the client asks for

    def handle(self, message: Message) -> None:
        """Take one message of the client; never waits.

        Raises:
            ProtocolError: If an action or a moment to begin at does not fit the world, or nothing may be recorded.
        """
        match message:
            case Ack():
                # An id from the future would open the window for good.
                self._acked = max(self._acked, min(message.sequence, self._sent))
                self._output_changed.set()
                return
            case Act():
                self._act(message)
            case Reset():
                self._wish = self._beginning(message)
            case Rewind():
                self._rewind(message)
            case SingleStep():
                if self.is_paused:
                    self._single_steps.append(message.id)
            case Pause():
                self.is_paused = message.paused and not self.controls.is_turn_based
                self._single_steps.clear()
            case Sample():
                self._sampler = replace(self._sampler, temperature=message.temperature, steps=message.steps)
            case Effects():
                self._wants_effects = True
            case Record():
                self._record(message.on)
        self._input_changed.set()

    def begin_from(self, frames: np.ndarray, input_id: int) -> None:
        """Begin a new episode with frames, uint8 (T, H, W, 3)."""
        self._wish = InitialContext(id=input_id, frames=frames)
        self._input_changed.set()

    def _beginning(self, message: Reset) -> InitialContext:
        if message.start is None:
            return InitialContext(id=message.id, seed=message.seed)
        starts = self._world.starts[:MAX_STARTS]
        if message.start >= len(starts):
            raise ProtocolError(f"start must be less than {len(starts)}, the number of moments there are")
        return InitialContext.of_clip(starts[message.start], message.id, message.seed)

    def _act(self, message: Act) -> None:
        read = (message.id, self.controls.read(message.actions))
        if self.controls.is_turn_based:
            self._turns.append(read)
            return
        if message.actions:
            self._tap = read
        self._held = read

    def _rewind(self, message: Rewind) -> None:
        """Go back further if the last wish was to go back, too; a reset that waits comes first."""
        if isinstance(self._wish, InitialContext):
            return
        before = self._wish.steps if self._wish else 0
        self._wish = replace(message, steps=message.steps + before)
        self.is_paused = not self.controls.is_turn_based
        self._single_steps.clear()

    # ------------------------------------------------------------------ recording

    def _record(self, on: bool) -> None:
        if self._archive is None:
            raise ProtocolError("nothing is recorded here; start the server with --record FOLDER")
        if not on:
            self._save()
            self._tape = None
        elif self._tape is None:
            self._tape = Tape(self.controls, self._tape_bytes)
            if self._sequence:
                self._tape.begin(self._present.frame)
        self._say({"type": "recording", "on": self._tape is not None})

    def _save(self) -> None:
        """Have the episode on the tape written, beside the game."""
        clip = self._tape.clip() if self._tape else None
        if clip is None or self._archive is None:
            return
        task = asyncio.ensure_future(self._write(self._archive, clip))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _write(self, archive: Archive, clip: Clip) -> None:
        try:
            self._say(describe_saved(await asyncio.to_thread(archive.save, clip)))
        except UserError as error:
            self._tape = None
            self._say({"type": "recording", "on": False, "problem": str(error)})

    def _tape_step(self, actions: dict[str, np.ndarray], reward: float, terminated: bool, truncated: bool) -> None:
        """Add the newest step; an episode that is over, or that fills the tape, is written."""
        if self._tape is None:
            return
        self._tape.add(self._present.frame, actions, reward, terminated, truncated)
        if self._tape.is_full and not self._rules.keeps_all:
            self._record(False)
        elif terminated or truncated or self._tape.is_full:
            self._save()
            self._tape.begin(self._present.frame)

    async def finish(self) -> None:
        """Write what was recorded: the client is gone."""
        self._save()
        self._tape = None
        await asyncio.gather(*self._saving)

    def leave(self) -> None:
        """Give up what is being made: the client is gone."""
        self._has_left = True

    def _watch(self, loop: asyncio.AbstractEventLoop, share: float, n_frames: int) -> None:
        """Take note of how far the frames are that are being made; runs in the stepper's thread."""
        if self._has_left or self._wish is not None:
            raise Abandoned
        if (now := time.monotonic()) - self._told_at >= TELL_SECONDS:
            self._told_at = now
            loop.call_soon_threadsafe(self._say, {"type": "making", "share": round(share, 3), "frames": n_frames})

    def _say(self, message: dict[str, Any]) -> None:
        """Have a JSON message sent; one of its type that waits is replaced."""
        kept = [w for w in self._news if w["type"] != message["type"] or w["type"] == "recorded"]
        self._news = deque([*kept, message])
        self._output_changed.set()

    # ------------------------------------------------------------------ the game

    async def play(self) -> None:
        """Step the session for as long as the client stays."""
        session = await self._stepper.run(lambda: self._world.session(n=1), self._share)
        session.watch = partial(self._watch, asyncio.get_running_loop())
        await self._begin(session, partial(session.reset, seed=None))
        due = time.perf_counter()
        while True:
            due = await self._wait(due)
            session.sampler = self._sampler
            wish, self._wish = self._wish, None
            if isinstance(wish, InitialContext):
                self._begin_anew(wish.id)
                await self._begin(session, partial(wish.start, session, self._world.info.context_frames))
            elif isinstance(wish, Rewind):
                self._begin_anew(wish.id)
                await self._go_back(session, wish.steps)
            elif self._wants_effects:
                await self._show_effects(session)
            else:
                self._input_id, actions = self._next_actions()
                await self._step(session, actions)

    def _begin_anew(self, input_id: int) -> None:
        self._input_id, self._tap = input_id, None
        self._turns.clear()
        self._single_steps.clear()

    async def _wait(self, due: float) -> float:
        """Wait until there is something to do; return when the step after it is due."""
        while self._wish is None and not self._wants_effects:
            is_waiting = not self._turns if self.controls.is_turn_based else self.is_paused and not self._single_steps
            if self._present.has_ended:
                self._turns.clear()
                self._single_steps.clear()
            if is_waiting or self._present.has_ended:
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
        """Choose the input of the next step; a key tapped between two steps still counts for one."""
        if self.controls.is_turn_based:
            return self._turns.popleft()
        tap, self._tap = self._tap, None
        input_id, actions = tap or self._held
        return (self._single_steps.popleft(), actions) if self._single_steps else (input_id, actions)

    async def _begin(self, session: PlaySession, move: Callable[[], StepResult]) -> None:
        """Begin an episode."""

        def timed() -> Stepped:
            start = time.perf_counter()
            result = move()
            return Stepped(result, 1000 * (time.perf_counter() - start), session.snapshot())

        if (made := await self._made(self._stepper.run(timed, self._share))) is None:
            return
        self._history.clear()
        self._save()
        self._present = self._moment(made, step=0, total=0.0, has_ended=False)
        self._history.keep(self._present)
        if self._tape is not None:
            self._tape.begin(self._present.frame)
        self._show(milliseconds=made.milliseconds)

    async def _step(self, session: PlaySession, actions: dict[str, np.ndarray]) -> None:
        """Take a step and put its frame where ``deliver`` finds it."""
        if (made := await self._made(self._stepper.step(session, actions or None, self._share))) is None:
            return
        reward = float(made.result.reward[0])
        terminated, truncated = bool(made.result.terminated[0]), bool(made.result.truncated[0])
        before = self._present
        self._present = self._moment(
            made, step=before.step + 1, total=before.total + reward, has_ended=terminated or truncated
        )
        self._history.keep(self._present)
        self._tape_step(actions, reward, terminated, truncated)
        self._show(reward=reward, milliseconds=made.milliseconds, terminated=terminated, truncated=truncated)

    async def _made(self, making: Awaitable[Stepped]) -> Stepped | None:
        """Wait for frames; None when they were given up."""
        self._told_at = time.monotonic()
        try:
            return await making
        except Abandoned:
            return None
        finally:
            self._news = deque(n for n in self._news if n["type"] != "making")

    def _moment(self, made: Stepped, **said: Any) -> Moment:
        """Take what was made for the present moment, and pass on what there is to tell of it."""
        if "news" in made.result.info:
            self._say(made.result.info["news"])
        return Moment(snapshot=made.snapshot, frame=made.result.frame[0], **said)

    async def _go_back(self, session: PlaySession, n_steps: int) -> None:
        """Restore an earlier moment; one that ended the episode cannot come before the present one."""
        start = time.perf_counter()
        before = self._present.step
        self._present = self._history.back(n_steps)
        if self._tape is not None:
            self._tape.back(before - self._present.step, self._present.frame)
        await self._stepper.run(partial(session.restore, self._present.snapshot), self._share)
        self._show(milliseconds=1000 * (time.perf_counter() - start))

    async def _show_effects(self, session: PlaySession) -> None:
        self._wants_effects = False
        if (now := time.monotonic()) - self._effects_at < EFFECTS_SECONDS:
            return
        self._effects_at = now
        present = self._present

        def draw() -> dict[str, Any]:
            return describe_effects(draw_effects(session, present.frame, self.controls), present.step)

        self._say(await self._stepper.run(draw, self._share))

    # ------------------------------------------------------------------ frames on their way

    def _show(
        self, *, milliseconds: float, reward: float = 0.0, terminated: bool = False, truncated: bool = False
    ) -> None:
        self._sequence += 1
        header = {
            "sequence": self._sequence,
            "step": self._present.step,
            "input_id": self._input_id,
            "reward": reward,
            "total": self._present.total,
            "milliseconds": milliseconds,
            "terminated": terminated,
            "truncated": truncated,
            "waiting": len(self._turns) + self._stepper.n_waiting,
        }
        self._frame = self._present.frame, header
        self._output_changed.set()

    async def deliver(self) -> None:
        """Send the newest frame each time the client is ready for one, and what there is to tell."""
        in_flight: deque[int] = deque()
        while True:
            while in_flight and in_flight[0] <= self._acked:
                in_flight.popleft()
            while self._news:
                await self._tell(self._news.popleft())
            if self._frame is None or len(in_flight) >= WINDOW:
                self._output_changed.clear()
                await self._output_changed.wait()
                continue
            (pixels, header), self._frame = self._frame, None
            encode = self._encoding.encode
            image = encode(pixels) if self._encoding.is_instant else await asyncio.to_thread(encode, pixels)
            self._sent = header["sequence"]
            in_flight.append(self._sent)
            await self._send(pack_frame(image, encoding=self._encoding.number, **header))
