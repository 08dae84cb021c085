"""One tab's game: a session, the player's input, and the frames on their way to the client.

Two loops share a ``Player``. ``play`` steps the session, in time with the world's fps or, in a turn-based
world, once per input. ``deliver`` sends the newest frame whenever the client has acknowledged all but
``WINDOW`` of the earlier ones; frames that a slow client had no time for are skipped, so nothing queues up.
Steps of all players run one after the other in the server's single ``Stepper`` thread. A world that makes several
frames at once tells how far it is; that is passed on to the client, and given up when nobody wants the frames.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from reelworld.generate.rolling import Watch
from reelworld.serve.controls import Controls
from reelworld.serve.protocol import Ack, Act, Message, Pause, Reset, pack_frame
from reelworld.types import ActionSpec, StepResult

__all__ = ["PlaySession", "Playable", "PlayableInfo", "Player", "Stepper"]

WINDOW = 2  # frames in flight: one on screen, one on its way
MAX_TURNS = 4  # key presses that may wait for a slow turn-based world
DEFAULT_FPS = 10.0  # for worlds whose recordings did not say
MAX_FPS = 60.0  # more than screens show
TELL_SECONDS = 0.3  # how often a client is told how far the frames are that take longer

R = TypeVar("R")


class Abandoned(Exception):
    """Nobody wants the frames any more that are being made."""


class PlaySession(Protocol):
    """The part of a session that playing needs; a real environment can offer it as well."""

    watch: Watch | None
    """To be called often, with the share that is done and their number, while several frames are made at once; what
    it raises must end the making."""

    def reset(self, *, seed: int | None = None) -> StepResult:
        """Begin an episode."""
        ...

    def step(self, action: Any) -> StepResult:
        """Take an action: stream name -> int64 (1,) or float32 (1, A), or None without streams."""
        ...


class PlayableInfo(Protocol):
    """What a player is told about a world."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def recipe(self) -> str: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def fps(self) -> float: ...  # noqa: D102
    @property
    def actions(self) -> Mapping[str, ActionSpec]: ...  # noqa: D102


class Playable(Protocol):
    """A world, or anything that opens sessions like one."""

    @property
    def info(self) -> PlayableInfo: ...  # noqa: D102

    def session(self, n: int = 1, seed: int | None = None) -> PlaySession:
        """Open a session."""
        ...


class Stepper:
    """The one thread in which sessions run, so that the event loop never waits for a model."""

    def __init__(self, n_threads: int = 1) -> None:
        def prepare() -> None:
            import torch

            # OpenMP keeps this number per thread: set in the main thread it would not hold here.
            torch.set_num_threads(n_threads)

        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stepper", initializer=prepare)

    async def run(self, work: Callable[[], R]) -> R:
        """Run ``work`` after everything asked for earlier, first come, first served."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Let the running step end and drop the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Player:
    """A session with its clock, its input and its newest frame."""

    def __init__(
        self,
        world: Playable,
        stepper: Stepper,
        send: Callable[[bytes], Awaitable[None]],
        tell: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._world = world
        self._stepper = stepper
        self._send, self._tell = send, tell
        self.controls = Controls(world.info.actions)
        self.fps = min(world.info.fps or DEFAULT_FPS, MAX_FPS)
        self.is_paused = not self.controls.is_turn_based
        self._turns: deque[tuple[int, dict[str, np.ndarray]]] = deque(maxlen=MAX_TURNS)
        self._held = (0, self.controls.rest())
        self._tap: tuple[int, dict[str, np.ndarray]] | None = None
        self._reset: Reset | None = None
        self._input_id = 0
        self._total = 0.0
        self._step = 0
        self._has_ended = False
        self._frame: tuple[np.ndarray, dict[str, Any]] | None = None
        self._making: dict[str, Any] | None = None
        self._told_at = 0.0
        self._has_left = False
        self._sequence = self._sent = self._acked = 0
        self._input_changed = asyncio.Event()
        self._output_changed = asyncio.Event()

    def handle(self, message: Message) -> None:
        """Take one message of the client; never waits.

        Raises:
            ProtocolError: If an action does not fit the world.
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
                self._reset = message
            case Pause():
                self.is_paused = message.paused and not self.controls.is_turn_based
        self._input_changed.set()

    def _act(self, message: Act) -> None:
        actions = self.controls.read(message.actions)
        if self.controls.is_turn_based:
            self._turns.append((message.id, actions))
            return
        self._held = (message.id, actions)
        is_resting = all(np.array_equal(a, b) for a, b in zip(actions.values(), self._rest(), strict=True))
        if self._tap is None and not is_resting:
            self._tap = self._held

    def _rest(self) -> list[np.ndarray]:
        return list(self.controls.rest().values())

    def leave(self) -> None:
        """Give up what is being made: the client is gone."""
        self._has_left = True

    def _watch(self, loop: asyncio.AbstractEventLoop, share: float, n_frames: int) -> None:
        """Take note of how far the frames are that are being made; runs in the stepper's thread."""
        if self._has_left or self._reset is not None:
            raise Abandoned
        if (now := time.monotonic()) - self._told_at >= TELL_SECONDS:
            self._told_at = now
            self._making = {"type": "making", "share": round(share, 3), "frames": n_frames}
            loop.call_soon_threadsafe(self._output_changed.set)

    async def play(self) -> None:
        """Step the session for as long as the client stays."""
        session = await self._stepper.run(lambda: self._world.session(n=1))
        session.watch = partial(self._watch, asyncio.get_running_loop())
        await self._advance(partial(session.reset, seed=None), starts=True)
        due = time.perf_counter()
        while True:
            due = await self._wait(due)
            if self._reset is not None:
                reset, self._reset = self._reset, None
                self._input_id, self._tap = reset.id, None
                self._turns.clear()
                await self._advance(partial(session.reset, seed=reset.seed), starts=True)
            else:
                self._input_id, actions = self._next_actions()
                await self._advance(partial(session.step, actions or None))

    async def _wait(self, due: float) -> float:
        """Wait until there is something to do; return when the step after it is due."""
        while self._reset is None:
            is_waiting = not self._turns if self.controls.is_turn_based else self.is_paused
            if self._has_ended:
                self._turns.clear()
            if is_waiting or self._has_ended:
                self._input_changed.clear()
                await self._input_changed.wait()
                continue
            if self.controls.is_turn_based:
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
        return tap or self._held

    async def _advance(self, move: Callable[[], StepResult], starts: bool = False) -> None:
        """Make one move in the stepper's thread and put its frame where ``deliver`` finds it."""

        def timed() -> tuple[StepResult, float]:
            self._told_at, start = time.monotonic(), time.perf_counter()
            return move(), 1000 * (time.perf_counter() - start)

        try:
            result, milliseconds = await self._stepper.run(timed)
        except Abandoned:
            return
        finally:
            self._making = None
        reward = 0.0 if starts else float(result.reward[0])
        self._step = 0 if starts else self._step + 1
        self._total = 0.0 if starts else self._total + reward
        terminated, truncated = bool(result.terminated[0]), bool(result.truncated[0])
        self._has_ended = not starts and (terminated or truncated)
        self._sequence += 1
        self._frame = (
            result.frame[0],
            {
                "sequence": self._sequence,
                "step": self._step,
                "input_id": self._input_id,
                "reward": reward,
                "total": self._total,
                "milliseconds": milliseconds,
                "terminated": terminated and self._has_ended,
                "truncated": truncated and self._has_ended,
            },
        )
        self._output_changed.set()

    async def deliver(self) -> None:
        """Send the newest frame each time the client is ready for one, and how far the next ones are."""
        in_flight: deque[int] = deque()
        while True:
            while in_flight and in_flight[0] <= self._acked:
                in_flight.popleft()
            if self._making is not None:
                making, self._making = self._making, None
                await self._tell(making)
            if self._frame is None or len(in_flight) >= WINDOW:
                self._output_changed.clear()
                await self._output_changed.wait()
                continue
            (pixels, header), self._frame = self._frame, None
            image = await asyncio.to_thread(encode_png, pixels)
            self._sent = header["sequence"]
            in_flight.append(self._sent)
            await self._send(pack_frame(image, **header))


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) as PNG, fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
