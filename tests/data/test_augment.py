"""Augmented clips: equal for all frames of a clip, different per clip, reproducible."""

from __future__ import annotations

import colorsys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from reelworld.data.augment import Augmentation, _crop, _jitter_colours, _shift_hue
from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset
from reelworld.data.loader import Loader

BOTH = Augmentation(min_area=0.5, jitter=0.3)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("augment", [BOTH, Augmentation(min_area=0.5), Augmentation(jitter=0.3)])
def test_all_frames_of_a_clip_are_changed_alike_and_clips_differ(augment: Augmentation) -> None:
    still = np.repeat(noise(1, 24, 32), 5, 0)
    changed = [augment(still, rng(seed)) for seed in range(6)]
    for clip in changed:
        assert clip.shape == still.shape and clip.dtype == np.uint8
        assert (clip == clip[:1]).all() and not np.array_equal(clip, still)
    assert len({clip.tobytes() for clip in changed}) == 6
    np.testing.assert_array_equal(augment(still, rng(3)), changed[3])


def test_a_moving_frame_does_not_move_the_change_of_the_others() -> None:
    """The place of the cut, and of colours all that hangs on no frame."""
    clip = noise(4, 32, 32)
    other = clip.copy()
    other[3] = 255 - other[3].mean().astype(np.uint8)
    cut = Augmentation(min_area=0.5)
    np.testing.assert_array_equal(cut(clip, rng())[:3], cut(other, rng())[:3])


def test_cuts_have_the_area_the_shape_and_the_place_that_were_asked_for() -> None:
    boxes = np.array([Augmentation(min_area=0.8)._box(64, 64, rng(i)) for i in range(2000)])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    assert boxes.min() == 0 and boxes.max() == 64
    area = width * height / 64**2
    assert 0.78 < area.min() < 0.82 and area.max() > 0.97
    ratio = width / height
    assert 0.88 < ratio.min() < 0.93 and 1.08 < ratio.max() < 1.13
    assert {tuple(box[:2]) for box in boxes if box[2] - box[0] < 60} != {(0, 0)}
    assert Augmentation(min_area=0.999)._box(64, 64, rng())[2:] <= (64, 64)


@pytest.mark.parametrize("box", [(3, 5, 29, 30), (0, 0, 32, 32), (1, 0, 31, 28)])
def test_a_cut_is_what_torch_makes_of_it(box: tuple[int, int, int, int]) -> None:
    clip = noise(3, 32, 32)
    left, top, right, bottom = box
    part = torch.from_numpy(clip[:, top:bottom, left:right]).permute(0, 3, 1, 2).float()
    wanted = functional.interpolate(part, (32, 32), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    assert np.abs(_crop(clip, box) - wanted.numpy()).max() <= 1


def test_hues_turn_as_colorsys_says() -> None:
    from PIL import Image

    pixels = noise(20, 20)
    for turn in (-0.05, 0.02, 0.5):
        got = np.asarray(_shift_hue(Image.fromarray(pixels), turn)).astype(int)
        for y, x in np.ndindex(20, 20):
            hue, saturation, value = colorsys.rgb_to_hsv(*(pixels[y, x] / 255.0))
            wanted = np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)) * 255
            assert np.abs(got[y, x] - wanted).max() <= 10  # Pillow keeps 256 hues


def test_colours_change_within_their_bounds() -> None:
    grey = np.full((2, 8, 8, 3), 100, np.uint8)
    means = np.array([_jitter_colours(grey, 0.1, rng(i)).mean() for i in range(300)])
    assert 89 <= means.min() < 93 and 107 < means.max() <= 111  # grey has no hue, no saturation and no contrast
    contrast = np.concatenate([np.full((1, 8, 8, 3), 80, np.uint8), np.full((1, 8, 8, 3), 120, np.uint8)])
    changed = [_jitter_colours(contrast, 0.1, rng(i)).astype(int) for i in range(300)]
    gaps = np.array([clip[1].mean() - clip[0].mean() for clip in changed])
    assert 31 <= gaps.min() < 36 and 44 < gaps.max() <= 49  # one mean for all frames: their difference stays
    brown = np.full((1, 8, 8, 3), (150, 110, 60), np.uint8)
    hues = [colorsys.rgb_to_hsv(*_jitter_colours(brown, 0.1, rng(i))[0, 0, 0] / 255.0)[0] for i in range(300)]
    turns = np.array(hues) - colorsys.rgb_to_hsv(*brown[0, 0, 0] / 255.0)[0]
    assert 0.04 < turns.max() < 0.06 and -0.06 < turns.min() < -0.04


def test_nothing_is_changed_unless_asked() -> None:
    clip = noise(3, 16, 16)
    assert Augmentation()(clip, rng()) is clip


@pytest.mark.parametrize("n_workers", [0, 2])
def test_batches_are_the_same_from_any_start_and_any_worker(tmp_path: Path, n_workers: int) -> None:
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", frames=noise(12, 16, 16, seed=i), actions=np.arange(12) % 3)
    windows = ClipIndex(Dataset.open(tmp_path), "all", 4)
    plain = list(islice(Loader(windows, 5, 1).batches(), 8))
    straight = list(islice(Loader(windows, 5, 1, augment=BOTH).batches(), 8))
    for a, b in zip(plain, straight, strict=True):  # the same windows, and their actions as they were
        assert torch.equal(a.conditions.actions["action"], b.conditions.actions["action"])
        assert not torch.equal(a.video, b.video)
    for start in (0, 5):
        again = list(islice(Loader(windows, 5, 1, n_workers=n_workers, augment=BOTH).batches(start), 8 - start))
        assert all(torch.equal(a.video, b.video) for a, b in zip(straight[start:], again, strict=True))
    assert not torch.equal(next(Loader(windows, 5, 2, augment=BOTH).batches()).video, straight[0].video)
    everywhere = Loader(windows, len(windows), 0, augment=BOTH)
    first, second = everywhere.arrays(0), everywhere.arrays(1)  # two epochs: a window comes again, and looks otherwise
    order = np.argsort(everywhere.order(0)), np.argsort(everywhere.order(1))
    assert not any(
        np.array_equal(a, b) for a, b in zip(first["frames"][order[0]], second["frames"][order[1]], strict=True)
    )
