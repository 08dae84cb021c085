"""Files that hold several episodes laid end to end: where each begins, and rows that never cross an end.

Shapes: R rows of the file, one per frame
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from reelworld.data.formats.reader import Span


def spans_between(n_rows: int, is_first: Sequence[np.ndarray], is_last: Sequence[np.ndarray]) -> list[Span]:
    """Cut rows into episodes.

    Args:
        n_rows: R.
        is_first: Arrays bool (R,), true where an episode begins.
        is_last: Arrays bool (R,), true in the last row of an episode.
    """
    begins = np.zeros(n_rows + 1, bool)
    begins[[0, n_rows]] = True
    for marks in is_first:
        begins[:-1] |= marks
    for marks in is_last:
        begins[1:] |= marks
    edges = np.flatnonzero(begins)
    return [
        Span(name=f"{i:06d}", first=int(first), n_frames=int(last - first))
        for i, (first, last) in enumerate(pairwise(edges))
    ]


def align_spans(
    spans: Sequence[Span], rows: Mapping[str, np.ndarray], shifts: Mapping[str, int]
) -> tuple[list[Span], dict[str, np.ndarray]]:
    """Move rows to "row t leads from frame t to t+1" within each episode.

    Args:
        spans: Episodes of at least two frames.
        rows: Name -> (R, ...).
        shifts: Name -> shift; row t + shift belongs to the step from frame t to t + 1.

    Returns:
        The episodes, without the frames that have no step, and those of at least two frames only; rows (R, ...), zero
        where an episode has no such row.
    """
    before = max((-shift for shift in shifts.values()), default=0)
    after = max((shift - 1 for shift in shifts.values()), default=0)
    before, after = max(0, before), max(0, after)
    kept = [
        Span(
            name=s.name, first=s.first + before, n_frames=s.n_frames - before - after, split=s.split, task=s.task
        )
        for s in spans
        if s.n_frames - before - after >= 2
    ]  # fmt: skip
    moved = {name: np.zeros_like(values) for name, values in rows.items()}
    for s in spans:
        stop = s.first + s.n_frames
        for name, values in rows.items():
            shift = shifts[name]
            first, last = max(s.first, s.first - shift), min(stop, stop - shift)
            if last > first:
                moved[name][first:last] = values[first + shift : last + shift]
    return kept, moved
