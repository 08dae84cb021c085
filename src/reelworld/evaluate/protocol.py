"""The whole evaluation of a world: which clips, which rollouts, which sections, in one fixed order.

Everything is drawn from one seed. Rollouts run side by side in one session, which is what makes 32 clips of
100 steps, a few thousand single steps and 64 carried-key tests affordable on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from reelworld.evaluate.clips import choose_clips, given_frames, open_for
from reelworld.evaluate.closeness import Protocol, future_frames
from reelworld.evaluate.drift import BLOCK
from reelworld.evaluate.figures import Section
from reelworld.evaluate.fvd import check_enough, load_detector
from reelworld.evaluate.plan import Plan, all_training_clips
from reelworld.evaluate.runs import FreeRun, Futures
from reelworld.evaluate.same_game import check_same_game
from reelworld.evaluate.tiles import TileAtlas
from reelworld.nn.perceptual import load_lpips
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.data.dataset import Dataset
    from reelworld.worlds.world import World

__all__ = ["EvalConfig", "Evaluation", "evaluate"]


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
    control_starts: int = 200
    """Starts from which wrong actions are tried, spread over the clips (worlds with actions)."""
    inverse_steps: int = 800
    """Training steps of the network that reads actions off frames; 0 leaves that section out."""
    drift_steps: int = 300
    """Length of the runs that are looked at in blocks of 50 frames, and of the drives; 0 leaves them out."""
    drift_runs: int = 8
    """Number of those runs."""
    simulator_episodes: int = 16
    """Fresh episodes of the live simulator, where the recordings come from one; 0 leaves them out."""
    key_tests: int = 64
    """Carried-key tests (MiniGrid DoorKey)."""
    tiles: Literal["auto", "yes", "no"] = "auto"
    """Whether frames are drawn from 8x8 tiles; auto looks at the training split."""
    protocol: Protocol = "honest"
    """How predicted clips are counted: future frames and the mean of all samples, or as papers do."""
    samples: int | None = None
    """Futures drawn from every start; None draws 8 in worlds without actions, 1 in worlds with them."""
    train_clips: int = 512
    """Training clips that simple predictors of codes are fitted on (worlds that code whole clips)."""
    train_data: Path | None = None
    """Recordings that training clips are taken from; None takes them from the data set that is measured."""
    i3d: Path | None = None
    """TorchScript file of an I3D network, for FVD; loading it runs code from it."""
    lpips: Path | None = None
    """Weights of LPIPS-VGG, safetensors."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the simulator of the recordings may come from."""
    seed: int = 0
    """Of every draw: clips, starts, noise, bootstrap."""
    allow_train: bool = False
    """Accept clips that the world was trained on; the report says so."""

    def __post_init__(self) -> None:
        for name in ("clips", "single_steps", "free_run_steps", "train_clips", "control_starts", "drift_runs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.key_tests < 0 or self.seed < 0:
            raise UserError(f"key_tests is {self.key_tests}, seed {self.seed}; both must be at least 0.")
        for name in ("inverse_steps", "simulator_episodes"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 0, which leaves that out.")
        if 0 < self.drift_steps < BLOCK or self.drift_steps < 0:
            raise UserError(f"drift_steps is {self.drift_steps}; it must be {BLOCK} (one block) or more, or 0.")
        if self.samples is not None and self.samples < 1:
            raise UserError(f"samples is {self.samples}; it must be at least 1.")


@dataclass(frozen=True)
class Evaluation:
    """All that was measured."""

    sections: tuple[Section, ...]
    runs: tuple[FreeRun, ...]
    futures: tuple[Futures, ...]
    clips: tuple[str, ...]
    """Sources of the clips that were rolled out."""
    n_clips_total: int
    """Clips used at all."""
    n_trained_on: int
    """Clips that the world was trained on; 0 unless asked for."""
    n_samples: int
    """Futures drawn from every start."""
    is_tiled: bool
    n_tiles: int
    seconds: float
    problems: tuple[str, ...]
    costs: Mapping[str, float]
    """Section -> CPU-seconds of this process that it took."""


def evaluate(
    world: World,
    dataset: Dataset,
    config: EvalConfig,
    progress: Callable[[str, float], Any] = lambda _name, _share: None,
    cache: Path | None = None,
) -> Evaluation:
    """Measure a world on clips of a data set.

    Args:
        world: What is measured.
        dataset: Where clips come from; its training split gives the tiles of the game.
        config: What and how much.
        progress: Told what is being done and which share of the whole is finished.
        cache: Folder for what is trained to measure with, so that it is trained once; None forgets it.

    Raises:
        UserError: If the clips do not fit the world, show another game or belong to its training list.
    """
    begun = time.monotonic()
    wide = choose_clips(world, dataset, config.split, 4 * config.clips, config.seed, config.allow_train)
    check_same_game(world, wide, dataset.path)
    trained_on = set(world.info.splits.get("train", ()))
    n_frames = future_frames(world) + (given_frames(world) if config.protocol == "published" else 0)
    detect = load_detector(config.i3d, world.device, n_frames) if config.i3d else None
    progress("looking for tiles", 0.02)
    plan = Plan(
        world=world,
        dataset=dataset,
        train=open_for(world, config.train_data) if config.train_data else dataset,
        config=config,
        wide=wide,
        atlas=_find_tiles(dataset, config),
        detect=detect,
        lpips=load_lpips(config.lpips).to(world.device) if config.lpips else None,
        progress=progress,
        cache=cache,
    )
    if detect is not None:
        check_enough(len(plan.starts().clip))
    sections: list[Section] = []
    runs: list[FreeRun] = []
    futures: list[Futures] = []
    costs: dict[str, float] = {}
    with torch.inference_mode():
        since = time.process_time()
        for made in plan.sections():
            if isinstance(made, Section):
                sections.append(made)
                costs[made.name] = round(time.process_time() - since, 2)
                since = time.process_time()
            else:
                runs += [run for run in made if isinstance(run, FreeRun)]
                futures += [run for run in made if isinstance(run, Futures)]
    return Evaluation(
        sections=tuple(sections),
        runs=tuple(runs),
        futures=tuple(futures),
        clips=tuple(c.source for c in plan.clips),
        n_clips_total=len(plan.used),
        n_trained_on=sum(c.source in trained_on for c in plan.used),
        n_samples=plan.n_samples,
        is_tiled=plan.atlas is not None,
        n_tiles=0 if plan.atlas is None else len(plan.atlas.tiles),
        seconds=time.monotonic() - begun,
        problems=dataset.problems,
        costs=costs,
    )


def _find_tiles(dataset: Dataset, config: EvalConfig) -> TileAtlas | None:
    if config.tiles == "no":
        return None
    atlas = TileAtlas.build(c.frames for c in all_training_clips(dataset))
    if atlas is None and config.tiles == "yes":
        raise UserError(
            f"{dataset.path} is not drawn from 8x8 tiles: sizes do not divide by 8 or its training split shows more "
            "than 512 distinct patches; leave --tiles on auto."
        )
    return atlas
