"""What is played becomes a data set, and a film of every episode to show.

``Tape`` keeps the episode that is being played; going back in the game takes the same steps off the tape, so that
an episode is what led to its last frame. ``Archive`` writes whole episodes into one folder, which the person who
started the server chose; no client ever names a file.

Shapes: T frames, H W pixel rows and columns
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reelworld.config import to_json
from reelworld.data.folder import INFO_FILE, DataInfo, Episode, read_info, write_episode, write_info
from reelworld.data.splits import assign_splits
from reelworld.files import LOCK_FILE, FolderLock
from reelworld.media import encode_mp4, viewing_scale, write_file
from reelworld.serve.controls import Controls
from reelworld.serve.playable import PlayableInfo
from reelworld.types import Clip, UserError

__all__ = ["FILMS", "Archive", "Saved", "Tape", "check_folder", "describe_saved", "discard_if_empty", "summarize"]

FILMS = "films"
"""Folder of the films inside an archive."""


class Tape:
    """The episode that is being played, up to a number of bytes."""

    def __init__(self, controls: Controls, max_bytes: int) -> None:
        self._rest = {name: rows[0] for name, rows in controls.rest().items()}
        self._max_bytes = max_bytes
        self._frames: list[np.ndarray] = []
        self._rows: list[tuple[Mapping[str, np.ndarray], float, bool, bool]] = []

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_full(self) -> bool:
        """True when another frame would take more room than there is."""
        return bool(self._frames) and (len(self._frames) + 1) * self._frames[0].nbytes > self._max_bytes

    def begin(self, frame: np.ndarray) -> None:
        """Start with a frame, uint8 (H, W, 3); what was there is forgotten."""
        self._frames, self._rows = [frame], []

    def add(
        self,
        frame: np.ndarray,
        actions: Mapping[str, np.ndarray],
        reward: float,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        """Add a step: the actions, one row per stream, (1,) or (1, A), and the frame they led to."""
        rows = {name: actions[name][0] for name in self._rest}
        self._frames.append(frame)
        self._rows.append((rows, reward, terminated, truncated))

    def back(self, n_steps: int, frame: np.ndarray) -> None:
        """Take the last steps off; with more steps than there are, begin at ``frame``."""
        if n_steps >= len(self._frames):
            self.begin(frame)
        elif n_steps:
            del self._frames[-n_steps:], self._rows[-n_steps:]

    def clip(self) -> Clip | None:
        """Return the episode; None when no step was taken."""
        if not self._rows:
            return None
        rows = [*self._rows, (self._rest, 0.0, False, False)]  # the last row is padding
        return Clip(
            frames=np.stack(self._frames),
            actions={name: np.stack([row[0][name] for row in rows]) for name in self._rest},
            rewards=np.array([row[1] for row in rows], np.float32),
            terminated=np.array([row[2] for row in rows]),
            truncated=np.array([row[3] for row in rows]),
        )


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Where an episode went, relative to the archive."""

    episode: str
    film: str
    n_frames: int


class Archive:
    """A folder of played episodes: ``dataset.json``, one .npz per episode, and films/ with one mp4 each."""

    def __init__(self, folder: Path, world: PlayableInfo, fps: float) -> None:
        """Get the folder ready.

        Args:
            folder: Where it goes; made when it is not there. What was played there before stays.
            world: What is played.
            fps: Frames per second of the films, and of the data set where the world says none.

        Raises:
            UserError: If another recording is there, or it cannot be written.
        """
        self._folder, self._fps = folder, fps
        self._slug = re.sub(r"[^a-z0-9]+", "-", world.name.lower()).strip("-")[:60] or "world"
        self._lock = threading.Lock()  # players end at the same time
        self._info = DataInfo(
            fps=world.fps,
            height=world.height,
            width=world.width,
            actions={name: replace(spec, repeat=1) for name, spec in world.actions.items()},
            provenance=_made_from(world),
        )
        self._check()
        try:
            (folder / FILMS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot record into {folder} ({error.strerror}); choose another folder.") from None

    def save(self, clip: Clip) -> Saved:
        """Write one episode and its film; waits for other players' and other processes' writing.

        Raises:
            UserError: If the disk is full, or somebody else is recording into the folder.
        """
        with self._lock, FolderLock(self._folder, "recording into"):
            episodes = self._check()
            name = self._free_name()
            write_file(
                self._folder / FILMS / f"{name}.mp4",
                encode_mp4(clip.frames, self._fps, scale=viewing_scale(clip.frames, 256)),
            )
            write_episode(self._folder / f"{name}.npz", clip)
            lengths = {e.source: e.n_frames for e in episodes} | {name: len(clip.frames)}
            known = {e.source: e.split for e in episodes}
            splits = assign_splits(list(lengths), self._info.split_seed, known)
            listed = [Episode(source=s, n_frames=n, split=splits[s], file=f"{s}.npz") for s, n in lengths.items()]
            write_info(self._folder, self._info, listed)
        return Saved(episode=f"{name}.npz", film=f"{FILMS}/{name}.mp4", n_frames=len(clip.frames))

    def _check(self) -> list[Episode]:
        """Return the episodes that are there already."""
        if not (self._folder / INFO_FILE).is_file():
            return []
        info, episodes = read_info(self._folder)
        same = all(to_json(getattr(info, k)) == to_json(getattr(self._info, k)) for k in ("height", "width", "actions"))
        ours = self._info.provenance
        if not same or any(info.provenance.get(k) != ours.get(k) for k in ("made_by", "simulator")):
            raise UserError(f"{self._folder} holds another recording; choose a folder of its own for this one.")
        return episodes

    def _free_name(self) -> str:
        stem = f"{self._slug}-played-{time.strftime('%Y%m%d-%H%M%S')}"
        names = [stem, *(f"{stem}-{i}" for i in range(2, 1000))]
        return next(n for n in names if not (self._folder / f"{n}.npz").exists())


def _made_from(world: PlayableInfo) -> dict[str, Any]:
    """Say where a recording comes from: a world, or the simulator of a real game."""
    if "simulator" in world.provenance:
        return {"kind": "played", "made_by": "reelworld record --play", **world.provenance}
    return {"made_by": "reelworld play", "world": world.name, "recipe": world.recipe}


def check_folder(folder: Path) -> None:
    """Refuse a folder that something else is in.

    Raises:
        UserError: If there is a file, or a folder with other things than an archive's.
    """
    ours = {FILMS, LOCK_FILE}
    if folder.is_file() or (
        folder.is_dir() and not (folder / INFO_FILE).exists() and any(p.name not in ours for p in folder.iterdir())
    ):
        raise UserError(f"{folder} exists and is no recording; choose another folder or empty it.")


def discard_if_empty(folder: Path) -> None:
    """Take away an archive's folders that nothing was written into."""
    for path in (folder / FILMS, folder):
        with suppress(OSError):  # something is in there
            path.rmdir()


def summarize(folder: Path) -> tuple[int, int]:
    """Count the episodes of an archive and their frames."""
    episodes = read_info(folder)[1] if (folder / INFO_FILE).is_file() else []
    return len(episodes), sum(episode.n_frames for episode in episodes)


def describe_saved(saved: Saved) -> dict[str, Any]:
    """Return the message that tells a client of it."""
    return {"type": "recorded", "episode": saved.episode, "film": saved.film, "frames": saved.n_frames}
