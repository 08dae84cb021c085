"""Which clips a world is measured on, and rollouts of many of them at once.

The clips of a split are drawn once with a fixed seed; baselines and every action condition use the same ones.
A clip of the world's own training list is refused: a score on it would say how well the world remembers.

Shapes: n rollouts side by side, T context frames, S steps, H W pixels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.config import from_json
from reelworld.data.action_alignment import check_range
from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.data.mixture import DatasetShare, members_of, open_recordings
from reelworld.nn.conditioning import clip_range
from reelworld.train.pseudo_label import with_pseudo_labels
from reelworld.types import UserError
from reelworld.worlds.provenance import frame_stride, merge_of, read_as_trained, system_config

if TYPE_CHECKING:
    from pathlib import Path

    from reelworld.types import ActionSpec, Clip
    from reelworld.worlds.world import World

__all__ = [
    "Starts",
    "choose_clips",
    "clip_frames_of",
    "draw_starts",
    "given_frames",
    "open_for",
    "open_like",
    "read_episode",
    "roll",
    "shuffled_actions",
    "tokens_of",
    "uniform_actions",
]

MAX_CLIP_FRAMES = 256
BATCH = 64
MAX_BATCH = 128
BATCH_TOKENS = 65536
"""Of a whole clip and all streams side by side: a world that codes whole clips keeps keys and values of each."""


def open_like(world: World, path: Path) -> Dataset:
    """Open recordings resized, aligned and timed as they were for the world's training, with their own actions.

    Those of a mixture's member are known by their name.
    """
    size, fit = (world.info.height, world.info.width), system_config(world.info.provenance).get("fit", "none")
    data = world.info.provenance.get("data")
    read = data.get("read", {}) if isinstance(data, Mapping) else {}
    where = "how the world's data were read"
    options = from_json(ReadOptions, {**read, "size": size, "fit": fit}, where)
    mixed = data.get("mixture", ()) if isinstance(data, Mapping) else ()
    members = [from_json(DatasetShare, m, where) for m in mixed]
    known = [replace(m, data=path) for m in members if m.data.name == path.name]
    return open_recordings(known[:1] or members_of([str(path)]), options, with_actions=bool(world.info.actions))


def open_for(world: World, path: Path) -> Dataset:
    """Open recordings as the world sees them, with actions that it takes."""
    dataset = open_like(world, path)
    if world.latent_actions is not None and world.info.action_map is None:
        dataset = with_pseudo_labels(dataset, world.latent_actions)  # recordings do not name them: the model finds them
    _check_fit(world, dataset)
    return dataset


def choose_clips(
    world: World, dataset: Dataset, split: str, n_clips: int, seed: int, allow_train: bool = False
) -> list[Clip]:
    """Draw clips of a split that the world has not been trained on.

    Worlds that code whole clips get only recordings that hold one.

    Args:
        world: Names the clips it was trained on.
        dataset: Where the clips come from.
        split: "train", "val", "test" or "all".
        n_clips: At most this many; fewer when the split is smaller.
        seed: Of the draw. Long episodes are cut to a stretch of 256 frames at a drawn place.
        allow_train: Accept clips of the world's training list.

    Raises:
        UserError: If the split is empty, holds training clips, or no clip is long enough.
    """
    indices = dataset.indices(split)
    if not indices:
        raise UserError(f"{dataset.path} has no episodes in split {split!r}; choose another --split, e.g. all.")
    trained_on = set(world.info.splits.get("train", ()))
    seen = [i for i in indices if dataset.episodes[i].source in trained_on]
    if seen and not allow_train:
        raise UserError(
            f"{len(seen)} of {len(indices)} clips of split {split!r} are in the world's training list "
            f"(first: {dataset.episodes[seen[0]].source}); choose --split test, or pass --allow-train."
        )
    _check_fit(world, dataset)
    stride = frame_stride(world.info.provenance)
    whole = clip_frames_of(world)
    needed = max(world.info.context_frames * stride + 1, (whole - 1) * stride + 1)
    long_enough = [i for i in indices if dataset.episodes[i].n_frames >= needed]
    if not long_enough:
        what = f"{whole} frames coded together" if whole else "context and one more"
        raise UserError(f"no clip of split {split!r} has {needed} frames ({what}); record longer ones.")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(long_enough)[:n_clips].tolist()
    clips = []
    for i in chosen:
        surplus = dataset.episodes[i].n_frames - MAX_CLIP_FRAMES * stride
        start = int(rng.integers(surplus + 1)) if surplus > 0 else 0
        clips.append(read_episode(world, dataset, i, start, MAX_CLIP_FRAMES))
    return clips


def read_episode(world: World, dataset: Dataset, episode: int, start: int = 0, n_frames: int | None = None) -> Clip:
    """Read an episode with the frame stride and the form of actions that the world was trained with.

    Args:
        world: Remembers how it was trained.
        dataset: Recordings.
        episode: Its number.
        start: First frame, counted in recorded frames.
        n_frames: At most this many kept frames; None reads to the end.
    """
    stride = frame_stride(world.info.provenance)
    stop = dataset.episodes[episode].n_frames
    if not 0 <= start < stop:
        raise UserError(f"start is {start}; the episode has frames 0 to {stop - 1}.")
    if n_frames is not None:
        stop = min(stop, start + n_frames * stride)
    clip = read_as_trained(dataset, world.info.provenance, episode, start, stop)
    if world.info.classes and clip.class_id is not None:
        clip = replace(clip, class_id=world.info.classes.index(dataset.info.classes[clip.class_id]))
    return clip


def clip_frames_of(world: World) -> int:
    """Return how many frames the world's tokenizer always codes together; 0 for any number."""
    return int(world.tokenizer.spec(1, world.info.height, world.info.width).clip_frames)


def given_frames(world: World) -> int:
    """Return how many true frames stand before each prediction: a latent frame where a world begins from nothing."""
    return world.info.context_frames or int(world.tokenizer.spec(1, world.info.height, world.info.width).time_stride)


def _check_fit(world: World, dataset: Dataset) -> None:
    wanted, came = (world.info.height, world.info.width), (dataset.info.height, dataset.info.width)
    if wanted != came:
        raise UserError(f"the data are {came[0]}x{came[1]} pixels; the world makes {wanted[0]}x{wanted[1]}.")
    missing = sorted(set(world.info.actions) - set(dataset.info.actions))
    if missing:
        raise UserError(f"the world needs the action stream(s) {', '.join(missing)}; {dataset.path} has none.")
    for name, spec in world.info.actions.items():
        given = dataset.info.actions[name]
        # Readers count ids that occur, so a recording may know fewer of them than the world.
        n_fits = given.n <= spec.n if spec.kind == "discrete" else given.n == spec.n
        if given.kind != spec.kind or not n_fits:
            raise UserError(
                f"{dataset.path} has {given.kind} actions {name!r} ({given.n}); the world takes {spec.kind} ones "
                f"({spec.n}): give recordings of the same game."
            )
    _check_ranges(world, dataset)
    if world.info.classes and not dataset.info.classes:
        raise UserError(f"the world wants the class of every clip; {dataset.path} has none: give folders of classes.")
    if world.info.classes and (strange := sorted(set(dataset.info.classes) - set(world.info.classes))):
        raise UserError(
            f"{dataset.path} has the class {strange[0]!r}; the world knows {', '.join(world.info.classes[:8])}"
            f"{', ...' if len(world.info.classes) > 8 else ''}: give clips of these."
        )


def _check_ranges(world: World, dataset: Dataset) -> None:
    """Refuse recordings whose actions are in other units than those that the world learned."""
    specs = {name: spec for name, spec in world.info.actions.items() if clip_range(spec) is not None}
    origin = world.info.provenance
    times = frame_stride(origin) if merge_of(origin) == "sum" else 1  # such a range is that of sums
    for i in dataset.indices("all") if specs else []:
        rows = dataset.steps(i)
        for name, spec in specs.items():
            check_range(rows[f"actions/{name}"][:-1] * times, spec, dataset.episodes[i].source, "the world learned")


@dataclass(frozen=True)
class Starts:
    """Places in clips from which to predict: the frames and actions around them, padded to one length."""

    clip: np.ndarray
    """int64, (n,): index into the list of clips."""
    context: np.ndarray
    """uint8, (n, T, H, W, 3)."""
    context_actions: Mapping[str, np.ndarray]
    """Stream -> (n, T-1, ...)."""
    actions: Mapping[str, np.ndarray]
    """Stream -> (n, S, ...): the recorded actions; past the end of a clip its last one is repeated."""
    future: np.ndarray
    """uint8, (n, S, H, W, 3): the recorded frames those actions lead to; past the end the last one."""
    valid: np.ndarray
    """bool, (n, S): False past the end of the clip."""
    first: np.ndarray
    """uint8, (n, H, W, 3): the first frame of each clip."""
    class_id: np.ndarray | None = None
    """int64, (n,); None where recordings have no classes."""

    @classmethod
    def at(cls, clips: Sequence[Clip], places: Sequence[tuple[int, int]], context: int, n_steps: int) -> Starts:
        """Cut starts out of clips.

        Args:
            clips: Recorded clips.
            places: (clip index, index of the last context frame) for each start.
            context: Context frames T.
            n_steps: Steps S to predict.
        """
        frames, before, after, future, valid, first = [], [], [], [], [], []
        streams = list(clips[0].actions)
        classes = [clips[c].class_id for c, _ in places]
        for c, last in places:
            clip = clips[c]
            # row T-1 of the actions is padding, so the last action is row T-2
            steps = np.arange(last, last + n_steps)
            inside = steps.clip(max=len(clip.frames) - 2)
            frames.append(clip.frames[last - context + 1 : last + 1])
            before.append({k: clip.actions[k][last - context + 1 : last] for k in streams})
            after.append({k: clip.actions[k][inside] for k in streams})
            future.append(clip.frames[inside + 1])
            valid.append(steps <= len(clip.frames) - 2)
            first.append(clip.frames[0])
        return cls(
            clip=np.array([c for c, _ in places]),
            context=np.stack(frames),
            context_actions={k: np.stack([a[k] for a in before]) for k in streams},
            actions={k: np.stack([a[k] for a in after]) for k in streams},
            future=np.stack(future),
            valid=np.stack(valid),
            first=np.stack(first),
            class_id=None if None in classes else np.array(classes, np.int64),
        )

    def take(self, rows: np.ndarray) -> Starts:
        """Return the starts of these numbers, in this order; a number may come more than once."""

        def some(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {k: v[rows] for k, v in values.items()}

        return Starts(
            clip=self.clip[rows],
            context=self.context[rows],
            context_actions=some(self.context_actions),
            actions=some(self.actions),
            future=self.future[rows],
            valid=self.valid[rows],
            first=self.first[rows],
            class_id=None if self.class_id is None else self.class_id[rows],
        )


def draw_starts(clips: Sequence[Clip], context: int, n_steps: int, per_clip: int, seed: int) -> Starts:
    """Draw ``per_clip`` starts in every clip, early enough for all steps where the clip is long enough."""
    rng = np.random.default_rng(seed)
    places = []
    for c, clip in enumerate(clips):
        earliest = context - 1
        latest = max(earliest, len(clip.frames) - 1 - n_steps)
        places += [(c, int(p)) for p in rng.integers(earliest, latest + 1, per_clip)]
    return Starts.at(clips, places, context, n_steps)


def roll(world: World, starts: Starts, seed: int, actions: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """Predict from every start under recorded or other actions; worlds with goals go towards the last recorded frame.

    Args:
        world: The world.
        starts: Where to begin.
        seed: Equal seeds give equal noise, whatever the actions.
        actions: Stream -> (n, S, ...); None takes the recorded ones.

    Returns:
        uint8, (n, S, H, W, 3).
    """
    taken = starts.actions if actions is None else actions
    streams = list(world.info.actions)
    frames = np.empty_like(starts.future)
    batch = _batch(world)
    for i in range(0, len(frames), batch):
        rows = slice(i, i + batch)
        session = world.session(n=len(frames[rows]))
        before = {k: starts.context_actions[k][rows] for k in streams}
        told: dict[str, Any] = {}
        if world.info.classes and starts.class_id is not None:
            told["class_id"] = starts.class_id[rows]
        if world.has_goal:
            told["goal"] = starts.future[rows, -1]
        session.reset(starts.context[rows], before or None, seed=seed + i, **told)
        for s in range(frames.shape[1]):
            frames[rows, s] = session.step({k: taken[k][rows, s] for k in streams} or None).frame
    return frames


def _batch(world: World) -> int:
    """Return how many streams run side by side."""
    n_frames = clip_frames_of(world)
    if not n_frames:
        return BATCH
    return min(MAX_BATCH, max(1, BATCH_TOKENS // tokens_of(world, n_frames)))


def tokens_of(world: World, n_frames: int) -> int:
    """Return the number of codes that stand for so many frames, all grids together."""
    spec = world.tokenizer.spec(n_frames, world.info.height, world.info.width)
    return sum(grid.n_tokens for grid in spec.grids.values()) * n_frames // spec.time_stride


def uniform_actions(starts: Starts, specs: Mapping[str, ActionSpec], seed: int) -> dict[str, np.ndarray]:
    """Draw actions uniformly: ids over all ids, vectors between the limits (the data's own where unknown)."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, spec in specs.items():
        like = starts.actions[name]
        if spec.kind == "discrete":
            result[name] = rng.integers(0, spec.n, like.shape)
            continue
        axes = tuple(range(like.ndim - 1))
        low = np.array(spec.low) if spec.low else like.min(axes)
        high = np.array(spec.high) if spec.high else like.max(axes)
        result[name] = rng.uniform(low, high, like.shape).astype(np.float32)
    return result


def shuffled_actions(starts: Starts, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Give every start the recorded actions of a start in another clip: held keys, but the wrong ones.

    Args:
        starts: Sorted by clip, as ``draw_starts`` makes them.
        seed: Of the permutation of clips.

    Returns:
        Stream -> (n, S, ...), and bool (n, S): where the other clip still has an action. With one clip the
        actions stay its own.
    """
    rng = np.random.default_rng(seed)
    clips = np.unique(starts.clip)
    order = rng.permutation(clips)
    partner = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    rows = {c: np.flatnonzero(starts.clip == c) for c in clips.tolist()}
    take = np.concatenate([np.resize(rows[partner[c]], len(rows[c])) for c in clips.tolist()])
    return {k: v[take] for k, v in starts.actions.items()}, starts.valid[take]
