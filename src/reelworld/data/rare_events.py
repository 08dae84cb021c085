"""Rare-event sampling: steps and windows in which something changes, without knowledge of the game.

The rarity of a transition is that of the rarest code change in it: agents move all the time, doors rarely open.

Shapes: T frames, N tokens per frame
"""

from __future__ import annotations

import numpy as np

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset

MIN_FRACTION = 1e-3
"""Lower bound of the frequency of a kind of change, as a fraction of all transitions; limits the weights."""
CHUNK = 64
"""Steps whose frames are read at once."""


def changes(recordings: Dataset, episode: int) -> np.ndarray:
    """Mark the steps of an episode that change any pixel, bool (T - 1,)."""
    n_frames, is_changed = recordings.episodes[episode].n_frames, [np.zeros(0, bool)]
    for start in range(0, n_frames - 1, CHUNK):
        frames = recordings.arrays(episode, start, min(start + CHUNK + 1, n_frames))["frames"]
        is_changed.append((frames[1:] != frames[:-1]).any((1, 2, 3)))
    return np.concatenate(is_changed)


def event_weights(windows: ClipIndex) -> np.ndarray:
    """Return sampling weights for windows of codes with which every kind of change is drawn about equally often.

    A kind is a pair (code before, code after) with codes that differ. A transition weighs 1 / (how often its
    rarest kind occurs), a window as much as its heaviest transition; a reward or an end of episode counts as rare.

    Returns:
        float64, (n_windows,), at least a little for every window.
    """
    store = windows.source
    members = np.unique(windows.index[:, 0])
    kinds, special = {}, {}
    size = 1 << 31  # above any code
    for episode in members.tolist():
        arrays = store.arrays(episode, 0, store.episodes[episode].n_frames)
        codes_TN = arrays["codes"].astype(np.int64)
        kinds[episode] = np.where(codes_TN[1:] != codes_TN[:-1], codes_TN[:-1] * size + codes_TN[1:], -1)
        special[episode] = np.zeros(len(codes_TN) - 1, bool)
        for name in ("rewards", "terminated"):
            if name in arrays:
                special[episode] |= arrays[name][:-1] != 0
    n_transitions = sum(len(kind) for kind in kinds.values())
    seen, counts = np.unique(np.concatenate([k.ravel() for k in kinds.values()]), return_counts=True)
    floor = max(1.0, MIN_FRACTION * n_transitions)
    rarity = 1.0 / np.maximum(counts, floor)
    rarity[seen == -1] = 1.0 / max(counts.max(), 1)
    heaviest = {
        episode: np.where(special[episode], 1.0 / floor, rarity[np.searchsorted(seen, kind)].max(1))
        for episode, kind in kinds.items()
    }
    n_steps = (windows.length - 1) * windows.stride
    weights = np.empty(len(windows))
    for episode in members.tolist():
        rows = windows.index[:, 0] == episode
        spans = np.lib.stride_tricks.sliding_window_view(heaviest[episode], max(n_steps, 1))
        weights[rows] = spans[windows.index[rows, 1]].max(1)
    return weights


def reward_scale(windows: ClipIndex) -> float:
    """Root mean square of the rewards that are not zero, over the episodes of the windows; 1 when there are none."""
    total, n = 0.0, 0
    for episode in np.unique(windows.index[:, 0]).tolist():
        rewards = windows.source.arrays(episode, 0, windows.source.episodes[episode].n_frames).get("rewards")
        if rewards is not None:
            total, n = total + float((rewards[:-1] ** 2).sum()), n + int((rewards[:-1] != 0).sum())
    return (total / n) ** 0.5 if n else 1.0


def end_fraction(windows: ClipIndex) -> float:
    """Fraction of the steps that end an episode, over the episodes of the windows; 0 where no ends are recorded."""
    n_ends, n_steps = 0, 0
    for episode in np.unique(windows.index[:, 0]).tolist():
        n_frames = windows.source.episodes[episode].n_frames
        ends = windows.source.arrays(episode, 0, n_frames).get("terminated")
        if ends is not None:
            n_ends, n_steps = n_ends + int(ends[:-1].sum()), n_steps + n_frames - 1
    return n_ends / n_steps if n_steps else 0.0
