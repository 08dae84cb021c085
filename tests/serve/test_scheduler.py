"""Scheduling: batches of several clients, fairness, cancellation, and no leaks."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conformance.conftest import untrained
from tests.serve.client import Client
from tests.serve.squares import running

from reelworld.nn.kv_cache import FrameCache
from reelworld.rollout.session import Session
from reelworld.serve.library import WorldEntry, WorldLibrary
from reelworld.serve.rewind_buffer import count_bytes
from reelworld.serve.scheduler import MAX_BATCH, ClientQuota, FairScheduler, InferenceWorker, Job, TimedStep
from reelworld.types import StepResult, UserError
from reelworld.worlds.world import World

# ---------------------------------------------------------------- batches, with sessions that only count


class Counter:
    """A session whose frame is the number of its steps; it logs its batches."""

    def __init__(self, batch_key: str, batches: list[list[Counter]]) -> None:
        self.batch_key, self.batches = batch_key, batches
        self.n = 0
        self.fails = False

    def step(self, action: Any) -> StepResult:
        return self.step_batch([self], [action])[0]

    def step_batch(self, sessions: Sequence[Counter], actions: Sequence[Any]) -> list[StepResult]:
        self.batches.append(list(sessions))
        if any(session.fails for session in sessions):
            raise RuntimeError("the model is broken")
        for session, action in zip(sessions, actions, strict=True):
            session.n += action
        one = np.zeros(1)
        return [StepResult(frame=np.array([s.n]), reward=one, terminated=one, truncated=one) for s in sessions]

    def snapshot(self) -> int:
        return self.n


def together(work: Callable[[InferenceWorker], Any], n_pending: int) -> Any:
    """Run a coroutine with a worker that is busy until so many jobs are pending."""

    async def run() -> Any:
        worker = InferenceWorker()

        def block() -> None:
            while worker.n_pending <= n_pending:
                time.sleep(0.001)

        try:
            blocker = asyncio.ensure_future(worker.run(block, ClientQuota()))
            result = await work(worker)
            await blocker
            return result
        finally:
            worker.close()

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_steps_that_wait_run_as_one_batch_per_batch_key():
    batches: list[list[Counter]] = []
    sessions = [Counter("ab"[i % 2], batches) for i in range(6)]

    async def work(worker: InferenceWorker) -> list[TimedStep]:
        return await asyncio.gather(*(worker.step(s, i, ClientQuota()) for i, s in enumerate(sessions)))

    stepped = together(work, 6)
    assert [int(s.result.frame[0]) for s in stepped] == list(range(6)) == [s.snapshot for s in stepped]
    assert sorted(sorted(s.n for s in batch) for batch in batches) == [[0, 2, 4], [1, 3, 5]]


def test_a_batch_has_an_end():
    batches: list[list[Counter]] = []

    async def work(worker: InferenceWorker) -> None:
        await asyncio.gather(*(worker.step(Counter("a", batches), 1, ClientQuota()) for _ in range(MAX_BATCH + 3)))

    together(work, MAX_BATCH + 3)
    assert [len(batch) for batch in batches] == [MAX_BATCH, 3]


def test_one_that_fails_takes_nobody_along():
    batches: list[list[Counter]] = []
    sessions = [Counter("a", batches) for _ in range(3)]
    sessions[1].fails = True

    async def work(worker: InferenceWorker) -> list[Any]:
        return await asyncio.gather(*(worker.step(s, 1, ClientQuota()) for s in sessions), return_exceptions=True)

    first, second, third = together(work, 3)
    assert isinstance(second, RuntimeError) and first.snapshot == third.snapshot == 1


def test_who_is_cancelled_while_waiting_is_never_stepped():
    batches: list[list[Counter]] = []
    gone, stays = Counter("a", batches), Counter("a", batches)

    async def run() -> None:
        worker, may_go_on = InferenceWorker(), threading.Event()
        try:
            blocker = asyncio.ensure_future(worker.run(may_go_on.wait, ClientQuota()))
            leaving = asyncio.ensure_future(worker.step(gone, 1, ClientQuota()))
            await asyncio.sleep(0)
            leaving.cancel()
            staying = asyncio.ensure_future(worker.step(stays, 1, ClientQuota()))
            await asyncio.sleep(0)
            may_go_on.set()
            await asyncio.gather(blocker, staying)
        finally:
            may_go_on.set()
            worker.close()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert batches == [[stays]] and gone.n == 0


# ---------------------------------------------------------------- fairness, in simulated time


@dataclass(eq=False, kw_only=True)
class Person(Job):
    """Submits jobs of ``cost`` seconds, each ``pause`` seconds after the one before was done."""

    quota: ClientQuota = field(default_factory=ClientQuota)
    cost: float
    pause: float = 0.002
    period: float = 0.0
    """Seconds from one job to the next of a real-time world; it does not catch up."""
    n_jobs: int = 1
    """Submitted at the same time."""
    granted: int = 0

    @property
    def used(self) -> float:
        return self.granted * self.cost


def simulate(people: Sequence[Person], seconds: float = 60.0) -> None:
    """Simulate one world and its clients for a while."""
    scheduler: FairScheduler[Person] = FairScheduler()
    coming = [(0.0, i, p) for i, p in enumerate(p for p in people for _ in range(p.n_jobs))]
    n, now = len(coming), 0.0
    while now < seconds:
        coming.sort()
        while coming and coming[0][0] <= now:
            at, _, person = coming.pop(0)
            scheduler.add(person, at)
        batch = scheduler.take(now)
        if not batch:
            waits = [scheduler.eligible_at(p.quota, now) for p in scheduler.pending]
            now = min([at for at, _, _ in coming[:1]] + [at for at in waits if at > now])
            continue
        start, took = now, max(p.cost for p in batch)
        now += took
        scheduler.finished(batch, took, now)
        for person in batch:
            person.granted += 1
            n += 1
            coming.append((max(now + person.pause, start + person.period), n, person))


def shares(people: Sequence[Person], seconds: float = 60.0) -> list[float]:
    """Return the service time of each, relative to an equal part of the time, or to its demand if that is less."""
    simulate(people, seconds)
    fair = [min(seconds / len(people), seconds * p.cost / max(p.cost + p.pause, p.period)) for p in people]
    return [p.used / f for p, f in zip(people, fair, strict=True)]


SLOW, FAST = {"cost": 0.8}, {"cost": 0.02}
CROWDS = {
    "equal": [Person(**FAST) for _ in range(4)],
    "one with forty passes": [Person(**SLOW), Person(**FAST), Person(**FAST), Person(**FAST)],
    "one with forty passes, one in real time": [Person(**SLOW), Person(cost=0.02, period=0.1)],
    "one that resets all the time": [
        Person(cost=0.06, pause=0.0),
        *(Person(**FAST, batch_key="a") for _ in range(6)),
    ],
    "one with ten jobs at a time": [Person(cost=0.02, n_jobs=10), Person(**FAST), Person(**FAST)],
    "two with forty passes": [
        Person(**SLOW),
        Person(**SLOW),
        Person(**FAST),
        Person(**FAST),
        Person(**FAST),
    ],
    "one alone": [Person(cost=0.05)],
    "many in one batch and one other": [*(Person(cost=0.05, batch_key="a") for _ in range(40)), Person(**FAST)],
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_everybody_gets_at_least_half_of_a_fair_share(crowd):
    got = shares([replace(person, quota=ClientQuota()) for person in CROWDS[crowd]])
    assert min(got) >= 0.5, got


def test_one_who_is_alone_never_waits():
    person = Person(cost=0.05, pause=0.01)
    simulate([person], 60.0)
    assert person.granted >= 60 / 0.06 - 1


def test_players_of_one_batch_lose_no_time():
    """Those who were served together, and those who alternate, are served again at once."""
    people = [Person(cost=0.05, batch_key="a") for _ in range(8)]
    simulate(people, 60.0)
    assert min(p.granted for p in people) >= 0.9 * 60 / (2 * 0.052)


def test_who_comes_late_has_saved_nothing_up():
    scheduler: FairScheduler[Person] = FairScheduler()
    early, late = Person(cost=1.0), Person(cost=1.0)
    for now in range(50):
        scheduler.add(early, now)
        scheduler.finished(scheduler.take(now), 1.0, now + 1)
    order = []
    scheduler.add(early, 50), scheduler.add(late, 50)
    for now in range(50, 60):
        (one,) = scheduler.take(now)
        scheduler.finished([one], 1.0, now + 1)
        order.append(one is late)
        scheduler.add(one, now + 1)
    assert 4 <= sum(order) <= 6, order


# ---------------------------------------------------------------- real sessions behind a real server


@pytest.fixture(scope="module")
def world() -> World:
    return untrained("pocket", "discrete")


@pytest.fixture
def batches(monkeypatch) -> Iterator[list[int]]:
    """Sizes of the batches; a step lasts until all four players wait, until a batch was seen."""
    workers: list[InferenceWorker] = []
    sizes: list[int] = []
    step, step_batch = Session.step, Session.step_batch

    class Known(InferenceWorker):
        def __init__(self, n_threads: int = 1) -> None:
            super().__init__(n_threads)
            workers.append(self)

    def held(self: Session, action: Any = None) -> StepResult:
        deadline = time.monotonic() + 10
        while not sizes and workers and workers[0].n_pending < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        return step(self, action)

    def counted(sessions: Sequence[Session], actions: Sequence[Any]) -> list[Any]:
        sizes.append(len(sessions))
        return step_batch(sessions, actions)

    monkeypatch.setattr("reelworld.serve.world_pool.InferenceWorker", Known)
    monkeypatch.setattr(Session, "step", held)
    monkeypatch.setattr(Session, "step_batch", staticmethod(counted))
    yield sizes


def play_four(address: str, paths: Sequence[str], n_steps: int) -> list[np.ndarray]:
    """Let four players act at the same time, each with a seed and actions of its own; return their frames."""
    clients = [Client(address, path).__enter__() for path in paths]
    try:
        frames: list[list[np.ndarray]] = [[] for _ in clients]
        for i, client in enumerate(clients):
            read(client, 0)
            client.send(type="reset", id=1, seed=i)
            frames[i].append(read(client, 1))
        for t in range(n_steps):
            for i, client in enumerate(clients):
                client.send(type="act", id=2 + t, actions={"action": (t + i) % 4})
            for i, client in enumerate(clients):
                frames[i].append(read(client, 2 + t))
        return [np.stack(f) for f in frames]
    finally:
        for client in clients:
            client.__exit__(None, None, None)


def read(client: Client, input_id: int) -> np.ndarray:
    message = client.message()
    assert message["input"] == input_id
    return np.asarray(Image.open(io.BytesIO(message["image"])))


def alone(world: World, seed: int, n_steps: int) -> np.ndarray:
    session = world.session()
    shown = [session.reset(seed=seed).frame[0]]
    shown += [session.step({"action": np.array([(t + seed) % 4])}).frame[0] for t in range(n_steps)]
    return np.stack(shown)


def test_players_of_one_world_step_together_and_see_what_they_would_see_alone(world, batches):
    expected = [alone(world, seed, 6) for seed in range(4)]
    assert len({frames.tobytes() for frames in expected}) == 4
    with running(world) as address:
        seen = play_four(address, ["/api/play"] * 4, 6)
    assert max(batches) >= 3
    for one, other in zip(seen, expected, strict=True):
        assert np.abs(one.astype(np.int16) - other).max() <= 1  # batches of two sizes add up in another order


def test_equal_worlds_step_together_too(world, batches):
    weights: list[World] = []

    def load() -> World:
        weights.append(world)
        return world

    names = ("first", "copy")
    shelf = WorldLibrary([WorldEntry(name=name, load=load, fingerprint="same") for name in names])
    with running(shelf) as address:
        play_four(address, [f"/api/play?world={i % 2}" for i in range(4)], 2)
    assert len(weights) == 1 and max(batches) >= 3


def n_caches() -> int:
    gc.collect()
    return sum(type(thing) is FrameCache for thing in gc.get_objects())


def test_who_leaves_a_batch_is_forgotten(world, batches):
    before = n_caches()
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()
    opened = World.session

    class Watched(World):
        def session(self, n: int = 1, seed: int | None = None) -> Session:
            sessions.add(session := opened(self, n, seed))
            return session

    watched = Watched(**{k: v for k, v in vars(world).items() if not k.startswith("_")})
    with running(watched) as address:
        play_four(address, ["/api/play"] * 4, 3)
        deadline = time.monotonic() + 10
        while (n_caches() > before or len(sessions)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(sessions) == 0 and n_caches() == before and max(batches) >= 3


def test_what_a_session_keeps_of_a_batch_is_its_own(world):
    """Else every moment of one player would keep those of all the others."""
    sessions = [world.session(seed=i) for i in range(8)]
    for session in sessions:
        session.reset()
    alone = world.session(seed=0)
    alone.reset()
    result = alone.step(1)
    together = Session.step_batch(sessions, [1] * 8)[0]
    assert isinstance(together, StepResult)
    assert count_bytes(sessions[0].snapshot()) == count_bytes(alone.snapshot())
    assert together.frame.base is None and together.frame.nbytes == result.frame.nbytes
    assert count_bytes(sessions[0]._state) == count_bytes(alone._state)


@pytest.mark.parametrize("n_given_up", [1, 2])
def test_frames_made_together_are_made_for_those_who_still_want_them(n_given_up, monkeypatch):
    world = untrained("videogpt", "none")
    decode, decoded = world.model.tokenizer.decode, []
    monkeypatch.setattr(world.model.tokenizer, "decode", lambda codes: decoded.append(codes) or decode(codes))
    sessions, lone, told = [world.session(seed=i) for i in range(2)], world.session(seed=1), [0, 0]

    def watch(i: int, share: float, n_frames: int) -> None:
        told[i] += 1
        if i < n_given_up and told[i] == 3:
            raise RuntimeError(f"{i} has left")

    for i, session in enumerate(sessions):
        session.watch = partial(watch, i)
        session.reset(seed=i)
    lone.reset(seed=1)
    before = [session.frame for session in sessions]
    first, second = Session.step_batch(sessions, [None, None])
    assert str(first) == "0 has left" and told[0] == 3
    assert sessions[0].n_steps == 0 and np.array_equal(sessions[0].frame, before[0])
    if n_given_up == 2:
        assert str(second) == "1 has left" and told[1] == 3 and not decoded
        sessions[1].watch = None
        assert sessions[1].step().frame.shape == before[1].shape  # it stands where it stood
    else:
        assert isinstance(second, StepResult) and told[1] > 3
        assert np.array_equal(second.info["codes"], lone.step().info["codes"])


def test_sessions_that_do_not_fit_are_one_line(world):
    one, other = world.session(seed=0), world.session(seed=0)
    with pytest.raises(UserError, match="was reset"):
        Session.step_batch([one, other], [0, 0])
    one.reset(), other.reset()
    other.sampler = type(one.sampler)(temperature=0.5, steps=3)
    with pytest.raises(UserError, match="different batch_key"):
        Session.step_batch([one, other], [0, 0])
