"""The thread in which the sessions of one world run, so that the event loop never waits for a model."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from reelworld.serve.playable import PlaySession
from reelworld.serve.turns import Share, Turns
from reelworld.types import StepResult

__all__ = ["Stepped", "Stepper"]

R = TypeVar("R")


@runtime_checkable
class InCompany(Protocol):
    """A session that can be stepped in a batch with others of equal batch_key."""

    @property
    def batch_key(self) -> Hashable:
        """What the next step asks of a batch."""
        ...

    def step_batch(self, sessions: Sequence[Any], actions: Sequence[Any]) -> list[StepResult | Exception]:
        """Step several sessions, this one among them or not."""
        ...


class Stepped(NamedTuple):
    """A step that was taken."""

    result: StepResult
    milliseconds: float
    """How long the world took, for all who came along."""
    snapshot: Any


@dataclass(eq=False)
class _Job:
    """A piece of work that somebody waits for."""

    share: Share
    future: asyncio.Future[Any]
    work: Callable[[], Any]
    batch_key: Hashable = None
    session: Any = None
    action: Any = None


@dataclass
class Stepper:
    """Grants what players ask of a world, one piece of work or one batch of steps after the other.

    Attributes:
        n_threads: Threads torch may use for a step.
        n_waiting: Pieces of work that were asked for and have not ended, of all players.
    """

    n_threads: int = 1
    n_waiting: int = 0
    _turns: Turns[_Job] = field(default_factory=Turns)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _is_closed: bool = False

    async def run(self, work: Callable[[], R], share: Share) -> R:
        """Run a piece of work alone when it is this player's turn."""
        return await self._ask(_Job(share, asyncio.get_running_loop().create_future(), work))

    async def step(self, session: PlaySession, action: Any, share: Share) -> Stepped:
        """Step a session when it is this player's turn, or earlier with those who have theirs."""
        job = _Job(share, asyncio.get_running_loop().create_future(), lambda: _step(session, action))
        if isinstance(session, InCompany):
            job.session, job.action, job.batch_key = session, action, (type(session), session.batch_key)
        return await self._ask(job)

    def close(self, wait: bool = True) -> None:
        """Let the running work end and drop the rest."""
        with self._changed:
            self._is_closed = True
            for job in self._turns.waiting:
                job.future.cancel()
            self._turns.waiting.clear()
            self._changed.notify()
        if wait and self._thread is not None:
            self._thread.join()

    async def _ask(self, job: _Job) -> Any:
        self.n_waiting += 1
        try:
            with self._changed:
                if self._is_closed:
                    raise asyncio.CancelledError  # the server is ending
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="stepper", daemon=True)
                    self._thread.start()
                self._turns.add(job, time.perf_counter())
                self._changed.notify()
            return await job.future
        finally:
            self.n_waiting -= 1
            with self._changed, contextlib.suppress(ValueError):
                self._turns.waiting.remove(job)  # nobody waits for it any more

    # ------------------------------------------------------------------ in the thread

    def _work(self) -> None:
        import torch

        # OpenMP keeps this number per thread: set in the main thread it would not hold here.
        torch.set_num_threads(self.n_threads)
        while batch := self._next():
            start = time.perf_counter()
            outcomes = _run(batch)
            with self._changed:
                self._turns.ended(batch, (end := time.perf_counter()) - start, end)
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                batch[0].future.get_loop().call_soon_threadsafe(_settle, [job.future for job in batch], outcomes)
            del batch, outcomes  # else the last session would live until the next step

    def _next(self) -> list[_Job]:
        """Wait for work and take what comes next; nothing when the stepper is closed."""
        with self._changed:
            while not self._is_closed:
                now = time.perf_counter()
                if batch := self._turns.take(now):
                    return batch
                waits = [self._turns.ready_at(job.share, now) - now for job in self._turns.waiting]
                self._changed.wait(min(waits, default=None))
        return []


def _run(batch: list[_Job]) -> list[Any]:
    """Run a batch; if it fails, everybody alone, so that only those fail who must."""
    if len(batch) > 1:
        try:
            return _step_together(batch)
        except Exception:  # noqa: BLE001 (whose fault it is shows below)
            pass
    return [_outcome(job.work) for job in batch]


def _outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # noqa: BLE001 (handed to whoever asked)
        return error


def _step(session: PlaySession, action: Any) -> Stepped:
    start = time.perf_counter()
    result = session.step(action)
    return Stepped(result, 1000 * (time.perf_counter() - start), session.snapshot())


def _step_together(batch: list[_Job]) -> list[Any]:
    start = time.perf_counter()
    results = batch[0].session.step_batch([job.session for job in batch], [job.action for job in batch])
    milliseconds = 1000 * (time.perf_counter() - start)
    return [
        result if isinstance(result, Exception) else Stepped(result, milliseconds, job.session.snapshot())
        for job, result in zip(batch, results, strict=True)
    ]


def _settle(futures: list[asyncio.Future[Any]], outcomes: list[Any]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue  # cancelled: the player has left
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
