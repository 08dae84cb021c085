"""Toy worlds with known pixels, and a real server on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn

from reelworld.models.samplers import SamplerConfig
from reelworld.serve.app import create_app
from reelworld.serve.config import Limits, ServeConfig
from reelworld.serve.server import configure, find_port
from reelworld.types import ActionSpec, Clip, ModelSpec, StepResult, UserError

SIZE, TILE = 32, 4


@dataclass
class Info:
    name: str = "Square"
    system: str = "test"
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    provenance: Mapping[str, Any] = field(default_factory=dict)


class SquareSession:
    """A red square on grey; it starts in a cell given by the seed, and the cell (7, 7) ends the episode."""

    watch: Any = None

    def __init__(self, world: SquareWorld) -> None:
        self.world = world
        self.sampler = world.info.sampler
        self.cell = np.array([0, 0])

    def reset(
        self, context_frames: np.ndarray | None = None, context_actions: Any = None, seed: int | None = None
    ) -> StepResult:
        self.cell = np.array([(seed or 0) % 8, 0])
        if context_frames is not None:
            if len(context_frames) < self.world.least_context:
                raise UserError("more frames are needed.")
            self.world.contexts.append((context_frames, context_actions))
            found = np.argwhere((context_frames[-1] == (255, 0, 0)).all(-1))
            self.cell = found[0][::-1] // TILE if len(found) else np.array([0, 0])
        return self._result(0.0)

    def snapshot(self) -> np.ndarray:
        return self.cell.copy()

    def restore(self, snapshot: np.ndarray) -> None:
        self.cell = snapshot.copy()

    def fork(self, n: int) -> Forks:
        self.world.forks.append(n)
        forks = Forks(self, n)
        self.cell = np.array([0, 7])  # stands for the random numbers that forking takes from a game
        return forks

    def step(self, action: Any) -> StepResult:
        time.sleep(self.world.step_seconds)
        if self.world.fails:
            raise RuntimeError("the model is broken")
        self.world.taken.append(action)
        self.world.temperatures.append(self.sampler.temperature)
        self.cell = np.clip(self.cell + self.world.move(action), 0, 7)
        return self._result(0.5)

    def _result(self, reward: float) -> StepResult:
        frame = np.full((1, self.world.spec.height, self.world.spec.width, 3), 90, np.uint8)
        x, y = self.cell * TILE
        frame[0, y : y + TILE, x : x + TILE] = (255, 0, 0)
        return StepResult(
            frame=frame,
            reward=np.array([reward], np.float32),
            terminated=np.array([(self.cell == 7).all()]),
            truncated=np.array([False]),
        )


class Forks:
    """Several squares that go on from one."""

    def __init__(self, session: SquareSession, n: int) -> None:
        self.world, self.cells = session.world, [session.cell.copy() for _ in range(n)]

    def step(self, action: Any) -> StepResult:
        frames = []
        for i, cell in enumerate(self.cells):
            one = SquareSession(SquareWorld(self.world.spec))
            one.cell = cell
            frames.append(one.step({k: v[i : i + 1] for k, v in action.items()}).frame[0])
            self.cells[i] = one.cell
        no = np.zeros(len(frames), bool)
        return StepResult(frame=np.stack(frames), reward=no.astype(np.float32), terminated=no, truncated=no)


@dataclass
class SquareWorld:
    spec: ModelSpec
    info: Info = field(default_factory=Info)
    step_seconds: float = 0.0
    fails: bool = False
    taken: list[Any] = field(default_factory=list)
    temperatures: list[float] = field(default_factory=list)
    forks: list[int] = field(default_factory=list)
    initial_contexts: list[Clip] = field(default_factory=list)
    least_context: int = 0
    contexts: list[Any] = field(default_factory=list)
    sessions: weakref.WeakSet[SquareSession] = field(default_factory=weakref.WeakSet)

    def session(self, n: int = 1, seed: int | None = None) -> SquareSession:
        assert n == 1
        session = SquareSession(self)
        self.sessions.add(session)
        return session

    def move(self, action: Any) -> np.ndarray:
        if action is None:
            return np.array([1, 0])
        (value,) = action["action"]
        return np.array(
            [(1, 0), (0, 1), (-1, 0)][value % 3] if np.ndim(value) == 0 else np.round(value), dtype=np.int64
        )


def picture(x: int, y: int) -> np.ndarray:
    """A frame with the square in a cell."""
    frame = np.full((SIZE, SIZE, 3), 90, np.uint8)
    frame[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE] = (255, 0, 0)
    return frame


def square_spec(**kwargs: Any) -> ModelSpec:
    return ModelSpec(height=SIZE, width=SIZE, context=(1, 3, None), **kwargs)


def turn_world(**kwargs: Any) -> SquareWorld:
    spec = ActionSpec(
        kind="discrete", n=3, names=("right", "down", "left"), keys={"ArrowRight": 0, "ArrowDown": 1, "Space": 2}
    )
    return SquareWorld(square_spec(actions={"action": spec}), **kwargs)


def time_world(fps: float = 20.0, **kwargs: Any) -> SquareWorld:
    spec = ActionSpec(
        kind="continuous", n=2, low=(-1.0, -1.0), high=(1.0, 1.0), null=(0.0, 0.0), names=("steer", "gas")
    )
    return SquareWorld(square_spec(fps=fps, actions={"action": spec}), **kwargs)


def film_world(**kwargs: Any) -> SquareWorld:
    return SquareWorld(square_spec(fps=20.0), **kwargs)


class WindowSession(SquareSession):
    """Makes three frames at once, a token at a time, whenever the test lets it."""

    n_made = 0

    def reset(self, *args: Any, **kwargs: Any) -> StepResult:
        self.n_made = 0
        return super().reset(*args, **kwargs)

    def step(self, action: Any) -> StepResult:
        if self.n_made == 0:
            for i in range(1, 41):
                self.world.tokens.acquire(timeout=5)
                try:
                    self.watch(i / 40, 3)
                except Exception:
                    self.world.given_up.set()
                    raise
            self.n_made = 3
        self.n_made -= 1
        return super().step(action)


@dataclass
class WindowWorld(SquareWorld):
    """A world without actions in which every third frame takes as long as the test wants."""

    tokens: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    given_up: threading.Event = field(default_factory=threading.Event)

    def session(self, n: int = 1, seed: int | None = None) -> WindowSession:
        return WindowSession(self)


def window_world() -> WindowWorld:
    return WindowWorld(square_spec(fps=20.0))


class QuickServer(uvicorn.Server):
    """A server that notices its end within milliseconds instead of a tenth of a second."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)


SETTINGS = ("card", "record", "allow_code", "trusted_hosts", "root_path")


@contextlib.contextmanager
def running(world: SquareWorld, limits: Limits | None = None, port: int = 0, **kwargs: Any) -> Iterator[str]:
    """Serve a world; yields the host and port."""
    listener = find_port("127.0.0.1", port)
    settings = {name: kwargs.pop(name) for name in SETTINGS if name in kwargs}
    app = create_app(world, ServeConfig(limits=limits or Limits(), **settings), **kwargs)
    server = QuickServer(configure(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        server.force_exit = True  # a connection that a busy machine has not closed yet is not waited for
        thread.join(timeout=50)
        listener.close()
        assert not thread.is_alive()
