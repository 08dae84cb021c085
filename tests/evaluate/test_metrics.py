"""Distances against plain loops and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from reelworld.evaluate import metrics


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 24, 16, 3), dtype=np.uint8)
    return frames, np.clip(frames + rng.integers(-9, 10, frames.shape), 0, 255).astype(np.uint8)


def test_squared_error_is_a_mean_over_pixels_without_wrapping(pair):
    a, b = pair
    by_hand = [
        np.mean([(float(x) - float(y)) ** 2 for x, y in zip(f.flat, g.flat, strict=True)])
        for f, g in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(metrics.squared_error(a, b), by_hand, rtol=1e-6)
    black, white = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)
    assert metrics.squared_error(black, white)[0] == 255**2
    assert metrics.squared_error(white[None], black[None]).shape == (1, 1)


def test_squared_error_of_many_frames_keeps_their_order():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, 5, 40, 8, 8, 3), dtype=np.uint8)
    got = metrics.squared_error(a, b)
    assert got.shape == (5, 40)
    assert got[3, 7] == pytest.approx(((a[3, 7].astype(float) - b[3, 7]) ** 2).mean(), rel=1e-6)


def test_ssim_agrees_with_the_formula_on_whole_windows():
    """Wang et al. 2004, equation 13, with an 11x11 Gaussian window of sigma 1.5, away from the border."""
    rng = np.random.default_rng(2)
    a = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    b = np.clip(a.astype(int) + rng.integers(-40, 41, a.shape), 0, 255).astype(np.uint8)
    g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(g, g) / np.outer(g, g).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for y in range(32 - 10):
        for x in range(32 - 10):
            for c in range(3):
                p, q = (z[0, y : y + 11, x : x + 11, c].astype(float) for z in (a, b))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * p * p).sum() - mp**2, (window * q * q).sum() - mq**2
                cov = (window * p * q).sum() - mp * mq
                values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    assert metrics.ssim(a, b)[0] == pytest.approx(np.mean(values), abs=2e-3)
    assert metrics.ssim(a, a)[0] == pytest.approx(1)


def test_the_worst_patch_sees_a_small_thing():
    true = np.full((2, 16, 24, 3), 100, np.uint8)
    other = true.copy()
    other[1, 8:16, 16:24] = 130  # one patch of six is 30 levels off
    np.testing.assert_array_equal(metrics.worst_patch_error(true, other), [0, 900])
    np.testing.assert_allclose(metrics.squared_error(true, other), [0, 150])


def test_exactness_means_every_pixel(pair):
    frames = pair[0]
    other = frames.copy()
    other[1, 5, 5, 2] ^= 1
    np.testing.assert_array_equal(metrics.exact_frames(frames, other), [True, False, True])
    still = metrics.patches_equal(frames, other)
    assert still.shape == (3, 3, 2) and still.sum() == 17 and not still[1, 0, 0]


def test_patch_means(pair):
    frames = pair[0]
    blocks = metrics.patch_means(frames)
    np.testing.assert_array_equal(blocks[0, 8, 8], np.rint(frames[0, 8:16, 8:16].mean((0, 1), dtype=np.float32)))
    assert (blocks[2, :8, :8] == blocks[2, 0, 0]).all()
