"""Data sets as codes: the tokens or float latents of every frame, with the actions that belong to them.

A folder with one uncompressed .npz per episode and ``store.json``, which is written last: an unfinished store cannot be
opened, but can be continued. ``train/precompute_codes.py`` writes it; windows read it like frames.

Shapes: T frames, N tokens per frame, E latent width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reelworld.config import from_json, read_json
from reelworld.data.array_store import FilePool, NpzStore, Unreadable, read_index
from reelworld.data.dataset import Dataset
from reelworld.data.episodes import DataInfo, Episode, StoredArrays
from reelworld.data.formats.episode_folder import episode_to_json
from reelworld.data.formats.reader import MAX_MAPPED
from reelworld.files import write_json, write_npz
from reelworld.types import GridSpec, TokenSpec, UserError

STORE_VERSION = 1
STORE_FILE = "store.json"
PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Contents of a store, written or not yet written."""

    format_version: int = STORE_VERSION
    identity: str
    """Hash of the tokenizer's weights, on which the codes depend."""
    info: DataInfo
    tokens: TokenSpec
    episodes: tuple[Episode, ...]

    def write(self, path: Path) -> None:
        """Write the plan as JSON."""
        write_json(path, {**vars(self), "episodes": [episode_to_json(e) for e in self.episodes]})

    @classmethod
    def read(cls, path: Path) -> _Plan:
        """Read a plan; another version is refused."""
        values = read_json(path)
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != STORE_VERSION:
            raise UserError(
                f"{path} has format version {version}; this reelworld reads {STORE_VERSION}. Encode the data set again."
            )
        return from_json(cls, values, path.name)


def _episode_file(number: int) -> str:
    return f"{number:06d}.npz"


def _stored_dtype(grid: GridSpec, codes: np.ndarray) -> type[np.generic]:
    """Return the type that codes are stored as: the narrowest for tokens, half or single precision for latents."""
    if grid.latent_width:
        return np.float16 if codes.dtype == np.float16 else np.float32
    return np.uint16 if grid.codebook_size <= 1 << 16 else np.int32


class CodeStoreWriter:
    """Write a code store episode by episode; a new writer on the same folder resumes."""

    def __init__(
        self, folder: Path, *, info: DataInfo, episodes: Sequence[Episode], tokens: TokenSpec, identity: str
    ) -> None:
        """Start or continue a store.

        Args:
            folder: Destination; made if absent.
            info: Info of the data set.
            episodes: Its episodes, in its order.
            tokens: Codes of a frame: one grid, one latent frame per frame.
            identity: Hash of the tokenizer's weights; a folder with codes of another identity is refused.
        """
        if tokens.time_stride != 1 or list(tokens.grids) != ["video"]:
            raise UserError(
                f"the tokenizer has time stride {tokens.time_stride} and grids {sorted(tokens.grids)}; a code store "
                "holds one grid of codes per frame."
            )
        self.folder = folder
        own = tuple(replace(e, file=_episode_file(i), first=0, arrays=None) for i, e in enumerate(episodes))
        self._plan = _Plan(identity=identity, info=info, tokens=tokens, episodes=own)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / PLAN_FILE).is_file():
            earlier = _Plan.read(folder / PLAN_FILE)
            if earlier.identity != identity or earlier.episodes != own:
                raise UserError(
                    f"{folder} holds codes of another tokenizer or data set; delete it or choose another folder."
                )
        else:
            self._plan.write(folder / PLAN_FILE)

    def missing(self) -> list[int]:
        """Return the numbers of the episodes that are not written yet."""
        return [i for i, e in enumerate(self._plan.episodes) if not self._is_written(e)]

    def _is_written(self, episode: Episode) -> bool:
        with suppress(Unreadable):
            return read_index(self.folder / episode.file)["codes"].shape[0] == episode.n_frames
        return False

    def write(self, episode: int, codes: np.ndarray, steps: Mapping[str, np.ndarray]) -> None:
        """Write one episode, atomically.

        Args:
            episode: Its number.
            codes: Of all T frames: integers (T, N) or (T, N, Q) in [0, codebook size), or floats (T, N, E).
            steps: Rows of ``Dataset.steps``: "actions/<stream>", "rewards", "terminated", "truncated".
        """
        grid, n_frames = self._plan.tokens.video, self._plan.episodes[episode].n_frames
        assert codes.shape[:2] == (n_frames, grid.n_tokens), (codes.shape, n_frames, grid)
        assert grid.latent_width in (0, codes.shape[-1]), (codes.shape, grid)
        rows = {k: v for k, v in steps.items() if k != "frames"}
        stored = codes.astype(_stored_dtype(grid, codes))
        write_npz(self.folder / _episode_file(episode), {"codes": stored, **rows}, sync=False)

    def finish(self) -> CodeStore:
        """Mark the store as complete and open it."""
        if missing := self.missing():
            raise UserError(f"{self.folder} lacks the codes of {len(missing)} episodes; encode them first.")
        self._plan.write(self.folder / STORE_FILE)
        return CodeStore.open(self.folder)


@dataclass(frozen=True)
class CodeStore:
    """Codes of every episode of a data set."""

    dataset: Dataset
    """Episodes with "codes" in place of "frames": uint16 or int32 (T, N), float16 or float32 (T, N, E)."""
    tokens: TokenSpec
    identity: str

    @classmethod
    def open(cls, path: Path | str) -> CodeStore:
        """Open a finished store.

        Raises:
            UserError: If it is not there or not finished.
        """
        path = Path(path)
        if not is_finished(path):
            state = "is not finished" if (path / PLAN_FILE).is_file() else "is no code store"
            raise UserError(f"{path} {state}; encode the data set (again: what is done is kept).")
        plan, pool = _Plan.read(path / STORE_FILE), FilePool(MAX_MAPPED)
        episodes = tuple(
            replace(e, arrays=StoredArrays(NpzStore(path / e.file, pool), 0, e.n_frames, "codes"))
            for e in plan.episodes
        )
        return cls(Dataset(path=path, info=plan.info, episodes=episodes), plan.tokens, plan.identity)


def is_finished(path: Path) -> bool:
    """Return True if a folder holds a complete store."""
    return (path / STORE_FILE).is_file()
