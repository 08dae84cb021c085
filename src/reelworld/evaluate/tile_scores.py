"""One step from true frames in worlds drawn from tiles: whole frames, changed tiles, rare changes, events.

About half of all steps of a grid game change nothing, so copying is right for half of the frames and 99% of
the tiles. Every figure therefore stands beside copying, and steps that change something are reported apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reelworld.evaluate.clips import Starts, roll
from reelworld.evaluate.figures import Figure, Section, per_clip, share_figure
from reelworld.evaluate.prediction import COPY, FROZEN

if TYPE_CHECKING:
    from reelworld.evaluate.tiles import TileAtlas
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["OneStep", "predict_one_step", "tile_section"]

CHUNK_STARTS = 512


@dataclass(frozen=True)
class OneStep:
    """Tile ids around one-step predictions; n transitions, R C tile rows and columns."""

    clip: np.ndarray
    """int64, (n,)."""
    step: np.ndarray
    """int64, (n,): index of the frame the prediction starts from."""
    before: np.ndarray
    """int64, (n, R, C)."""
    after: np.ndarray
    predicted: np.ndarray
    first: np.ndarray
    """int64, (n, R, C): first frame of the clip."""


def predict_one_step(world: World, clips: Sequence[Clip], atlas: TileAtlas, n_steps: int, seed: int) -> OneStep:
    """Predict single steps from true frames under true actions.

    Args:
        world: The world.
        clips: Held-out clips.
        atlas: Tiles of the training split.
        n_steps: At most this many, drawn without repetition from all steps with a full context.
        seed: Of the draw and of the world's noise.
    """
    context = world.info.context_frames
    places = [(c, t) for c, clip in enumerate(clips) for t in range(context - 1, len(clip.frames) - 1)]
    chosen = sorted(np.random.default_rng(seed).permutation(len(places))[:n_steps].tolist())
    parts: list[list[np.ndarray]] = []
    for i in range(0, len(chosen), CHUNK_STARTS):
        some = [places[j] for j in chosen[i : i + CHUNK_STARTS]]
        starts = Starts.at(clips, some, context, 1)
        predicted = atlas.nearest_ids(roll(world, starts, seed + i)[:, 0])
        true = [atlas.true_ids(x) for x in (starts.context[:, -1], starts.future[:, 0], starts.first)]
        parts.append([starts.clip, np.array([t for _, t in some]), true[0], true[1], predicted, true[2]])
    return OneStep(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def tile_section(one: OneStep, rare: set[tuple[int, int]], events: Mapping[str, np.ndarray], seed: int) -> Section:
    """Turn one-step predictions into figures.

    Args:
        one: Predictions as tile ids.
        rare: Kinds of change (tile before, tile after) that the training split shows seldom.
        events: Figure name -> bool (n,), steps at which a named event of the game happens; may be empty.
        seed: Of the bootstrap.
    """
    right = {"world": one.predicted == one.after, COPY: one.before == one.after, FROZEN: one.first == one.after}
    whole = {k: v.all((1, 2)) for k, v in right.items()}
    changed = one.before != one.after
    moves = changed.any((1, 2))
    everything = np.ones_like(changed)
    figures = [
        _share("one_step_frames_exact", one, whole, np.ones_like(moves), "frames", seed),
        _share("one_step_changed_frames_exact", one, whole, moves, "frames", seed),
        _share("one_step_unchanged_frames_exact", one, whole, ~moves, "frames", seed),
        _share("one_step_changed_tiles_right", one, right, changed, "tiles", seed),
        _change_f1(one, changed, seed),
        _share("one_step_tiles_right", one, right, everything, "tiles", seed),
        _share("rare_changes_exact", one, whole, _is_rare(one, changed, rare), "steps", seed),
    ]
    figures += [_share(name, one, whole, mask, "events", seed) for name, mask in events.items()]
    return Section(
        name="one_step",
        label="Does each key do the right thing?",
        explanation="From true frames, one step under the true action. Each predicted tile is read as the nearest "
        "tile of the game; a frame counts only when all its tiles are right.",
        figures=tuple(f for f in figures if f.n),
    )


def _share(name: str, one: OneStep, right: Mapping[str, np.ndarray], mask: np.ndarray, kind: str, seed: int) -> Figure:
    n_clips = int(one.clip.max()) + 1
    hits = per_clip(right["world"] & mask, one.clip, n_clips)
    baselines = {k: float(v[mask].mean()) for k, v in right.items() if k != "world"} if mask.any() else {}
    return share_figure(name, hits, per_clip(mask, one.clip, n_clips), kind, seed, baselines)


def _change_f1(one: OneStep, changed: np.ndarray, seed: int) -> Figure:
    """F1 of changes: 2 * rightly foreseen / (foreseen + true); a share, so that it resamples like one."""
    n_clips = int(one.clip.max()) + 1

    def counts(predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        foreseen = predicted != one.before
        hits = 2 * (foreseen & changed & (predicted == one.after))
        return per_clip(hits, one.clip, n_clips), per_clip(foreseen.astype(int) + changed, one.clip, n_clips)

    baselines = {}
    for name, still in ((COPY, one.before), (FROZEN, one.first)):
        hits, trials = counts(still)
        baselines[name] = float(hits.sum() / max(trials.sum(), 1))
    return share_figure("one_step_change_f1", *counts(one.predicted), "foreseen and true changes", seed, baselines)


def _is_rare(one: OneStep, changed: np.ndarray, rare: set[tuple[int, int]]) -> np.ndarray:
    """Mark the steps that show a rare change, or a tile that training never showed."""
    result = np.zeros(len(one.clip), bool)
    at, _, _ = changed.nonzero()
    for i, old, new in zip(at.tolist(), one.before[changed].tolist(), one.after[changed].tolist(), strict=True):
        result[i] |= (old, new) in rare or min(old, new) < 0
    return result
