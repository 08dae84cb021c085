"""Patch pool for mosaic augmentation: rare patches are as frequent as common ones in tokenizer training.

In tile games a few kinds of patches fill almost every frame; the important ones (the player, a key, a door) are rare.
Mosaics are frames composed of patches drawn by kind, not by frequency.

Shapes: T frames, H W pixel rows and columns, N patches per frame, M distinct patches, X = patch * patch * 3
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from reelworld.data.dataset import Dataset
from reelworld.data.loader import Loader
from reelworld.nn.pixels import patchify, to_float, unpatchify
from reelworld.types import Batch

HASHED_AT_ONCE = 16384  # patches: as int64 they take eight times the memory of the frames


@dataclass(frozen=True)
class PatchPool:
    """Distinct patches of the training frames of a recording."""

    patches: np.ndarray
    """uint8, (M, X)."""
    counts: np.ndarray
    """Number of occurrences of each, int64 (M,)."""
    patch: int
    """Pixels per side."""

    @classmethod
    def of(cls, dataset: Dataset, patch: int, max_frames: int = 8192, max_patches: int = 65536) -> PatchPool:
        """Collect the patches of about ``max_frames`` training frames, spread evenly over the episodes."""
        members = dataset.indices("train")
        total = sum(dataset.episodes[i].n_frames for i in members)
        stride = max(1, total // max_frames)
        seen: dict[int, int] = {}
        kept: list[np.ndarray] = []
        key = np.random.default_rng(0).integers(-(2**62), 2**62, patch * patch * 3)
        for i in members:
            frames = dataset.arrays(i, 0, dataset.episodes[i].n_frames, stride)["frames"]
            flat = patchify(torch.from_numpy(frames), patch).flatten(0, 1).numpy()
            pieces = [flat[row : row + HASHED_AT_ONCE] for row in range(0, len(flat), HASHED_AT_ONCE)]
            # the hash wraps around
            hashes = np.concatenate([(piece.astype(np.int64) * key).sum(1) for piece in pieces])
            unique, first, counts = np.unique(hashes, return_index=True, return_counts=True)
            for value, row, count in zip(unique.tolist(), first.tolist(), counts.tolist(), strict=True):
                if value not in seen and len(kept) < max_patches:
                    kept.append(flat[row])
                    seen[value] = 0
                if value in seen:
                    seen[value] += count
        return cls(np.stack(kept), np.array(list(seen.values())), patch)

    @property
    def distinct_fraction(self) -> float:
        """Distinct patches as a fraction of all collected ones: near 0 for tile games."""
        return len(self.patches) / float(self.counts.sum())

    def mosaic(self, n: int, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
        """Compose n frames of patches, every kind equally likely: uint8 (n, H, W, 3)."""
        picks = rng.integers(len(self.patches), size=(n, rows * columns))
        return unpatchify(torch.from_numpy(self.patches[picks]), self.patch, rows, columns).numpy()

    def mixed(self, loader: Loader, fraction: float, start: int = 0) -> Iterator[Batch]:
        """Yield the loader's batches of single frames with a fraction of them replaced by mosaics."""
        n = round(loader.batch_size * fraction)
        for number, batch in enumerate(loader.batches(start), start):
            assert batch.video is not None
            _, frames, height, width, _ = batch.video.shape
            rng = np.random.default_rng((loader.seed, 2, number))
            mosaics = self.mosaic(n * frames, height // self.patch, width // self.patch, rng)
            video = batch.video.clone()
            video[:n] = to_float(torch.from_numpy(mosaics)).view(n, *video.shape[1:])
            yield replace(batch, video=video)
