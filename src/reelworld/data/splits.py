"""Train, validation and test splits by a stable hash, the same on every machine; and duplicate episodes.

A copy of a training episode in the test split would overstate quality.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from reelworld.data.episodes import FrameRange

SPLITS = ("train", "val", "test")
PARTS = {"train": 8, "val": 1, "test": 1}


def _position(source: str, seed: int) -> float:
    """Hash a source id to [0, 1), uniformly."""
    digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def split_of(source: str, seed: int, allowed: tuple[str, ...] = SPLITS) -> str:
    """Return the split of one episode on its own: train, val and test as 80 to 10 to 10, among the allowed ones."""
    position = _position(source, seed) * sum(PARTS[s] for s in allowed)
    for split in allowed[:-1]:
        if position < PARTS[split]:
            return split
        position -= PARTS[split]
    return allowed[-1]


def assign_splits(
    sources: Iterable[str],
    seed: int,
    known: Mapping[str, str] | None = None,
    allowed: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, str]:
    """Split episodes by their source ids; from three episodes on, no split is empty that may have some.

    Args:
        sources: Source ids, each once.
        seed: Seed of the hash.
        known: Splits decided earlier; they stay as they are where they are allowed.
        allowed: Source id -> splits it may be in, in the order of ``SPLITS``; all of them for ids that are not here.

    Returns:
        Source id -> "train", "val" or "test".
    """
    allowed = allowed or {}
    sources = list(sources)
    known = {s: k for s, k in (known or {}).items() if s not in allowed or k in allowed[s]}
    splits = {s: known.get(s) or split_of(s, seed, allowed.get(s, SPLITS)) for s in sources}
    if len(splits) < 3:
        return splits
    movable = sorted((s for s in splits if s not in known), key=lambda s: _position(s, seed))
    # train is filled from the low end and the held-out splits from the high end, where theirs are already
    for split, candidates in (("train", movable), ("test", movable[::-1]), ("val", movable[::-1])):
        counts = Counter(splits.values())
        if not counts[split]:
            able = [s for s in candidates if split in allowed.get(s, SPLITS)]
            spare = [s for s in able if counts[splits[s]] > 1] or (able if split == "train" else [])
            splits |= dict.fromkeys(spare[:1], split)
    return splits


def sample_of(frames: np.ndarray | FrameRange) -> tuple[int, ...]:
    """Return the shape of an episode's frames and checksums of three of them, which copies have in common."""
    return (*frames.shape, *(zlib.crc32(frames[t].tobytes()) for t in (0, len(frames) // 2, -1)))


def find_duplicates(
    frames: Sequence[Callable[[], np.ndarray | FrameRange]], samples: Sequence[tuple[int, ...]] = ()
) -> dict[int, int]:
    """Find episodes whose frames are the same as an earlier episode's, byte for byte.

    Only episodes of the same length with the same three sampled frames are compared in full.

    Args:
        frames: One function per episode that returns its frames, uint8 (T, H, W, 3).
        samples: ``sample_of`` each episode where it is known already, else an empty tuple; none are known by default.

    Returns:
        Index of the copy -> index of the first such episode.
    """
    seen: dict[tuple[int, ...], list[int]] = {}
    copies: dict[int, int] = {}
    for i, load in enumerate(frames):
        key = (samples[i] if samples else ()) or sample_of(load())
        first = next((j for j in seen.get(key, []) if _same(load(), frames[j]())), None)
        if first is None:
            seen.setdefault(key, []).append(i)
        else:
            copies[i] = first
    return copies


def _same(a: np.ndarray | FrameRange, b: np.ndarray | FrameRange, chunk: int = 256) -> bool:
    """Compare frames a chunk at a time, so that long recordings do not fill the memory."""
    return all(np.array_equal(a[t : t + chunk], b[t : t + chunk]) for t in range(0, len(a), chunk))
