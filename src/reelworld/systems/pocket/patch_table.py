"""Table of patches: which patches of a recording stand for all others, and their codes.

Frequent patches and patches far from all others are chosen, so that a ball that fills one patch in ten thousand has
entries too. Codes are given along a tree of similar patches: patches that share leading digits look alike, as the codes
of the learned quantizer do, so the dynamics share what they learn between them.

Shapes: M distinct patches, V codes, X = patch * patch * 3 pixel values of a patch
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_CANDIDATES = 16384
"""Distinct patches that are considered, the most frequent first."""
FREQUENT_FRACTION = 0.5
"""Fraction of the table that is given to the most frequent patches; the rest goes to those far from the table."""


def choose_patches(patches: np.ndarray, counts: np.ndarray, n: int) -> np.ndarray:
    """Choose patches for a table.

    Args:
        patches: Distinct ones, uint8 (M, X).
        counts: Number of occurrences of each, (M,).
        n: Entries of the table.

    Returns:
        Numbers of the chosen patches, int64, at most n.
    """
    order: np.ndarray = np.argsort(-counts, kind="stable")[:MAX_CANDIDATES]
    if len(order) <= n:
        return order
    pixels = patches[order].astype(np.float32) / 255
    weights = np.sqrt(counts[order].astype(np.float32))
    chosen = list(range(int(n * FREQUENT_FRACTION)))
    squares = np.square(pixels).sum(1)
    nearest = np.full(len(order), np.inf, np.float32)
    for start in range(0, len(chosen), 256):
        some = chosen[start : start + 256]
        distances = squares[:, None] + squares[some] - 2 * pixels @ pixels[some].T
        nearest = np.minimum(nearest, distances.min(1).clip(0))
    while len(chosen) < n:
        farthest = int((nearest * weights).argmax())
        if nearest[farthest] <= 0:
            break
        chosen.append(farthest)
        nearest = np.minimum(nearest, (squares + squares[farthest] - 2 * pixels @ pixels[farthest]).clip(0))
        nearest[farthest] = 0
    out: np.ndarray = order[np.array(chosen)]
    return out


def order_by_likeness(patches: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Give patches codes so that like patches share digits.

    Args:
        patches: uint8 (V', X), V' at most the product of the levels.
        levels: Levels per digit, the first digit is the fastest.

    Returns:
        Code of each patch, int64 (V',), all different.
    """
    codes = np.zeros(len(patches), np.int64)
    _split(patches.astype(np.float32), np.arange(len(patches)), list(levels), codes)
    return codes


def _split(pixels: np.ndarray, members: np.ndarray, levels: list[int], codes: np.ndarray) -> None:
    """Divide patches along their main direction into equal groups, one per value of the slowest digit, and go on."""
    if not levels or not len(members):
        return
    *faster, level = levels
    unit = int(np.prod(faster)) if faster else 1
    centred = pixels[members] - pixels[members].mean(0)
    direction = _main_direction(centred)
    line = members[np.argsort(centred @ direction, kind="stable")]
    size = min(unit, -(-len(line) // level))
    for value in range(level):
        group = line[value * size : (value + 1) * size]
        codes[group] += value * unit
        _split(pixels, group, faster, codes)


def _main_direction(centred: np.ndarray, n_steps: int = 8) -> np.ndarray:
    """Approximate the first principal component by power iteration."""
    direction = np.ones(centred.shape[1], np.float32)
    for _ in range(n_steps):
        direction = centred.T @ (centred @ direction)
        length = float(np.linalg.norm(direction))
        if length == 0:
            return np.ones(centred.shape[1], np.float32)
        direction = direction / length
    return direction
