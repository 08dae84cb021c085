"""Recording of played episodes: a data set, and one video per episode.

``EpisodeBuffer`` holds the current episode; rewinding removes steps from it, so that an episode contains exactly the
steps that lead to its last frame. ``writer_of`` prepares one folder, which the server's command line names; no client
ever names a file. ``Recorder`` connects the two for one client.

Shapes: T frames, H W pixel rows and columns
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelworld.data.episodes import DataInfo
from reelworld.data.formats.episode_folder import INFO_FILE, read_info
from reelworld.data.writers.played import VIDEOS, EpisodeWriter
from reelworld.files import LOCK_FILE
from reelworld.serve.controls import Controls
from reelworld.serve.interfaces import Playable, PlayableInfo, play_fps
from reelworld.serve.library import slugify
from reelworld.serve.protocol import ProtocolError
from reelworld.types import Clip, UserError


class EpisodeBuffer:
    """The current episode, up to a number of bytes."""

    def __init__(self, controls: Controls, max_bytes: int) -> None:
        self._null = {name: rows[0] for name, rows in controls.null().items()}
        self._max_bytes = max_bytes
        self._frames: list[np.ndarray] = []
        self._rows: list[tuple[Mapping[str, np.ndarray], float, bool, bool]] = []

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_full(self) -> bool:
        """True when another frame would exceed the limit."""
        return bool(self._frames) and (len(self._frames) + 1) * self._frames[0].nbytes > self._max_bytes

    def start(self, frame: np.ndarray) -> None:
        """Drop the old episode and start one with a frame, uint8 (H, W, 3)."""
        self._frames, self._rows = [frame], []

    def add(
        self,
        frame: np.ndarray,
        actions: Mapping[str, np.ndarray],
        reward: float,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        """Add a step: the actions, one row per stream, (1,) or (1, A), and the frame after them."""
        rows = {name: actions[name][0] for name in self._null}
        self._frames.append(frame)
        self._rows.append((rows, reward, terminated, truncated))

    def rewind(self, n_steps: int, frame: np.ndarray) -> None:
        """Remove the last steps; when there are fewer, restart at ``frame``."""
        if n_steps >= len(self._frames):
            self.start(frame)
        elif n_steps:
            del self._frames[-n_steps:], self._rows[-n_steps:]

    def clip(self) -> Clip | None:
        """Return the episode; None when it has no step."""
        if not self._rows:
            return None
        rows = [*self._rows, (self._null, 0.0, False, False)]  # the last row is padding
        return Clip(
            frames=np.stack(self._frames),
            actions={name: np.stack([row[0][name] for row in rows]) for name in self._null},
            rewards=np.array([row[1] for row in rows], np.float32),
            terminated=np.array([row[2] for row in rows]),
            truncated=np.array([row[3] for row in rows]),
        )


def writer_of(folder: Path, world: Playable) -> EpisodeWriter:
    """Prepare a folder for the played episodes of a world.

    Raises:
        UserError: If the folder has another recording, or cannot be written.
    """
    spec = world.spec
    info = DataInfo(
        fps=spec.fps,
        height=spec.height,
        width=spec.width,
        actions={name: replace(stream, repeat=1) for name, stream in spec.actions.items()},
        provenance=_provenance(world.info),
    )
    return EpisodeWriter(folder, info, slugify(world.info.name), play_fps(spec))


def _provenance(info: PlayableInfo) -> dict[str, object]:
    """Return the provenance of a recording: the world, or the simulator of a real environment."""
    if "simulator" in info.provenance:
        return {"kind": "played", "made_by": "reelworld record --play", **info.provenance}
    return {"made_by": "reelworld play", "world": info.name, "system": info.system}


class Recorder:
    """Recording of one client: buffers the current episode and writes finished ones in the background.

    Attributes:
        writer: Destination of the episodes; None where recording is off for the whole server.
        max_bytes: Size of the episode buffer.
        record_all: Continue with another episode when the buffer is full, instead of stopping.
        notify: Sends a JSON message to the client.
    """

    def __init__(
        self,
        controls: Controls,
        writer: EpisodeWriter | None,
        notify: Callable[[dict[str, object]], None],
        max_bytes: int = 1 << 28,
        record_all: bool = False,
    ) -> None:
        self.writer, self.max_bytes, self.record_all, self.notify = writer, max_bytes, record_all, notify
        self._controls = controls
        self._buffer: EpisodeBuffer | None = None
        self._writes: set[asyncio.Task[None]] = set()

    def switch(self, on: bool, frame: np.ndarray | None) -> None:
        """Start recording at a frame, None before the first one; or write the current episode and stop.

        Raises:
            ProtocolError: If the server does not record.
        """
        if self.writer is None:
            raise ProtocolError("nothing is recorded here; start the server with --record FOLDER")
        if not on:
            self._write()
            self._buffer = None
        elif self._buffer is None:
            self._buffer = EpisodeBuffer(self._controls, self.max_bytes)
            if frame is not None:
                self._buffer.start(frame)
        self.notify({"type": "recording", "on": self._buffer is not None})

    def start_episode(self, frame: np.ndarray) -> None:
        """Write the current episode and start another."""
        if self._buffer is not None:
            self._write()
            self._buffer.start(frame)

    def add(
        self, frame: np.ndarray, actions: Mapping[str, np.ndarray], reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Add a step; an episode that has ended, or fills the buffer, is written."""
        if self._buffer is None:
            return
        self._buffer.add(frame, actions, reward, terminated, truncated)
        if self._buffer.is_full and not self.record_all:
            self.switch(False, None)
        elif terminated or truncated or self._buffer.is_full:
            self.start_episode(frame)

    def rewind(self, n_steps: int, frame: np.ndarray) -> None:
        """Remove the last steps."""
        if self._buffer is not None:
            self._buffer.rewind(n_steps, frame)

    async def close(self) -> None:
        """Write the current episode and wait until all are written."""
        self._write()
        self._buffer = None
        await asyncio.gather(*self._writes)

    def _write(self) -> None:
        """Write the current episode in a thread."""
        clip = self._buffer.clip() if self._buffer else None
        if clip is None or self.writer is None:
            return
        task = asyncio.ensure_future(self._save(self.writer, clip))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _save(self, writer: EpisodeWriter, clip: Clip) -> None:
        try:
            self.notify((await asyncio.to_thread(writer.save, clip)).describe())
        except UserError as error:
            self._buffer = None
            self.notify({"type": "recording", "on": False, "problem": str(error)})


def check_folder(folder: Path) -> None:
    """Refuse a folder with other contents than a recording.

    Raises:
        UserError: If it is a file, or a folder with other files than a recording's.
    """
    own = {VIDEOS, LOCK_FILE}
    if folder.is_file() or (
        folder.is_dir() and not (folder / INFO_FILE).exists() and any(p.name not in own for p in folder.iterdir())
    ):
        raise UserError(f"{folder} exists and is no recording; choose another folder or empty it.")


def discard_if_empty(folder: Path) -> None:
    """Remove the folders of a recording without episodes."""
    for path in (folder / VIDEOS, folder):
        with suppress(OSError):  # not empty
            path.rmdir()


def count_episodes(folder: Path) -> tuple[int, int]:
    """Count the episodes of a recording and their frames."""
    episodes = read_info(folder)[1] if (folder / INFO_FILE).is_file() else []
    return len(episodes), sum(episode.n_frames for episode in episodes)
