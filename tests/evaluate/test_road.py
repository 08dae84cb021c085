"""Road detection: connected pieces by flood fill, and columns by hand."""

from __future__ import annotations

import numpy as np
import pytest

from reelworld.evaluate.games.carracing import connectivity, road_centre, road_pixels, sees_road

GRASS, ROAD = (100, 204, 100), (104, 104, 104)


def flooded(road):
    """Largest piece over all, by flooding from one pixel after the other."""
    left, largest, total = road.copy(), 0, road.sum()
    while left.any():
        todo, size = [tuple(np.argwhere(left)[0])], 0
        left[todo[0]] = False
        while todo:
            row, column = todo.pop()
            size += 1
            for r in range(max(0, row - 1), min(row + 2, len(left))):
                for c in range(max(0, column - 1), min(column + 2, left.shape[1])):
                    if left[r, c]:
                        left[r, c] = False
                        todo.append((r, c))
        largest = max(largest, size)
    return largest / total if total else 0.0


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 0.4, 0.6, 1.0])
def test_pieces_are_those_of_flooding(density):
    rng = np.random.default_rng(int(100 * density))
    for shape in ((1, 1), (3, 17), (20, 12), (56, 64)):
        road = rng.random(shape) < density
        assert connectivity(road) == pytest.approx(flooded(road))


def test_corners_connect_and_gaps_do_not():
    assert connectivity(np.eye(9, dtype=bool)) == 1
    assert connectivity(np.eye(9, dtype=bool)[:, ::-1]) == 1
    road = np.zeros((5, 5), bool)
    road[:, 0] = road[:, 4] = True
    assert connectivity(road) == 0.5
    road[4] = True  # a U
    assert connectivity(road) == 1


def picture(first, stop, rows=slice(0, 56)):
    frame = np.full((64, 64, 3), GRASS, np.uint8)
    frame[56:] = 0
    frame[rows, first:stop] = ROAD
    return frame


def test_the_middle_of_the_road_by_hand():
    frames = np.stack([picture(25, 39), picture(40, 54), picture(0, 4), picture(25, 39, slice(0, 20))])
    assert road_centre(frames)[:3].tolist() == [0, 15, -30]
    assert np.isnan(road_centre(frames)[3]), "no road in the rows ahead"
    assert sees_road(frames).tolist() == [True, False, False, False]
    assert road_pixels(frames).sum((1, 2)).tolist() == [56 * 14, 56 * 14, 56 * 4, 20 * 14]


def test_grass_car_curb_and_bar_are_no_road():
    frame = picture(0, 0)
    frame[:8], frame[8:16], frame[16:24], frame[24:32] = (255, 0, 0), (255, 255, 255), (0, 0, 0), (100, 230, 100)
    frame[60, :] = ROAD  # in the bar
    assert not road_pixels(frame).any() and connectivity(road_pixels(frame)) == 0
