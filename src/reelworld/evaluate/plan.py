"""Which sections a world gets, in the order of the report.

Worlds with actions are asked what each key does; worlds without are asked for several futures. Worlds that code whole
clips pay a whole window for every start, so they get fewer starts, no single steps, and shorter free runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.evaluate import drift, minigrid
from reelworld.evaluate.agent import AgentFinder
from reelworld.evaluate.clips import (
    Starts,
    clip_frames_of,
    draw_starts,
    given_frames,
    read_episode,
    roll,
    tokens_of,
)
from reelworld.evaluate.closeness import closeness_section, collate, future_frames
from reelworld.evaluate.codes import measure_codes
from reelworld.evaluate.control import control_starts, measure_control
from reelworld.evaluate.drift import BLOCK, RealRange, cycled_actions, drift_section, run_on
from reelworld.evaluate.driving import can_drive, driving_section
from reelworld.evaluate.figures import Section
from reelworld.evaluate.following import measure_following
from reelworld.evaluate.free_run import free_run_section, free_run_starts
from reelworld.evaluate.fvd import Detector, check_enough, fvd_section, missing_fvd
from reelworld.evaluate.latents import measure_latents
from reelworld.evaluate.outcomes import measure_outcomes
from reelworld.evaluate.prediction import (
    ALONE,
    COPY,
    UNDER_ACTIONS,
    measure_horizons,
    measure_surprise,
    score_clips,
)
from reelworld.evaluate.published import published_beside
from reelworld.evaluate.reconstruction import measure_tokenizer, reconstruct
from reelworld.evaluate.runs import FreeRun, Futures, choose_futures, choose_runs
from reelworld.evaluate.samples import draw_samples, find_cells, samples_section
from reelworld.evaluate.simulated import FIRST_SEED, has_simulator, open_simulator, played, simulated_section
from reelworld.evaluate.tile_scores import predict_one_step, tile_section
from reelworld.evaluate.tiles import TileAtlas, rare_changes
from reelworld.evaluate.windows import cut_whole_clips, encode_whole, training_clips
from reelworld.types import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from reelworld.data.dataset import Dataset
    from reelworld.evaluate.closeness import Compared
    from reelworld.evaluate.protocol import EvalConfig
    from reelworld.nn.perceptual import LPIPS
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["Plan", "all_training_clips"]

HORIZONS = (1, 2, 4, 8, 16)
STARTS_PER_CLIP = 4
ATLAS_FRAMES = 120_000
SAMPLE_TOKENS = 512
"""Where the future of one start costs no more codes than this part of it, more starts are drawn."""
OPEN_SAMPLES = 8
"""Futures of every start where nothing says what will be done."""
FREE_RUN_CLIPS = 8
FREE_RUN_WINDOWS = 3
"""Length of the free run of a world that codes whole clips, in such clips."""

Found = Section | tuple[FreeRun, ...] | tuple[Futures, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured on what; ``sections`` does it."""

    world: World
    dataset: Dataset
    train: Dataset
    """Where training clips come from."""
    config: EvalConfig
    wide: Sequence[Clip]
    """All clips that may be used."""
    atlas: TileAtlas | None
    """Tiles of the game, for worlds drawn from tiles."""
    detect: Detector | None
    """Features for FVD."""
    lpips: LPIPS | None
    """Weights of LPIPS."""
    progress: Callable[[str, float], Any]
    cache: Path | None = None
    """Where what is trained to measure with is kept."""

    @property
    def clips(self) -> Sequence[Clip]:
        """Those that are rolled out."""
        return self.wide[: self.config.clips]

    @property
    def used(self) -> Sequence[Clip]:
        """Those that are used for anything."""
        if self.atlas is not None or self.whole or not self.is_open:
            return self.wide
        return self._start_clips if self.n_samples > 1 else self.clips

    @property
    def n_samples(self) -> int:
        """Futures drawn from every start."""
        return self.config.samples or (OPEN_SAMPLES if self.is_open else 1)

    @property
    def _start_clips(self) -> Sequence[Clip]:
        """Those from which several futures are drawn, once each: more where a future is cheap."""
        if self.config.protocol == "published":
            return self.clips
        n_tokens = tokens_of(self.world, self.whole or max(HORIZONS))
        return self.wide[: max(1, min(4, SAMPLE_TOKENS // n_tokens)) * self.config.clips]

    @property
    def whole(self) -> int:
        """Frames that the world always codes together; 0 for any number."""
        return clip_frames_of(self.world)

    @property
    def is_open(self) -> bool:
        """Nothing tells the world what will be done."""
        return not self.world.info.actions

    def horizons(self) -> tuple[int, ...]:
        """Steps at which predictions are judged: as far as one window reaches, and its last."""
        if not self.whole and self.config.protocol == "honest":
            return HORIZONS
        reach = min(future_frames(self.world), max(HORIZONS))
        return tuple(sorted({*(h for h in HORIZONS if h <= reach), reach}))

    def starts(self) -> Starts:
        """Draw the places from which to predict."""
        context, seed = given_frames(self.world), self.config.seed
        if self.config.protocol == "published":  # papers begin with the first frames of a clip
            return free_run_starts(self.clips, context, future_frames(self.world))
        if self.is_open and self.n_samples > 1:
            n_steps = future_frames(self.world) if self.whole else max(HORIZONS)
            return draw_starts(self._start_clips, context, n_steps, 1, seed)
        # steps of a tile game are judged one by one; where pictures are smooth, this is the main measure
        per_clip = STARTS_PER_CLIP if self.atlas is None else STARTS_PER_CLIP // 2
        per_clip = 1 if self.whole or self.n_samples > 1 else per_clip
        return draw_starts(self.clips, context, max(self.horizons()), per_clip, seed)

    def sections(self) -> Iterator[Found]:
        """Yield the sections in the order of the report, and the runs to look at."""
        self.progress("reconstructing frames", 0.10)
        yield measure_tokenizer(self.world, self.clips, self.atlas, self.config.seed)
        if self.dataset.recorded is not None and (found := self._latent_actions(self.dataset)):
            yield found
        if self.whole:
            yield from self._codes()
        elif self.atlas is not None:
            yield self._single_steps(self.atlas)
        if self.is_open and self.n_samples > 1:
            yield from self._futures()
            yield from self._free_run()
        else:
            yield from self._free_run()
            yield from self._horizons()
        if not self.is_open:
            yield from self._control()
        if self.config.drift_steps and not self.whole:
            yield from self._long_runs()
        if self.config.simulator_episodes and not self.is_open:
            self.progress("playing the game itself", 0.92)
            info, n = self.dataset.info, self.config.simulator_episodes
            if (
                section := simulated_section(self.world, info, n, self.config.seed, self.config.allow_code)
            ) is not None:
                yield section
        yield from self._scores()

    def _latent_actions(self, dataset: Dataset) -> Section | None:
        self.progress("comparing latent actions with recorded ones", 0.15)
        return measure_latents(dataset, self.config.split, self.config.seed)

    def _single_steps(self, atlas: TileAtlas) -> Section:
        self.progress("predicting single steps", 0.20)
        one = predict_one_step(self.world, self.wide, atlas, self.config.single_steps, self.config.seed)
        rare = rare_changes(atlas.true_ids(c.frames) for c in all_training_clips(self.dataset))
        events = minigrid.event_masks(one, self.wide) if minigrid.is_minigrid(self.dataset.info) else {}
        return tile_section(one, rare, events, self.config.seed)

    def _codes(self) -> Iterator[Section]:
        self.progress("scoring codes", 0.20)
        held_out = cut_whole_clips(self.wide, self.whole, 4 * self.config.clips)
        clips, n = self._training(self.whole, self.config.train_clips)
        source = f"{n} training clips"
        if not n:
            clips, source = iter(held_out.frames), "these very clips, for want of others, which favours them"
        made = measure_codes(self.world, held_out, encode_whole(self.world, clips), source, self.config.seed)
        if made is not None:
            yield made

    def _training(self, n_frames: int, most: int) -> tuple[Iterator[np.ndarray], int]:
        """Read whole clips that are not measured."""
        measured = {clip.source for clip in self.wide}
        return training_clips(self.world, self.train, n_frames, most, measured, self.config.seed)

    def _futures(self) -> Iterator[Found]:
        """Draw several futures of every start, and judge their mean, and the first as a prediction of its own."""
        config, starts, horizons = self.config, self.starts(), self.horizons()
        samples = self._samples(starts, 0.30)
        cells = None
        if self.atlas is not None:
            atlas = self.atlas
            finder = AgentFinder.learn(atlas, (atlas.true_ids(c.frames) for c in all_training_clips(self.dataset)))
            if finder is not None:
                cells = find_cells(finder, atlas, starts, samples, horizons)
        yield samples_section(starts, samples, horizons, cells, config.seed)
        yield choose_futures(self.wide, starts, samples)
        yield from self._compared(starts, samples, ALONE)

    def _free_run(self) -> Iterator[Found]:
        config, clips, n_steps = self.config, self.clips, self.config.free_run_steps
        if self.whole:
            clips, n_steps = clips[:FREE_RUN_CLIPS], min(n_steps, FREE_RUN_WINDOWS * self.whole)
        self.progress(f"running freely for {n_steps} steps", 0.40 if not self.is_open else 0.75)
        starts = free_run_starts(clips, given_frames(self.world), n_steps)
        predicted = roll(self.world, starts, config.seed)
        section = free_run_section(self.world, starts, predicted, self.atlas, config.seed)
        yield replace(section, figures=(*self._key_tests(), *section.figures))
        yield choose_runs(clips, starts, predicted, self.atlas, self.is_open)

    def _key_tests(self) -> Sequence[Any]:
        """Test the carried key, in MiniGrid, of worlds that can be told to use it."""
        world, config, context = self.world, self.config, given_frames(self.world)
        if self.atlas is None or self.is_open or not minigrid.is_minigrid(self.dataset.info):
            return ()
        self.progress("testing the carried key", 0.55)
        tests = minigrid.find_key_tests(self.wide, context)[: config.key_tests]
        tests += minigrid.fresh_key_tests(self.dataset.info, context, config.key_tests - len(tests), config.seed)
        return minigrid.carried_key_figures(world, tests, self.atlas, config.seed) if tests else ()

    def _horizons(self) -> Iterator[Found]:
        """Predict from every start, under the recorded actions where the world takes any."""
        starts = self.starts()
        samples = self._samples(starts, 0.65)
        if self.n_samples > 1:
            yield choose_futures(self.clips, starts, samples)
        yield from self._compared(starts, samples, ALONE if self.is_open else UNDER_ACTIONS)

    def _control(self) -> Iterator[Section]:
        """Try other actions, and read the actions that were taken off the frames."""
        config, seed = self.config, self.config.seed
        self.progress("trying other actions", 0.70)
        starts = control_starts(self.wide, given_frames(self.world), config.control_starts, seed)
        predicted = roll(self.world, starts, seed)
        yield measure_control(self.world, starts, predicted, seed)
        if config.inverse_steps:
            self.progress("learning to read actions off frames", 0.74)
            measured = {clip.source for clip in self.wide}
            yield measure_following(
                self.world, self.train, measured, starts, predicted, config.inverse_steps, seed, self.cache
            )

    def _long_runs(self) -> Iterator[Section]:
        """Run for long, under recorded actions and under a driver's."""
        world, config, context = self.world, self.config, given_frames(self.world)
        clips, n_steps = self.wide[: config.drift_runs], config.drift_steps
        self.progress(f"running for {n_steps} steps", 0.82)
        starts = free_run_starts(clips, context, 1)
        actions = cycled_actions(clips, context, n_steps)
        runs = run_on(world, starts, actions, n_steps, config.seed)
        beside = {
            "held-out recordings": [clip.frames for clip in self.wide],
            "standing still": [np.repeat(last[-1:], BLOCK, 0) for last in starts.context],
            **self._game_runs(actions),
        }
        how = drift.ALONE if self.is_open else drift.TOLD
        yield drift_section(runs, beside, RealRange.of(self._real_frames()), config.seed, how)
        if can_drive(world, self.dataset.info):
            self.progress(f"driving for {n_steps} steps", 0.87)
            yield driving_section(world, self.dataset.info, self.wide, config.drift_runs, n_steps, config.seed)

    def _game_runs(self, actions: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
        """Let the game itself run under the same actions, where it is installed and takes them."""
        if self.is_open or not has_simulator(self.world, self.dataset.info):
            return {}
        (stream,) = self.world.info.actions
        try:
            with open_simulator(self.dataset.info, self.config.allow_code) as simulator:
                seeds = range(FIRST_SEED, FIRST_SEED + 1000 * len(actions[stream]), 1000)
                runs = [played(simulator, row, seed) for row, seed in zip(actions[stream], seeds, strict=True)]
        except UserError:  # the section below says what is missing
            return {}
        return {"the game itself, same actions": runs}

    def _real_frames(self) -> Iterator[np.ndarray]:
        """Read training episodes as the world sees them."""
        for i in self.train.indices("train") or self.train.indices("all"):
            yield read_episode(self.world, self.train, i).frames

    def _samples(self, starts: Starts, share: float) -> np.ndarray:
        """Draw the futures of every start, uint8 (n, K, S, H, W, 3)."""
        self.progress(f"drawing {self.n_samples} futures from each of {len(starts.clip)} starts", share)
        return draw_samples(self.world, starts, self.n_samples, self.config.seed)

    def _compared(self, starts: Starts, samples: np.ndarray, how: str) -> Iterator[Section]:
        """Judge the first sample step by step, and all of them as clips, by the protocol that was asked for."""
        protocol, seed = self.config.protocol, self.config.seed
        ceiling = self._ceiling(starts)
        yield measure_horizons(starts, samples[:, 0], ceiling, self.horizons(), self.atlas, seed, how)
        clips = collate(self.world, starts, samples, protocol)
        self.progress("comparing clips", 0.68)
        yield closeness_section(self.world, clips, protocol, self.lpips, seed)
        if self.detect is not None:
            yield self._fvd(clips)
        elif (self.is_open and self.n_samples > 1) or protocol == "published":
            yield missing_fvd()

    def _ceiling(self, starts: Starts) -> np.ndarray | None:
        """Put the recorded future through the tokenizer; with its context where clips are coded whole."""
        n_steps = starts.future.shape[1]
        frames = starts.future
        if self.whole:
            frames = np.concatenate([starts.context, frames], 1)[:, -self.whole :]
        flat = frames.reshape(-1, *frames.shape[2:])
        decoded = reconstruct(self.world, flat)
        return decoded.reshape(frames.shape)[:, -n_steps:] if len(decoded) == len(flat) else None

    def _fvd(self, clips: Compared) -> Section:
        """Compare features of clips, beside those of training clips and of the last frame repeated."""
        assert self.detect is not None
        self.progress("measuring FVD", 0.70)
        n, n_frames = clips.true.shape[:2]
        check_enough(n)
        sets, is_published = {COPY: clips.copied[:, 0]}, self.config.protocol == "published"
        training, n_training = self._training(n_frames, n)
        if n_training > 1:
            sets = {f"{n_training} training clips": np.stack(list(training)), **sets}
        reported = published_beside(self.world, "fvd_published", n_frames, n, self.n_samples) if is_published else {}
        return fvd_section(self.detect, clips, sets, is_published, reported)

    def _scores(self) -> Iterator[Section]:
        self.progress("scoring recorded clips", 0.95)
        scored = score_clips(self.world, self.clips)
        outcomes = measure_outcomes(scored, self.config.seed)
        if outcomes is not None:
            yield outcomes
        yield measure_surprise(self.world, scored, self.config.seed)


def all_training_clips(dataset: Dataset) -> Iterator[Clip]:
    """Yield training episodes (all, where nothing is marked as training) up to 120,000 frames."""
    left = ATLAS_FRAMES
    for i in dataset.indices("train") or dataset.indices("all"):
        if left <= 0:
            return
        left -= dataset.episodes[i].n_frames
        yield dataset.read(i)
