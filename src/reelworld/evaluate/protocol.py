"""The whole evaluation of a world: which clips, which rollouts, which sections, in one fixed order.

Everything is drawn from one seed. Rollouts run side by side in one session, which is what makes 32 clips of
100 steps, a few thousand single steps and 64 carried-key tests affordable on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from reelworld.evaluate import minigrid
from reelworld.evaluate.clips import Starts, choose_clips, draw_starts, roll
from reelworld.evaluate.figures import Section
from reelworld.evaluate.free_run import free_run_section, free_run_starts
from reelworld.evaluate.outcomes import measure_outcomes
from reelworld.evaluate.prediction import frames_right, measure_control, measure_horizons, measure_surprise, score_clips
from reelworld.evaluate.reconstruction import measure_tokenizer, reconstruct
from reelworld.evaluate.tile_scores import predict_one_step, tile_section
from reelworld.evaluate.tiles import TileAtlas, rare_changes
from reelworld.types import Clip, UserError

if TYPE_CHECKING:
    from reelworld.data.dataset import DataSet
    from reelworld.worlds.world import World

__all__ = ["EvalConfig", "Evaluation", "FreeRun", "evaluate"]

HORIZONS = (1, 2, 4, 8, 16)
STARTS_PER_CLIP = 4
ATLAS_FRAMES = 120_000


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What is measured, and on how much."""

    split: Literal["train", "val", "test", "all"] = "test"
    """Which clips of the data set."""
    clips: int = 32
    """Clips that are rolled out; single steps use up to four times as many."""
    single_steps: int = 2000
    """Single steps from true frames (worlds drawn from tiles)."""
    free_run_steps: int = 100
    """Length of the run on the world's own predictions."""
    key_tests: int = 64
    """Carried-key tests (MiniGrid DoorKey)."""
    tiles: Literal["auto", "yes", "no"] = "auto"
    """Whether frames are drawn from 8x8 tiles; auto looks at the training split."""
    seed: int = 0
    """Of every draw: clips, starts, noise, bootstrap."""
    allow_train: bool = False
    """Accept clips that the world was trained on; the report says so."""

    def __post_init__(self) -> None:
        for name in ("clips", "single_steps", "free_run_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.key_tests < 0 or self.seed < 0:
            raise UserError(f"key_tests is {self.key_tests}, seed {self.seed}; both must be at least 0.")


@dataclass(frozen=True)
class FreeRun:
    """A run of the world beside the recording, for looking at."""

    source: str
    true: np.ndarray
    """uint8, (T, H, W, 3): context and recorded future."""
    world: np.ndarray
    """uint8, (T, H, W, 3): the same context and the world's own future."""
    context: int
    """Frames at the beginning that both share."""
    frames_right: float | None
    """Share of the world's own frames with every tile right; None where frames are not drawn from tiles."""


@dataclass(frozen=True)
class Evaluation:
    """All that was measured."""

    sections: tuple[Section, ...]
    runs: tuple[FreeRun, ...]
    clips: tuple[str, ...]
    """Sources of the clips that were rolled out."""
    n_clips_total: int
    """Clips used at all."""
    n_trained_on: int
    """Clips that the world was trained on; 0 unless asked for."""
    is_tiled: bool
    n_tiles: int
    seconds: float
    problems: tuple[str, ...]


def evaluate(
    world: World,
    dataset: DataSet,
    config: EvalConfig,
    progress: Callable[[str, float], Any] = lambda _name, _share: None,
) -> Evaluation:
    """Measure a world on clips of a data set.

    Args:
        world: What is measured.
        dataset: Where clips come from; its training split gives the tiles of the game.
        config: What and how much.
        progress: Told what is being done and which share of the whole is finished.

    Raises:
        UserError: If the clips do not fit the world or belong to its training list.
    """
    begun = time.monotonic()
    wide = choose_clips(world, dataset, config.split, 4 * config.clips, config.seed, config.allow_train)
    clips = wide[: config.clips]
    trained_on = set(world.info.splits.get("train", ()))
    progress("looking for tiles", 0.02)
    atlas = _find_tiles(dataset, config)
    sections: list[Section] = []
    runs: tuple[FreeRun, ...] = ()
    steps = _sections(world, dataset, config, wide, clips, atlas, progress)
    with torch.inference_mode():
        for made in steps:
            if isinstance(made, Section):
                sections.append(made)
            else:
                runs = made
    return Evaluation(
        sections=tuple(sections),
        runs=runs,
        clips=tuple(c.source for c in clips),
        n_clips_total=len(wide if atlas else clips),
        n_trained_on=sum(c.source in trained_on for c in wide),
        is_tiled=atlas is not None,
        n_tiles=0 if atlas is None else len(atlas.tiles),
        seconds=time.monotonic() - begun,
        problems=dataset.problems,
    )


def _find_tiles(dataset: DataSet, config: EvalConfig) -> TileAtlas | None:
    if config.tiles == "no":
        return None
    atlas = TileAtlas.build(c.frames for c in _training_clips(dataset))
    if atlas is None and config.tiles == "yes":
        raise UserError(
            f"{dataset.path} is not drawn from 8x8 tiles: sizes do not divide by 8 or its training split shows more "
            "than 512 distinct patches; leave --tiles on auto."
        )
    return atlas


def _training_clips(dataset: DataSet) -> Iterator[Clip]:
    """Yield training episodes (all, where nothing is marked as training) up to 120,000 frames."""
    left = ATLAS_FRAMES
    for i in dataset.indices("train") or dataset.indices("all"):
        if left <= 0:
            return
        left -= dataset.episodes[i].n_frames
        yield dataset.read(i)


def _sections(
    world: World,
    dataset: DataSet,
    config: EvalConfig,
    wide: Sequence[Clip],
    clips: Sequence[Clip],
    atlas: TileAtlas | None,
    progress: Callable[[str, float], Any],
) -> Iterator[Section | tuple[FreeRun, ...]]:
    """Yield the sections in the order of the report, and the free runs to look at."""
    context, seed = world.info.context_frames, config.seed
    progress("reconstructing frames", 0.10)
    yield measure_tokenizer(world, clips, atlas, seed)
    if atlas is not None:
        progress("predicting single steps", 0.20)
        one = predict_one_step(world, wide, atlas, config.single_steps, seed)
        rare = rare_changes(atlas.true_ids(c.frames) for c in _training_clips(dataset))
        events = minigrid.event_masks(one, wide) if minigrid.is_minigrid(dataset.info) else {}
        yield tile_section(one, rare, events, seed)
    progress(f"running freely for {config.free_run_steps} steps", 0.40)
    starts = free_run_starts(clips, context, config.free_run_steps)
    predicted = roll(world, starts, seed)
    section = free_run_section(world, starts, predicted, atlas, seed)
    if atlas is not None and minigrid.is_minigrid(dataset.info):
        progress("testing the carried key", 0.55)
        tests = minigrid.find_key_tests(wide, context)[: config.key_tests]
        tests += minigrid.fresh_key_tests(dataset.info, context, config.key_tests - len(tests), seed)
        if tests:
            figures = minigrid.carried_key_figures(world, tests, atlas, seed)
            section = replace(section, figures=(*figures, *section.figures))
    yield section
    yield _runs_to_show(clips, starts, predicted, atlas)
    progress("predicting by horizon", 0.65)
    # steps of a tile game are judged one by one above; where pictures are smooth, this is the main measure
    per_clip = STARTS_PER_CLIP if atlas is None else STARTS_PER_CLIP // 2
    starts = draw_starts(clips, context, max(HORIZONS), per_clip, seed)
    predicted = roll(world, starts, seed)
    flat = starts.future.reshape(-1, *starts.future.shape[2:])
    decoded = reconstruct(world, flat)
    ceiling = decoded.reshape(starts.future.shape) if len(decoded) == len(flat) else None
    yield measure_horizons(starts, predicted, ceiling, HORIZONS, atlas, seed)
    progress("trying other actions", 0.80)
    control = measure_control(world, starts, predicted, HORIZONS, seed)
    if control is not None:
        yield control
    progress("scoring recorded clips", 0.95)
    scored = score_clips(world, clips)
    outcomes = measure_outcomes(scored, seed)
    if outcomes is not None:
        yield outcomes
    yield measure_surprise(world, scored, seed)


def _runs_to_show(
    clips: Sequence[Clip], starts: Starts, predicted: np.ndarray, atlas: TileAtlas | None, n: int = 6
) -> tuple[FreeRun, ...]:
    """Choose runs for the report: the longest clips, worst, middle and best among them."""
    error = [np.abs(starts.future[i, v].astype(np.int16) - predicted[i, v]).mean() for i, v in enumerate(starts.valid)]
    lengths = starts.valid.sum(1)
    longest = [i for i in np.argsort(-lengths, kind="stable").tolist() if lengths[i] >= 0.5 * lengths.max()]
    ranked = sorted(longest, key=lambda i: -error[i])
    picks = sorted({round(x) for x in np.linspace(0, len(ranked) - 1, min(n, len(ranked)))})
    is_right = frames_right(atlas)
    runs = []
    for i in (ranked[p] for p in picks):
        valid = starts.valid[i]
        runs.append(
            FreeRun(
                source=clips[i].source,
                true=np.concatenate([starts.context[i], starts.future[i, valid]]),
                world=np.concatenate([starts.context[i], predicted[i, valid]]),
                context=starts.context.shape[1],
                frames_right=None if atlas is None else float(is_right(starts.future[i], predicted[i])[valid].mean()),
            )
        )
    return tuple(runs)
