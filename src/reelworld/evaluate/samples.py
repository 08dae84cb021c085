"""Batched rollouts of many clips, reconstruction and encoding of recorded frames, and the state of an evaluation.

Shapes: n rollouts side by side, T context frames, S steps, K samples, H W pixel rows and columns, P latent frames,
  N codes per latent frame
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from reelworld.data.dataset import Dataset
from reelworld.data.episodes import DataInfo
from reelworld.evaluate.metrics import CHUNK_FRAMES, exact_frames
from reelworld.evaluate.protocol import (
    EvalConfig,
    count_tokens,
    fixed_clip,
    future_frames,
    given_frames,
    training_clips,
)
from reelworld.evaluate.results import MetricBuilder, Text
from reelworld.evaluate.tiles import TileAtlas
from reelworld.nn.perceptual import LPIPS
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.rollout.rollout import rollout
from reelworld.rollout.session import Session
from reelworld.types import ActionSpec, Clip, Codes, ModelSpec, Score
from reelworld.worlds.world import World

HORIZONS = (1, 2, 4, 8, 16)
CONTROL_HORIZONS = (1, 4, 8)
OPEN_SAMPLES = 8
"""Futures drawn from each start in worlds without actions."""
SAMPLE_TOKENS = 512
"""More starts are drawn, up to four times as many, where the future of one start has fewer codes than this."""
STARTS_PER_CLIP = 4
MAX_SCORED = 3072  # frames
MAX_SCORED_WHOLE = 512  # frames, where each whole clip is read twice
BATCH = 64
MAX_BATCH = 128
BATCH_TOKENS = 65536
"""Largest number of codes of all parallel streams, for models of whole clips: each has keys and values."""
FREE_RUN_CLIPS = 8
FREE_RUN_WINDOWS = 3
"""Length of the free run of models of whole clips, in such clips."""

Detector = Callable[[np.ndarray], np.ndarray]
"""Videos, uint8 (n, T, H, W, 3) -> features, float64 (n, D)."""
T = TypeVar("T")
Progress = Callable[[str, float], Any]
"""Called with the name of the present step and the fraction of the evaluation that is done."""


@dataclass(frozen=True)
class Starts:
    """Positions in clips from which to predict: the frames and actions around them, padded to one length."""

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
    def at(cls, clips: Sequence[Clip], positions: Sequence[tuple[int, int]], context: int, n_steps: int) -> Starts:
        """Cut starts out of clips.

        Args:
            clips: Recorded clips.
            positions: (clip index, index of the last context frame) for each start.
            context: Context frames T.
            n_steps: Steps S to predict.
        """
        frames, before, after, future, valid, first = [], [], [], [], [], []
        streams = list(clips[0].actions)
        classes = [clips[c].class_id for c, _ in positions]
        for c, last in positions:
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
            clip=np.array([c for c, _ in positions]),
            context=np.stack(frames),
            context_actions={k: np.stack([a[k] for a in before]) for k in streams},
            actions={k: np.stack([a[k] for a in after]) for k in streams},
            future=np.stack(future),
            valid=np.stack(valid),
            first=np.stack(first),
            class_id=None if None in classes else np.array(classes, np.int64),
        )

    @classmethod
    def drawn(cls, clips: Sequence[Clip], context: int, n_steps: int, per_clip: int, seed: int) -> Starts:
        """Draw ``per_clip`` starts in every clip, early enough for all steps where the clip is long enough."""
        rng = np.random.default_rng(seed)
        positions = []
        for c, clip in enumerate(clips):
            earliest = context - 1
            latest = max(earliest, len(clip.frames) - 1 - n_steps)
            positions += [(c, int(p)) for p in rng.integers(earliest, latest + 1, per_clip)]
        return cls.at(clips, positions, context, n_steps)

    @classmethod
    def at_beginning(cls, clips: Sequence[Clip], context: int, n_steps: int) -> Starts:
        """Start every clip once, right after its first ``context`` frames."""
        return cls.at(clips, [(c, context - 1) for c in range(len(clips))], context, n_steps)

    def take(self, rows: np.ndarray) -> Starts:
        """Return the starts of these numbers, in this order; a number may occur more than once."""

        return Starts(
            clip=self.clip[rows],
            context=self.context[rows],
            context_actions={k: v[rows] for k, v in self.context_actions.items()},
            actions={k: v[rows] for k, v in self.actions.items()},
            future=self.future[rows],
            valid=self.valid[rows],
            first=self.first[rows],
            class_id=None if self.class_id is None else self.class_id[rows],
        )


# ---------------------------------------------------------------------- rollouts


def reset(session: Session, world: World, starts: Starts, rows: np.ndarray, **options: Any) -> None:
    """Begin streams at the given starts; in worlds with goals the goal is the last recorded frame."""
    before = {k: starts.context_actions[k][rows] for k in world.spec.actions}
    if world.spec.classes and starts.class_id is not None:
        options["class_id"] = starts.class_id[rows]
    if world.spec.goal:
        options["goal"] = starts.future[rows, -1]
    session.reset(starts.context[rows], before or None, **options)


def roll(
    world: World, starts: Starts, seed: int, actions: Mapping[str, np.ndarray] | None = None, n_samples: int = 1
) -> np.ndarray:
    """Predict from every start under recorded or other actions.

    Args:
        world: The world.
        starts: Beginnings of the rollouts.
        seed: Equal seeds give equal noise, whatever the actions.
        actions: Stream -> (n, S, ...); None takes the recorded ones.
        n_samples: Rollouts of each start, each with its own noise.

    Returns:
        uint8, (n, K, S, H, W, 3).
    """
    taken, n = starts.actions if actions is None else actions, len(starts.clip)
    rows, n_steps = np.repeat(np.arange(n), n_samples), starts.future.shape[1]
    frames = np.empty((len(rows), *starts.future.shape[1:]), np.uint8)
    batch = _batch(world.spec)
    for i in range(0, len(rows), batch):
        some = rows[i : i + batch]
        session = world.session(n=len(some))
        reset(session, world, starts, some, seed=seed + i)
        steps = rollout(session, {k: taken[k][some] for k in world.spec.actions} or n_steps)
        for s, result in enumerate(steps):
            frames[i : i + batch, s] = result.frame
    return frames.reshape(n, n_samples, *frames.shape[1:])


def roll_long(world: World, starts: Starts, actions: Mapping[str, np.ndarray], n_steps: int, seed: int) -> np.ndarray:
    """Roll out a world for long; a stream restarts from its start when its episode ends.

    Args:
        world: The world.
        starts: Beginnings of the runs.
        actions: Stream -> (n, S, ...).
        n_steps: Steps S.
        seed: Of the noise.

    Returns:
        uint8, (n, S, H, W, 3).
    """
    session, frames = world.session(n=len(starts.clip)), []
    reset(session, world, starts, np.arange(len(starts.clip)), seed=seed)
    for result in rollout(session, {k: actions[k][:, :n_steps] for k in world.spec.actions} or n_steps):
        frames.append(result.frame)
        if (over := np.flatnonzero(result.terminated)).size:
            reset(session, world, starts, over, streams=over.tolist())
    return np.stack(frames, 1)


def _batch(spec: ModelSpec) -> int:
    """Return the number of streams side by side."""
    n_frames = fixed_clip(spec)
    return min(MAX_BATCH, max(1, BATCH_TOKENS // count_tokens(spec, n_frames))) if n_frames else BATCH


def uniform_actions(starts: Starts, specs: Mapping[str, ActionSpec], seed: int) -> dict[str, np.ndarray]:
    """Draw actions uniformly: ids, buttons up or held, vectors between the bounds (the data's own where unknown)."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, spec in specs.items():
        like = starts.actions[name]
        if spec.kind == "discrete":
            result[name] = rng.integers(0, spec.n, like.shape)
            continue
        if spec.kind == "buttons":
            result[name] = rng.integers(0, 2, like.shape).astype(np.float32)
            continue
        axes = tuple(range(like.ndim - 1))
        low = np.array(spec.low) if spec.low else like.min(axes)
        high = np.array(spec.high) if spec.high else like.max(axes)
        result[name] = rng.uniform(low, high, like.shape).astype(np.float32)
    return result


def shuffled_actions(starts: Starts, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Give every start the recorded actions of a start in another clip: realistic sequences, but wrong ones.

    Args:
        starts: Sorted by clip, as ``Starts.drawn`` makes them.
        seed: Of the permutation of clips.

    Returns:
        Stream -> (n, S, ...), and bool (n, S): steps in which the other clip still has an action. A single clip keeps
        its own actions.
    """
    rng = np.random.default_rng(seed)
    clips = np.unique(starts.clip)
    order = rng.permutation(clips)
    partner = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    rows = {c: np.flatnonzero(starts.clip == c) for c in clips.tolist()}
    take = np.concatenate([np.resize(rows[partner[c]], len(rows[c])) for c in clips.tolist()])
    return {k: v[take] for k, v in starts.actions.items()}, starts.valid[take]


# ---------------------------------------------------------------------- frames through the tokenizer


@torch.inference_mode()
def encode(world: World, frames: np.ndarray) -> list[np.ndarray]:
    """Return the codes of a clip, uint8 (T, H, W, 3), stretch by stretch: int64 (P, N) each, all grids side by side.

    Of models with a grid for context frames, codes are those of the other frames.
    """
    parts: list[np.ndarray] = []
    for video in _stretches(world, frames):
        codes = world.model.encode(video)
        if codes is not None:
            parts += _latent_frames(codes)
    return parts


def _latent_frames(codes: Codes) -> list[np.ndarray]:
    grids = codes.grids
    if "video" in codes.keep:  # rows of context frames hold no codes of this grid
        grids = {"video": codes.video[:, codes.keep["video"].flatten(2).any(-1)[0]]}
    return list(torch.cat([g.flatten(2) for g in grids.values()], 2).cpu().numpy())


@torch.inference_mode()
def reconstruct(world: World, frames: np.ndarray) -> np.ndarray:
    """Encode and decode a clip, uint8 (T, H, W, 3); frames at its end that fill no window are dropped."""
    parts = [frames[:0]]
    for video in _stretches(world, frames):
        decoded = world.model.reconstruct(video)
        if decoded is not None:
            parts.append(to_uint8(decoded).flatten(0, 1).cpu().numpy())
    return np.concatenate(parts)


def _stretches(world: World, frames: np.ndarray) -> Iterator[torch.Tensor]:
    """Yield the stretches of a clip, float in [-1, 1], (1, T, H, W, 3), or several whole clips (B, T, H, W, 3)."""
    windows, whole = world.spec.windows(len(frames)), fixed_clip(world.spec)
    together = max(1, CHUNK_FRAMES // whole) if whole else 1
    for i in range(0, len(windows), together):
        video = np.stack([frames[window] for window in windows[i : i + together]])
        yield to_float(torch.from_numpy(video).to(world.device))


# ---------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class EvalData:
    """Properties of the recordings that select the sections."""

    info: DataInfo
    has_tiles: bool = False
    """Frames are drawn from 8x8 tiles."""
    is_labelled: bool = False
    """Actions are latent ones, inferred from the frames by the world's model."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """World, recordings, config and rollouts, common to the sections of an evaluation."""

    world: World
    dataset: Dataset
    train: Dataset
    """Recordings that training clips are taken from."""
    config: EvalConfig
    wide: Sequence[Clip]
    """All clips that may be used."""
    data: EvalData
    atlas: TileAtlas | None = None
    """Tiles of the game, for worlds drawn from tiles."""
    detect: Detector | None = None
    """Features for FVD."""
    lpips: LPIPS | None = None
    progress: Progress = lambda _name, _fraction: None
    cache: Path | None = None
    """Folder for models trained for measurement."""
    published: Sequence[Mapping[str, Any]] = ()
    """Tables of published numbers of the world's system."""
    _memo: dict[str, object] = field(default_factory=dict)
    _rollouts: dict[tuple[int, int, int], tuple[Starts, np.ndarray]] = field(default_factory=dict)

    @property
    def spec(self) -> ModelSpec:
        """Spec of the world."""
        return self.world.spec

    @property
    def seed(self) -> int:
        """Seed of every draw."""
        return self.config.seed

    @property
    def clips(self) -> Sequence[Clip]:
        """Clips that are rolled out."""
        return self.wide[: self.config.clips]

    @property
    def n_samples(self) -> int:
        """Futures drawn from every start."""
        return count_samples(self.spec, self.config)

    @property
    def used(self) -> Sequence[Clip]:
        """Clips that are used for anything."""
        if self.atlas is not None or fixed_clip(self.spec) or self.spec.actions:
            return self.wide
        return self.start_clips if self.n_samples > 1 else self.clips

    @property
    def start_clips(self) -> Sequence[Clip]:
        """Clips that several futures are drawn from, one start in each: more where a future is cheap."""
        if self.config.protocol == "published":
            return self.clips
        n_tokens = count_tokens(self.spec, fixed_clip(self.spec) or max(HORIZONS))
        return self.wide[: max(1, min(4, SAMPLE_TOKENS // n_tokens)) * self.config.clips]

    @cached_property
    def horizons(self) -> tuple[int, ...]:
        """Horizons at which predictions are compared: within one window, and its last step."""
        if not fixed_clip(self.spec) and self.config.protocol == "default":
            return HORIZONS
        reach = min(future_frames(self.spec), max(HORIZONS))
        return tuple(sorted({*(h for h in HORIZONS if h <= reach), reach}))

    @cached_property
    def starts(self) -> Starts:
        """Starts of the predictions that are compared with the recording."""
        context, whole = given_frames(self.spec), fixed_clip(self.spec)
        if self.config.protocol == "published":  # papers begin with the first frames of a clip
            return Starts.at_beginning(self.clips, context, future_frames(self.spec))
        if draws_futures(self.spec, self.config):
            n_steps = future_frames(self.spec) if whole else max(HORIZONS)
            return Starts.drawn(self.start_clips, context, n_steps, 1, self.seed)
        # tile games are also measured by single steps; for smooth images this is the main measure
        per_clip = STARTS_PER_CLIP if self.atlas is None else STARTS_PER_CLIP // 2
        per_clip = 1 if whole or self.n_samples > 1 else per_clip
        return Starts.drawn(self.clips, context, max(self.horizons), per_clip, self.seed)

    @cached_property
    def free_run_starts(self) -> Starts:
        """Starts of the open-loop rollouts, one per clip."""
        clips, n_steps = self.clips, self.config.free_run_steps
        if whole := fixed_clip(self.spec):
            clips, n_steps = clips[:FREE_RUN_CLIPS], min(n_steps, FREE_RUN_WINDOWS * whole)
        return Starts.at_beginning(clips, given_frames(self.spec), n_steps)

    @cached_property
    def control_starts(self) -> Starts:
        """At least ``config.control_starts`` starts, as many in each clip; the first clips alone where these
        suffice."""
        n_starts = self.config.control_starts
        chosen = self.wide[:n_starts]
        per_clip = math.ceil(n_starts / len(chosen))
        return Starts.drawn(chosen, given_frames(self.spec), max(CONTROL_HORIZONS), per_clip, self.seed)

    @cached_property
    def scores(self) -> list[tuple[Clip, Score]]:
        """Recorded clips with their scores: the first ones up to a number of frames."""
        most = MAX_SCORED_WHOLE if fixed_clip(self.spec) else MAX_SCORED
        ends = np.cumsum([len(clip.frames) for clip in self.clips])
        pairs = zip(self.clips, ends, strict=True)
        return [(clip, self.world.score(clip)) for clip, end in pairs if end <= max(most, ends[0])]

    def rollouts(self, starts: Starts, n_samples: int = 1) -> np.ndarray:
        """Predict from starts under the recorded actions, uint8 (n, K, S, H, W, 3); equal requests are rolled once."""
        key = (id(starts), n_samples, starts.future.shape[1])
        if key not in self._rollouts:
            frames = roll(self.world, starts, self.seed, n_samples=n_samples)
            self._rollouts[key] = starts, frames  # kept with its starts, whose id is then not used again
        return self._rollouts[key][1]

    def memo(self, name: str, compute: Callable[[Evaluation], T]) -> T:
        """Return a cached value, used by several sections."""
        if name not in self._memo:
            self._memo[name] = compute(self)
        return cast(T, self._memo[name])

    def frames_right(self, actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Return True for each frame that is exactly right, bool (...): all tiles where there are tiles, else
        pixels."""
        if self.atlas is None:
            return exact_frames(actual, predicted)
        right: np.ndarray = (self.atlas.true_ids(actual) == self.atlas.nearest_ids(predicted)).all((-2, -1))
        return right

    def training_clips(self, n_frames: int, most: int) -> tuple[Iterator[np.ndarray], int]:
        """Draw training clips that are not measured, uint8 (T, H, W, 3), and their number."""
        measured = {clip.source for clip in self.wide}
        return training_clips(self.world, self.train, n_frames, most, measured, self.seed)

    def build(self, texts: Mapping[str, Text], clip: np.ndarray) -> MetricBuilder:
        """Return a builder of metrics for trials that come from the given clips, int64 (n,)."""
        return MetricBuilder(texts, clip, self.seed)


def count_samples(spec: ModelSpec, config: EvalConfig) -> int:
    """Return the number of futures drawn from every start."""
    return config.samples or (1 if spec.actions else OPEN_SAMPLES)


def draws_futures(spec: ModelSpec, config: EvalConfig) -> bool:
    """Return True if several futures are drawn, as there are no actions."""
    return not spec.actions and count_samples(spec, config) > 1
