"""Loaded worlds of one server: load on demand, unload idle ones, and count the clients of all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import QueryParams

from reelworld.data.writers.played import EpisodeWriter
from reelworld.serve.config import ServeConfig
from reelworld.serve.controls import Controls
from reelworld.serve.initial_contexts import MAX_INITIAL_CONTEXTS, describe_initial_contexts
from reelworld.serve.interfaces import Playable, features_of, play_fps
from reelworld.serve.library import WorldEntry, WorldLibrary
from reelworld.serve.player import Player
from reelworld.serve.protocol import PROTOCOL
from reelworld.serve.recording import writer_of
from reelworld.serve.scheduler import ClientQuota, InferenceWorker

if TYPE_CHECKING:
    from reelworld.serve.reference_env import ReferenceEnv

MAX_LOADED = 4
"""Worlds that stay loaded without clients."""


@dataclass
class Client:
    """A connected client."""

    player: Player
    accepts_images: bool
    next_upload: float = 0.0
    """Time from which on it may upload another image."""


@dataclass
class LoadedWorld:
    """A loaded world with its worker and its clients."""

    world: Playable
    card: str
    worker: InferenceWorker
    writer: EpisodeWriter | None
    allow_code: Sequence[str]
    in_gallery: bool
    n_requests: int = 0
    """Requests and connections that use it now."""
    clients: dict[str, Client] = field(default_factory=dict)
    """By their secret key."""
    _reference_env: ReferenceEnv | None = None
    _has_searched: bool = False
    _searching: asyncio.Lock = field(default_factory=asyncio.Lock)
    _initial_contexts: dict[str, object] | None = None

    async def reference_env(self) -> ReferenceEnv | None:
        """Return the environment of the world; searched for on the first call."""
        async with self._searching:
            if not self._has_searched and self.world.spec.actions:
                from reelworld.serve.reference_env import find_reference_env  # imports gymnasium, a second of start-up

                # In the worker's thread, like sessions: some renderers must stay in the thread that created them.
                search = partial(find_reference_env, self.world, self.allow_code)
                self._reference_env = await self.worker.run(search, ClientQuota())
            self._has_searched = True
        return self._reference_env

    async def initial_contexts(self) -> dict[str, object]:
        """Return the pictures of the recorded clips."""
        if self._initial_contexts is None:
            self._initial_contexts = await asyncio.to_thread(describe_initial_contexts, self.world.initial_contexts)
        return self._initial_contexts

    def hello(self, playable: Playable, env: ReferenceEnv | None) -> dict[str, object]:
        """Return the first message to a client, who plays the world or the world side by side with its environment."""
        info, spec = playable.info, playable.spec
        features, controls = features_of(playable), Controls(spec.actions)
        sampler = {"temperature": info.sampler.temperature, "steps": info.sampler.steps}
        return {
            "type": "hello",
            "protocol": PROTOCOL,
            "name": info.name,
            "system": info.system,
            "width": spec.width,
            "height": spec.height,
            "fps": play_fps(spec),
            "turn_based": controls.is_turn_based,
            "paused": not controls.is_turn_based,
            "gallery": self.in_gallery,
            "views": list(features.views),
            "action_repeat": features.action_repeat,
            "rewind": features.rewind,
            "action_previews": features.action_previews,
            "image_upload": features.initial_contexts,
            "reference_env": None if env is None else {"name": env.name, "problem": env.problem},
            "record": self.writer_of(playable) is not None,
            "initial_contexts": min(len(playable.initial_contexts), MAX_INITIAL_CONTEXTS),
            "sampler": sampler if features.sampler else None,
            "actions": controls.describe(),
        }

    def writer_of(self, playable: Playable) -> EpisodeWriter | None:
        """Return the destination of recordings; side by side nothing is recorded."""
        return self.writer if len(features_of(playable).views) == 1 else None


class WorldPool:
    """Loaded worlds of one server.

    Attributes:
        n_clients: Clients of all worlds.
    """

    def __init__(self, worlds: Playable | WorldLibrary, config: ServeConfig) -> None:
        self.config, self.n_clients = config, 0
        self.is_gallery = isinstance(worlds, WorldLibrary)
        self._loaded: dict[int, LoadedWorld] = {}
        self._loading = asyncio.Lock()
        if isinstance(worlds, WorldLibrary):
            self.library = worlds
        else:
            self.library = WorldLibrary([WorldEntry(name=worlds.info.name, load=lambda: worlds, card=config.card)])
            self._add(0, worlds, config.record)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Count a client while it plays."""
        self.n_clients += 1
        try:
            yield
        finally:
            self.n_clients -= 1

    @contextlib.asynccontextmanager
    async def open(self, query: QueryParams) -> AsyncIterator[LoadedWorld]:
        """Load the world that a client names and keep it loaded meanwhile.

        Raises:
            UnknownWorld: If there is no such world.
            UserError: If it cannot be loaded.
        """
        index = self.library.index(query.get("world", ""))
        async with self._loading:
            if index not in self._loaded:
                idle = [i for i, loaded in self._loaded.items() if not loaded.n_requests]
                for i in idle[: max(0, len(self._loaded) - MAX_LOADED + 1)]:
                    self._unload(i)
                world = await asyncio.to_thread(self.library.load, index)
                record = self.config.record
                self._add(index, world, record and record / self.library.entries[index].folder_name)
            loaded = self._loaded[index]
            loaded.n_requests += 1
        try:
            yield loaded
        finally:
            loaded.n_requests -= 1

    def close(self) -> None:
        """Stop all workers."""
        for loaded in self._loaded.values():
            loaded.worker.close()

    def _add(self, index: int, world: Playable, record: Path | None) -> None:
        """Add a loaded world; copies of one world share a worker."""
        workers = (loaded.worker for loaded in self._loaded.values() if loaded.world is world)
        self._loaded[index] = LoadedWorld(
            world=world,
            card=self.library.entries[index].card,
            worker=next(workers, None) or InferenceWorker(self.config.n_threads),
            writer=None if record is None else writer_of(record, world),
            allow_code=self.config.allow_code,
            in_gallery=self.is_gallery,
        )

    def _unload(self, index: int) -> None:
        worker = self._loaded.pop(index).worker
        if all(loaded.worker is not worker for loaded in self._loaded.values()):
            worker.close(wait=False)
