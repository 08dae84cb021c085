"""Folder of episodes that a person plays: written one by one, each beside a video of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from reelworld.config import to_json
from reelworld.data.episodes import DataInfo, Episode
from reelworld.data.formats.episode_folder import INFO_FILE, read_info, write_episode, write_info
from reelworld.data.splits import assign_splits
from reelworld.files import FolderLock
from reelworld.media import encode_mp4, viewing_scale, write_file
from reelworld.types import Clip, UserError

VIDEOS = "videos"
"""Folder of the videos inside a recording."""


@dataclass(frozen=True, kw_only=True)
class SavedEpisode:
    """Files of an episode, relative to the recording."""

    episode: str
    video: str
    n_frames: int

    def describe(self) -> dict[str, object]:
        """Return its message to a client."""
        return {"type": "recorded", "episode": self.episode, "video": self.video, "frames": self.n_frames}


class EpisodeWriter:
    """A folder of played episodes: ``dataset.json``, one .npz per episode, and one mp4 each in ``videos/``."""

    def __init__(self, folder: Path, info: DataInfo, stem: str, fps: float) -> None:
        """Prepare the folder.

        Args:
            folder: Created when missing. Earlier recordings of the same source stay.
            info: Properties of the episodes; the entries ``made_by`` and ``simulator`` of its provenance tell sources
                apart.
            stem: First part of the names of episodes.
            fps: Frames per second of the videos.

        Raises:
            UserError: If the folder has another recording, or cannot be written.
        """
        self._folder, self._info, self._stem, self._fps = folder, info, stem, fps
        self._lock = threading.Lock()  # several clients' episodes may end at the same time
        self._read_episodes()
        try:
            (folder / VIDEOS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot record into {folder} ({error.strerror}); choose another folder.") from None

    def save(self, clip: Clip) -> SavedEpisode:
        """Write one episode and its video; waits for other threads and processes that write.

        Raises:
            UserError: If the disk is full, or another program records into the folder.
        """
        with self._lock, FolderLock(self._folder, "recording into"):
            episodes = self._read_episodes()
            name = self._free_name()
            video = encode_mp4(clip.frames, self._fps, scale=viewing_scale(clip.frames, 256))
            write_file(self._folder / VIDEOS / f"{name}.mp4", video)
            write_episode(self._folder / f"{name}.npz", clip)
            lengths = {e.source: e.n_frames for e in episodes} | {name: len(clip.frames)}
            known = {e.source: e.split for e in episodes}
            splits = assign_splits(list(lengths), self._info.split_seed, known)
            listed = [Episode(source=s, n_frames=n, split=splits[s], file=f"{s}.npz") for s, n in lengths.items()]
            write_info(self._folder, self._info, listed)
        return SavedEpisode(episode=f"{name}.npz", video=f"{VIDEOS}/{name}.mp4", n_frames=len(clip.frames))

    def _read_episodes(self) -> list[Episode]:
        """Return the episodes of earlier recordings, which must be of the same source."""
        if not (self._folder / INFO_FILE).is_file():
            return []
        info, episodes = read_info(self._folder)
        own = self._info
        is_equal = (info.height, info.width, to_json(info.actions)) == (own.height, own.width, to_json(own.actions))
        if not is_equal or any(info.provenance.get(k) != own.provenance.get(k) for k in ("made_by", "simulator")):
            raise UserError(f"{self._folder} holds another recording; choose a folder of its own for this one.")
        return episodes

    def _free_name(self) -> str:
        stem = f"{self._stem}-played-{time.strftime('%Y%m%d-%H%M%S')}"
        names = [stem, *(f"{stem}-{i}" for i in range(2, 1000))]
        return next(n for n in names if not (self._folder / f"{n}.npz").exists())
