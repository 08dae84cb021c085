"""A data set as codes: what a tokenizer made of every frame, with the actions that belong to them.

A folder with one uncompressed .npz per episode and ``store.json``, which is written last: a store that was not
finished cannot be opened, but can be continued. ``train/tokenize.py`` writes it; windows read it like frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reelworld.config import from_json, read_json
from reelworld.data.episode_slices import read_rows
from reelworld.data.folder import DataInfo, Episode
from reelworld.data.npz import ArrayFiles, Unreadable, read_members
from reelworld.data.splits import SPLITS
from reelworld.files import write_json, write_npz
from reelworld.types import TokenSpec, UserError

__all__ = ["CodeStore", "CodeStoreWriter"]

STORE_VERSION = 1
STORE_FILE = "store.json"
PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a store holds or will hold."""

    format_version: int = STORE_VERSION
    identity: str
    """What the codes depend on, e.g. the hash of the tokenizer's weights."""
    info: DataInfo
    tokens: TokenSpec
    episodes: tuple[Episode, ...]


def _episode_file(number: int) -> str:
    return f"{number:06d}.npz"


class CodeStoreWriter:
    """Writes a token store episode by episode; a new writer on the same folder goes on where one stopped."""

    def __init__(
        self, folder: Path, *, info: DataInfo, episodes: Sequence[Episode], tokens: TokenSpec, identity: str
    ) -> None:
        """Start or continue a store.

        Args:
            folder: Where it goes; made if absent.
            info: Info of the data set.
            episodes: Its episodes, in its order.
            tokens: What the tokenizer makes of a frame: one grid, one latent frame per frame.
            identity: What the codes depend on; a folder with codes of another identity is refused.
        """
        if tokens.time_stride != 1 or list(tokens.grids) != ["video"]:
            raise UserError(
                f"the tokenizer has time stride {tokens.time_stride} and grids {sorted(tokens.grids)}; a token store "
                "holds one grid of codes per frame."
            )
        self.folder = folder
        own = [replace(e, file=_episode_file(i), first=0) for i, e in enumerate(episodes)]
        self._plan = _Plan(identity=identity, info=info, tokens=tokens, episodes=tuple(own))
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / PLAN_FILE).is_file():
            found = _read_plan(folder / PLAN_FILE)
            if found.identity != identity or found.episodes != self._plan.episodes:
                raise UserError(
                    f"{folder} holds codes of another tokenizer or data set; delete it or choose another folder."
                )
        else:
            write_json(folder / PLAN_FILE, self._plan)

    def missing(self) -> list[int]:
        """Numbers of the episodes that are not written yet."""
        return [i for i, e in enumerate(self._plan.episodes) if not self._is_written(e)]

    def _is_written(self, episode: Episode) -> bool:
        with suppress(Unreadable):
            return read_members(self.folder / episode.file)["codes"].shape[0] == episode.n_frames
        return False

    def write(self, episode: int, codes: np.ndarray, steps: Mapping[str, np.ndarray]) -> None:
        """Write one episode, atomically.

        Args:
            episode: Its number.
            codes: Integers (T, N) in [0, codebook size), T the episode's number of frames.
            steps: The rest of ``Dataset.arrays``: "actions/<stream>", "rewards", "terminated", "truncated".
        """
        grid, n_frames = self._plan.tokens.video, self._plan.episodes[episode].n_frames
        assert codes.shape[:2] == (n_frames, grid.n_tokens), (codes.shape, n_frames, grid.n_tokens)
        kind = np.uint16 if grid.codebook_size <= 1 << 16 else np.int32
        rows = {k: v for k, v in steps.items() if k != "frames"}
        write_npz(self.folder / _episode_file(episode), {"codes": codes.astype(kind), **rows}, sync=False)

    def finish(self) -> CodeStore:
        """Mark the store as complete and open it."""
        if missing := self.missing():
            raise UserError(f"{self.folder} lacks the codes of {len(missing)} episodes; tokenize them first.")
        write_json(self.folder / STORE_FILE, self._plan)
        return CodeStore.open(self.folder)


class CodeStore:
    """Codes of every episode of a data set, readable by window like a ``Dataset``."""

    path: Path
    info: DataInfo
    tokens: TokenSpec
    identity: str
    episodes: tuple[Episode, ...]

    def __init__(self, path: Path, plan: _Plan) -> None:
        self.path, self.info, self.tokens, self.identity = path, plan.info, plan.tokens, plan.identity
        self.episodes = plan.episodes
        self._files = ArrayFiles()

    @classmethod
    def open(cls, path: Path | str) -> CodeStore:
        """Open a finished store.

        Raises:
            UserError: If it is not there or not finished.
        """
        path = Path(path)
        if not (path / STORE_FILE).is_file():
            state = "is not finished" if (path / PLAN_FILE).is_file() else "is no token store"
            raise UserError(f"{path} {state}; tokenize the data set (again: what is done is kept).")
        return cls(path, _read_plan(path / STORE_FILE))

    def indices(self, split: str) -> list[int]:
        """Return the numbers of the episodes of "train", "val", "test" or "all"."""
        if split not in (*SPLITS, "all"):
            raise UserError(f"split is {split!r}; it must be train, val, test or all.")
        return [i for i, e in enumerate(self.episodes) if split in ("all", e.split)]

    def sampling_weights(self, episodes: np.ndarray, n_frames: int) -> None:
        """Say how often windows are to be drawn: all alike."""

    def arrays(self, episode: int, start: int, stop: int, stride: int = 1) -> dict[str, np.ndarray]:
        """Copy a window of one episode: "codes" uint16 or int32 (T, N), else as ``Dataset.arrays``."""
        e = self.episodes[episode]
        return read_rows(self._files, self.path / e.file, "codes", (0, e.n_frames), (start, stop, stride))


def _read_plan(path: Path) -> _Plan:
    values = read_json(path)
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != STORE_VERSION:
        raise UserError(
            f"{path} has format version {version}; this reelworld reads {STORE_VERSION}. Tokenize the data set again."
        )
    return from_json(_Plan, values, path.name)
