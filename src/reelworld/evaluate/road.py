"""What a picture of CarRacing shows of its road: which pixels, how many of them, whether they hang together.

Shapes: T frames, H W pixel rows and columns
"""

from __future__ import annotations

import numpy as np

__all__ = ["SIZE", "connectivity", "road_centre", "road_pixels", "sees_road"]

GREY_RANGE = 30
"""Greatest difference of the three channels of a road pixel; grass differs by a hundred."""
DARK, BRIGHT = 80, 135
"""Least and greatest mean of the three channels; the road is drawn with 100 to 110, the bar below in black."""
SIZE = 64
ROAD_ROWS = 56
"""Rows of a 64x64 frame above the bar of indicators."""
LOOK_ROWS = slice(30, 46)
"""Rows just ahead of the car, where a driver looks; the car stands in rows 45 to 51."""

ROAD_AHEAD, NEAR_MIDDLE = 0.1, 8
"""A car is on its way when the road fills this share of those rows, and its middle is no more columns off."""


def road_pixels(frames: np.ndarray) -> np.ndarray:
    """Say which pixels above the bar are road.

    Args:
        frames: uint8, (..., 64, 64, 3).

    Returns:
        bool, (..., 56, 64).
    """
    above = frames[..., :ROAD_ROWS, :, :].astype(np.int16)
    mean = above.sum(-1) / 3
    return (above.max(-1) - above.min(-1) <= GREY_RANGE) & (mean >= DARK) & (mean <= BRIGHT)


def road_centre(frames: np.ndarray) -> np.ndarray:
    """Find the mean column of the road just ahead of the car.

    Args:
        frames: uint8, (..., 64, 64, 3).

    Returns:
        float64, (...): columns right of the middle of the picture, where the car is; NaN where no road is seen.
    """
    ahead = road_pixels(frames)[..., LOOK_ROWS, :]
    columns = np.arange(SIZE) - (SIZE - 1) / 2
    n = ahead.sum((-2, -1))
    with np.errstate(invalid="ignore"):
        return np.where(n > 0, (ahead * columns).sum((-2, -1)) / n, np.nan)


def sees_road(frames: np.ndarray) -> np.ndarray:
    """Say whether the road lies ahead of the car, uint8 (..., 64, 64, 3) -> bool (...)."""
    ahead = road_pixels(frames)[..., LOOK_ROWS, :].mean((-2, -1))
    return (ahead >= ROAD_AHEAD) & (np.abs(road_centre(frames)) <= NEAR_MIDDLE)


def connectivity(road: np.ndarray) -> float:
    """Compute the share of road pixels in the largest piece of road; pixels that touch at a corner belong together.

    Args:
        road: bool, (H, W).

    Returns:
        0 to 1; 0 where there is no road.
    """
    # one node per horizontal run of road pixels; runs of neighbouring rows that touch are joined
    edges = np.diff(road.astype(np.int8), axis=1, prepend=0, append=0)
    rows, first = np.nonzero(edges == 1)
    stop = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    begins = np.searchsorted(rows, np.arange(len(road) + 1)).tolist()
    a, b = first.tolist(), stop.tolist()
    for row in range(1, len(road)):
        for i in range(begins[row], begins[row + 1]):
            for j in range(begins[row - 1], begins[row]):
                if a[i] <= b[j] and a[j] <= b[i]:
                    parent[root(i)] = root(j)
    if not parent:
        return 0.0
    sizes = np.bincount([root(i) for i in range(len(parent))], stop - first)
    return float(sizes.max() / sizes.sum())
