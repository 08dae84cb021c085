"""Patch pool against recordings whose content is known."""

from __future__ import annotations

import numpy as np
import pytest

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import DataInfo, Dataset, write_episode, write_info
from reelworld.data.loader import Loader
from reelworld.systems.pocket import patch_pool as patches_module
from reelworld.systems.pocket.patch_pool import PatchPool
from reelworld.types import ActionSpec, Clip

TILES = np.random.default_rng(7).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ten episodes of 2x2 tiles: tile 0 almost everywhere, tile 4 once per episode."""
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    for i in range(10):
        kinds = (rng.random((20, 4)) < 0.2).astype(int) * rng.integers(1, 4, (20, 4))
        kinds[rng.integers(20), 3] = 4
        rows = TILES[kinds].reshape(20, 2, 2, 8, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(20, 16, 16, 3)
        write_episode(folder / f"{i}.npz", Clip(frames=rows, actions={"action": np.zeros(20, np.int64)}, source=str(i)))
    actions = {"action": ActionSpec(kind="discrete", n=2)}
    write_info(folder, DataInfo(fps=10.0, height=16, width=16, actions=actions), [])
    return Dataset.open(folder)


def test_pool_holds_each_tile_once(dataset: Dataset) -> None:
    pool = PatchPool.of(dataset, 8)
    assert {p.tobytes() for p in pool.patches} == {t.tobytes() for t in TILES}
    assert pool.counts.sum() == sum(dataset.episodes[i].n_frames for i in dataset.indices("train")) * 4
    rare = [i for i, p in enumerate(pool.patches) if p.tobytes() == TILES[4].tobytes()]
    assert pool.counts[rare[0]] == len(dataset.indices("train"))
    assert pool.distinct_fraction == 5 / pool.counts.sum()


def test_hashing_in_pieces_changes_nothing(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PatchPool.of(dataset, 8)
    monkeypatch.setattr(patches_module, "HASHED_AT_ONCE", 7)
    pieces = PatchPool.of(dataset, 8)
    assert np.array_equal(pieces.patches, whole.patches) and np.array_equal(pieces.counts, whole.counts)


def test_mosaics_show_every_tile_equally_often(dataset: Dataset) -> None:
    pool = PatchPool.of(dataset, 8)
    frames = pool.mosaic(500, 2, 2, np.random.default_rng(0))
    assert frames.shape == (500, 16, 16, 3)
    corners = [f[r : r + 8, c : c + 8].tobytes() for f in frames for r in (0, 8) for c in (0, 8)]
    shares = [corners.count(t.tobytes()) / len(corners) for t in TILES]
    assert np.allclose(shares, 0.2, atol=0.04)


def test_mixed_batches_depend_on_their_number_only(dataset: Dataset) -> None:
    pool, loader = PatchPool.of(dataset, 8), Loader(ClipIndex(dataset, "train", 1), 8, seed=3)
    through = [b.video for b, _ in zip(pool.mixed(loader, 0.5), range(4), strict=False)]
    resumed = next(iter(pool.mixed(loader, 0.5, start=3))).video
    plain = next(loader.batches(3)).video
    assert through[3].equal(resumed)
    assert resumed[4:].equal(plain[4:]) and not resumed[:4].equal(plain[:4])
