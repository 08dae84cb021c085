"""Recordings of a run, known by their content: ``recordings.json`` in its folder.

A run whose recordings or own folder were moved goes on; other recordings are refused, also under the same path. Arrays
of .npz files, ours and those of the cache, are told apart by the checksums in the files; of other files a few frames
and all rows of steps are compared.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reelworld.config import from_json, read_json, to_json
from reelworld.data import cache
from reelworld.data.array_store import NpzStore
from reelworld.data.dataset import Dataset
from reelworld.data.episodes import stored_arrays
from reelworld.data.formats.episode_folder import INFO_FILE
from reelworld.files import write_json
from reelworld.types import UserError

FILE = "recordings.json"
N_FRAMES, MAX_FRAMES = 8, 20_000
"""Frames of an episode, and about the most of a data set, that are compared where files have no checksums; of each
episode at least its first and last."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of one data set, as a training sees it."""

    path: Path
    """Its last known place."""
    content: str
    """Hash of all that follows and of what all episodes have in common: size, frame rate, actions, classes."""
    n_frames: int
    splits: Mapping[str, str]
    """Source -> "train", "val" or "test"."""
    episodes: Mapping[str, str]
    """Source -> hash of the facts, frames and steps of its episode."""

    @property
    def summary(self) -> dict[str, object]:
        """Return what identifies the recordings in the config of a run."""
        return {"content": self.content, "episodes": len(self.episodes), "frames": self.n_frames}


def describe(dataset: Dataset) -> list[Manifest]:
    """Describe the recordings of a training: one data set, or each member of a mixture."""
    return [_describe(part) for part in dataset.parts or (dataset,)]


def _describe(dataset: Dataset) -> Manifest:
    checksums: dict[Path, str] = {}
    hashes: dict[str, list[str]] = defaultdict(list)  # every k-th frame of a recording makes k episodes of one source
    for i, episode in enumerate(dataset.episodes):
        facts = {k: v for k, v in to_json(replace(episode, arrays=None)).items() if k not in ("arrays", "file")}
        stored = stored_arrays(episode)
        rows = [stored.first, stored.n_rows, stored.every]
        hashes[episode.source].append(_hash([facts, rows, _content(dataset, i, checksums)]))
    common = {k: v for k, v in to_json(dataset.info).items() if k != "provenance"}
    return Manifest(
        path=dataset.path.resolve(),
        content=_hash([common, [[source, *found] for source, found in hashes.items()]]),
        n_frames=sum(e.n_frames for e in dataset.episodes),
        splits={e.source: e.split for e in dataset.episodes},
        episodes={source: _hash(found) for source, found in hashes.items()},
    )


def _content(dataset: Dataset, episode: int, checksums: dict[Path, str]) -> str:
    """Return a hash of frames and steps; of an .npz, of its checksums, which cover every byte of its arrays."""
    store = stored_arrays(dataset.episodes[episode]).store
    if isinstance(store, NpzStore):
        if store.path not in checksums:
            with zipfile.ZipFile(store.path) as archive:
                members = [m for m in archive.infolist() if m.filename != f"{cache.FACTS}.npy"]
            checksums[store.path] = _hash([[m.filename, m.file_size, m.CRC] for m in members])
        return checksums[store.path]
    digest, n_frames = hashlib.sha256(), dataset.episodes[episode].n_frames
    last = max(2, min(N_FRAMES, MAX_FRAMES // len(dataset.episodes))) - 1
    picked = sorted({t * (n_frames - 1) // last for t in range(last + 1)})
    arrays = {str(t): dataset.arrays(episode, t, t + 1)["frames"] for t in picked} | dataset.steps(episode)
    for name, rows in sorted(arrays.items()):
        digest.update(f"{name} {rows.dtype} {rows.shape}".encode() + rows.tobytes())
    return digest.hexdigest()


def _hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


# ------------------------------------------------------------------ the file of a run


def recall(run: Path) -> list[Manifest]:
    """Return the recordings that a run has learned from; empty before its first checkpoint."""
    path = run / FILE
    if not path.is_file() or not (run / "latest").exists():
        return []
    values = read_json(path)
    if not isinstance(values, list):
        raise UserError(f"{path} holds no JSON list; restore it, or train into a new --out.")
    return [from_json(Manifest, value, FILE) for value in values]


def remember(run: Path, manifests: Sequence[Manifest], split_seed: int) -> None:
    """Store the recordings of a run, and their splits for the place where they are now."""
    path = run / FILE
    if not path.is_file() or read_json(path) != to_json(list(manifests)):
        write_json(path, list(manifests))
    for manifest in manifests:
        if not (manifest.path / INFO_FILE).is_file():
            cache.remember_splits(manifest.path, split_seed, manifest.splits)


def check_same(run: Path, saved: Sequence[Manifest], found: Sequence[Manifest]) -> None:
    """Refuse other recordings than a run has learned from.

    Raises:
        UserError: If any differ; it names the first.
    """
    if len(saved) != len(found):
        places = ", ".join(str(m.path) for m in saved)
        raise UserError(
            f"{run} has learned from {len(saved)} data sets ({places}), now {len(found)} are given; give --data for "
            "each of these, or another --out."
        )
    for old, new in zip(saved, found, strict=True):
        if old.content != new.content:
            raise UserError(
                f"{new.path} holds other recordings than {run} has learned from ({_difference(old, new)}); give --data "
                f"the recordings that were in {old.path}, or another --out."
            )


def _difference(old: Manifest, new: Manifest) -> str:
    """Describe what came, what was wanted, and the first recording of each kind of difference."""
    kinds = {
        "missing": [s for s in old.episodes if s not in new.episodes],
        "new": [s for s in new.episodes if s not in old.episodes],
        "changed": [s for s, found in new.episodes.items() if old.episodes.get(s, found) != found],
    }
    named = [f"{len(s)} {kind}, e.g. {s[0]}" for kind, s in kinds.items() if s]
    what = "; ".join(named) or "another size, frame rate or order, or other kinds of actions"
    return f"{len(new.episodes)} episodes, wanted {len(old.episodes)}: {what}"
