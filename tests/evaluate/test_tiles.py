"""The atlas against brute force on the toy game."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate import toy
from reelworld.evaluate.games.tiles import TEXTS, OneStep, one_step_metrics, rare_changes
from reelworld.evaluate.results import MetricBuilder
from reelworld.evaluate.tiles import TileAtlas, tile_hashes


@pytest.fixture(scope="module")
def atlas():
    return TileAtlas.build(toy.episode(i).frames for i in range(20))


def test_the_atlas_holds_the_tiles_of_the_game_most_common_first(atlas):
    assert len(atlas.tiles) == 4
    assert (atlas.tiles[0] == toy.TILES[toy.FLOOR]).all()
    assert sorted(t.tobytes() for t in atlas.tiles) == sorted(t.tobytes() for t in toy.TILES)
    assert atlas.counts.sum() == 20 * 31 * 16


def test_true_ids_name_the_tiles(atlas):
    frames = toy.episode(50).frames
    ids = atlas.true_ids(frames)
    for t in (0, 7, 30):
        np.testing.assert_array_equal(atlas.tiles[ids[t]], toy.TILES[toy.read(frames[t])])
    np.testing.assert_array_equal(atlas.true_ids(frames[None])[0], ids)


def test_nearest_ids_agree_with_brute_force(atlas):
    rng = np.random.default_rng(0)
    frames = toy.episode(51).frames[:6]
    noisy = np.clip(frames.astype(int) + rng.integers(-120, 121, frames.shape), 0, 255).astype(np.uint8)
    noisy[0] = rng.integers(0, 256, noisy[0].shape)
    ids = atlas.nearest_ids(noisy)
    for t in range(6):
        for r in range(4):
            for c in range(4):
                patch = noisy[t, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8].astype(float)
                distances = ((atlas.tiles.astype(float) - patch) ** 2).sum((1, 2, 3))
                assert ids[t, r, c] == distances.argmin()


def test_tiles_that_training_never_showed_are_unknown_and_never_right(atlas):
    frames = toy.episode(52).frames.copy()
    frames[3, :8, :8] = 7
    assert atlas.true_ids(frames)[3, 0, 0] == -1
    assert atlas.nearest_ids(frames)[3, 0, 0] >= 0


def test_smooth_or_odd_pictures_are_not_drawn_from_tiles():
    rng = np.random.default_rng(0)
    assert TileAtlas.build([rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)]) is None
    assert TileAtlas.build([np.zeros((4, 30, 32, 3), np.uint8)]) is None


def test_hashes_tell_single_bits_apart():
    base = np.zeros((1, 8, 8, 3), np.uint8)
    seen = {int(tile_hashes(base, 8)[0, 0, 0])}
    for i in range(8 * 8 * 3):
        for bit in (0, 7):
            other = base.copy()
            other.reshape(-1)[i] = 1 << bit
            seen.add(int(tile_hashes(other, 8)[0, 0, 0]))
    assert len(seen) == 1 + 2 * 192
    # pairs of changed last bytes of words, where a plain weighted sum collides once in 256
    pairs = set()
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        other = base.copy()
        other.reshape(-1)[7::8] = rng.integers(0, 256, 24)
        pairs.add((int(tile_hashes(other, 8)[0, 0, 0]), other.tobytes()))
    assert len({h for h, _ in pairs}) == len({p for _, p in pairs})


def test_rare_changes_count_steps_not_tiles():
    quiet = np.zeros((3, 2, 2), int)
    common = np.stack([np.zeros((2, 2), int), np.ones((2, 2), int)] * 50)
    rare = np.zeros((2, 2, 2), int)
    rare[1, 0, 0] = 5
    assert rare_changes([quiet, common, rare]) == {(0, 5)}
    assert rare_changes([common]) == set()


def change_f1(one):
    metrics = one_step_metrics(MetricBuilder(TEXTS, one.clip), one, set())
    return next(m for m in metrics if m.name == "one_step_change_f1")


def test_f1_of_changes_counts_what_is_foreseen_and_what_happens():
    before = np.zeros((2, 2, 2), int)
    after, predicted = before.copy(), before.copy()
    after[0, 0] = 1, 2  # two changes: one foreseen rightly, one as another tile
    predicted[0, 0] = 1, 3
    predicted[1, 1, 1] = 4  # one that does not happen
    one = OneStep(np.array([0, 1]), np.array([1, 1]), before, after, predicted, before)
    figure = change_f1(one)
    assert figure.value == pytest.approx(2 * 1 / (3 + 2))
    assert figure.n == 5
    assert set(figure.baselines.values()) == {0.0}
    perfect = OneStep(one.clip, one.step, before, after, after, before)
    assert change_f1(perfect).value == 1
