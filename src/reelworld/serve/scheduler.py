"""Fair scheduling of one world among several clients, and the thread that runs its model.

The client with the least service time is next. All pending steps that fit the same batch are run with it. A step is
never pre-empted. After a step of t seconds its client waits t seconds while others have work; otherwise a client with
slow steps would starve the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch

from reelworld.serve.interfaces import PlaySession
from reelworld.types import StepResult

MAX_BATCH = 16  # steps per batch: beyond it a step costs as much per client, and all of them wait for the last
ACTIVE_SECONDS = 1.0  # a client counts as active for this long after its last request

R = TypeVar("R")
Actions = Mapping[str, np.ndarray] | None


@dataclass(eq=False)
class ClientQuota:
    """Service time of one client."""

    used: float = 0.0
    """Seconds of service so far. A batch counts in full for each of its clients: divided by their number, one step
    alone would weigh as much as many in a batch. Idle time counts as used."""
    requested_at: float = 0.0
    eligible_at: float = 0.0
    """Earliest start of its next own batch while others are active."""
    last_batch: int = 0


@dataclass(eq=False, kw_only=True)
class Job:
    """A unit of work of one client."""

    quota: ClientQuota
    batch_key: Hashable = None
    """Jobs with equal keys may run as one batch; None runs alone."""


J = TypeVar("J", bound=Job)


class FairScheduler(Generic[J]):
    """Queue of jobs in fair order. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.pending: list[J] = []
        self._virtual_time = 0.0
        self._n_batches = 0
        self._quotas: weakref.WeakSet[ClientQuota] = weakref.WeakSet()

    def add(self, job: J, now: float) -> None:
        """Queue a job."""
        quota = job.quota
        quota.requested_at = now
        quota.used = max(quota.used, self._virtual_time)  # idle clients save nothing up
        self._quotas.add(quota)
        self.pending.append(job)

    def take(self, now: float) -> list[J]:
        """Remove and return the next batch; empty when no client is eligible."""
        eligible = [job for job in self.pending if self.eligible_at(job.quota, now) <= now]
        if not eligible:
            return []
        first = min(eligible, key=lambda job: job.quota.used)
        self._virtual_time = max(self._virtual_time, first.quota.used)
        batch = [first]
        if first.batch_key is not None:
            others = [job for job in self.pending if job.batch_key == first.batch_key and job is not first]
            batch += sorted(others, key=lambda job: job.quota.used)[: MAX_BATCH - 1]
        self.pending = [job for job in self.pending if job not in batch]
        return batch

    def eligible_at(self, quota: ClientQuota, now: float) -> float:
        """Return the earliest start of a client's next batch."""
        others = (o for o in self._quotas if o.last_batch != quota.last_batch and o.requested_at > now - ACTIVE_SECONDS)
        return quota.eligible_at if any(others) else now

    def finished(self, batch: list[J], seconds: float, now: float) -> None:
        """Charge a batch to its clients."""
        self._n_batches += 1
        for job in batch:
            job.quota.used += seconds
            job.quota.eligible_at = now + seconds
            job.quota.last_batch = self._n_batches


@runtime_checkable
class BatchableSession(Protocol):
    """A session that can be stepped in one batch with others of equal ``batch_key``."""

    @property
    def batch_key(self) -> Hashable:
        """Key of the next step."""
        ...

    def step_batch(self, sessions: Sequence[Any], actions: Sequence[Actions]) -> list[StepResult | Exception]:
        """Step several sessions; an exception takes the place of a result."""
        ...


class TimedStep(NamedTuple):
    """A step with its duration and the state after it."""

    result: StepResult
    milliseconds: float
    """Duration of the step, of the whole batch where it ran in one."""
    snapshot: Any


@dataclass(eq=False, kw_only=True)
class _Call(Job):
    """A job with its function and the future of its result."""

    future: asyncio.Future[Any]
    function: Callable[[], object]
    session: Any = None
    action: Actions = None


@dataclass
class InferenceWorker:
    """Thread that runs the sessions of one world, so that the event loop never waits for a model.

    Attributes:
        n_threads: Threads torch may use for a step.
        n_pending: Jobs of all clients that are queued or running.
    """

    n_threads: int = 1
    n_pending: int = 0
    _scheduler: FairScheduler[_Call] = field(default_factory=FairScheduler)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _is_closed: bool = False

    async def run(self, function: Callable[[], R], quota: ClientQuota) -> R:
        """Run a function as a job of its own."""
        future = asyncio.get_running_loop().create_future()
        return cast(R, await self._submit(_Call(quota=quota, future=future, function=function)))

    async def step(self, session: PlaySession, action: Actions, quota: ClientQuota) -> TimedStep:
        """Step a session, in one batch with other pending steps of equal ``batch_key``."""
        future = asyncio.get_running_loop().create_future()
        call = _Call(quota=quota, future=future, function=lambda: timed_step(session, lambda: session.step(action)))
        if isinstance(session, BatchableSession):
            call.session, call.action, call.batch_key = session, action, (type(session), session.batch_key)
        return cast(TimedStep, await self._submit(call))

    def close(self, wait: bool = True) -> None:
        """Finish the running batch and cancel the queue."""
        with self._changed:
            self._is_closed = True
            for call in self._scheduler.pending:
                call.future.cancel()
            self._scheduler.pending.clear()
            self._changed.notify()
        if wait and self._thread is not None:
            self._thread.join()

    async def _submit(self, call: _Call) -> object:
        self.n_pending += 1
        try:
            with self._changed:
                if self._is_closed:
                    raise asyncio.CancelledError  # the server is shutting down
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
                    self._thread.start()
                self._scheduler.add(call, time.perf_counter())
                self._changed.notify()
            return await call.future
        finally:
            self.n_pending -= 1
            with self._changed, contextlib.suppress(ValueError):
                self._scheduler.pending.remove(call)  # cancelled while queued

    # ------------------------------------------------------------------ in the thread

    def _work(self) -> None:
        # OpenMP keeps this number per thread: set in the main thread it would not apply here.
        torch.set_num_threads(self.n_threads)
        while batch := self._next():
            start = time.perf_counter()
            outcomes = _run(batch)
            with self._changed:
                self._scheduler.finished(batch, (end := time.perf_counter()) - start, end)
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                batch[0].future.get_loop().call_soon_threadsafe(_settle, [call.future for call in batch], outcomes)
            del batch, outcomes  # else the last session would live until the next step

    def _next(self) -> list[_Call]:
        """Wait for the next batch; empty when the worker is closed."""
        with self._changed:
            while not self._is_closed:
                now = time.perf_counter()
                if batch := self._scheduler.take(now):
                    return batch
                delays = [self._scheduler.eligible_at(call.quota, now) - now for call in self._scheduler.pending]
                self._changed.wait(min(delays, default=None))
        return []


def timed_step(session: PlaySession, advance: Callable[[], StepResult]) -> TimedStep:
    """Advance a session, by a step or a reset, and take a snapshot."""
    start = time.perf_counter()
    result = advance()
    return TimedStep(result, 1000 * (time.perf_counter() - start), session.snapshot())


def _run(batch: list[_Call]) -> list[object]:
    """Run a batch; when it fails, run its calls one by one, so that only the faulty ones fail."""
    if len(batch) > 1:
        try:
            return _step_batch(batch)
        except Exception:  # noqa: BLE001 (raised again below by the faulty call)
            pass
    return [_outcome(call.function) for call in batch]


def _outcome(function: Callable[[], object]) -> object:
    try:
        return function()
    except Exception as error:  # noqa: BLE001 (passed on to the caller's future)
        return error


def _step_batch(batch: list[_Call]) -> list[object]:
    start = time.perf_counter()
    results = batch[0].session.step_batch([call.session for call in batch], [call.action for call in batch])
    milliseconds = 1000 * (time.perf_counter() - start)
    return [
        result if isinstance(result, Exception) else TimedStep(result, milliseconds, call.session.snapshot())
        for call, result in zip(batch, results, strict=True)
    ]


def _settle(futures: list[asyncio.Future[Any]], outcomes: list[object]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue  # cancelled: the client has left
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
