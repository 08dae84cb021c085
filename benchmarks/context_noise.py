"""Does noise on the codes that a world is given in training keep it from drifting? Trained with and without, compared.

    python benchmarks/context_noise.py --world src/reelworld/shipped/doorkey --data runs/worlds/doorkey/recording
    python benchmarks/context_noise.py --world src/reelworld/shipped/driving --data runs/carracing/recording \\
        --held-out runs/driving/val-recording

The tokenizer is that of the world; its dynamics are trained anew, with each greatest share of replaced codes from the
same seeds. StepScores on the recording's validation episodes, or on others that nothing was trained on and that are not
those of the report: single steps, runs under recorded actions, and where the game is CarRacing drives by a driver that
sees pixels only. Beside each: a copy of the last frame, or the game itself. What is finished already is kept in --runs:
run it again to go on.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from keeping import figures_to_keep, flags, keep

from reelworld.config import from_json
from reelworld.data.dataset import Dataset
from reelworld.evaluate.clips import choose_clips, open_for, read_episode, roll
from reelworld.evaluate.drift import RealRange, cycled_actions, drift_section, run_on
from reelworld.evaluate.driving import Drives, can_drive, drive_simulator, drive_world, driving_figures
from reelworld.evaluate.free_run import free_run_section, free_run_starts
from reelworld.evaluate.plan import all_training_clips
from reelworld.evaluate.prediction import measure_horizons
from reelworld.evaluate.tiles import TileAtlas
from reelworld.files import write_json
from reelworld.systems.pocket import train as pocket
from reelworld.train.loop import train
from reelworld.train.run import Run
from reelworld.types import Clip
from reelworld.worlds.world import World

SEEDS = (0, 1, 2)
FREE_STEPS = 100
LONG_RUNS = 8
HORIZONS = (1, 4)


def learned(world: World, config: pocket.Config, dataset: Dataset, folder: Path) -> World:
    """Train dynamics on the codes of the world's tokenizer from the beginning."""
    parts = {**pocket.build(config, dataset.info), "tokenizer": world.tokenizer}
    with Run.open(folder, {"context_noise": config.context_noise, "seed": config.seed, "steps": config.steps}) as run:
        _, dynamics = pocket.stages(config, parts, dataset, run)
        train([dynamics], run, {"dynamics": parts["dynamics"]}, seed=config.seed, device="cpu")
        for part in parts.values():
            part.eval()
        return pocket.finish(config, parts, dataset, run)


class Judge:
    """Measures worlds of one game on the same clips."""

    def __init__(self, world: World, dataset: Dataset, held_out: Path | None, n_clips: int, n_steps: int) -> None:
        self.n_steps = n_steps
        judged, split = (dataset, "val") if held_out is None else (open_for(world, held_out), "all")
        self.clips: list[Clip] = list(choose_clips(world, judged, split, n_clips, 0))
        self.atlas = TileAtlas.build(clip.frames for clip in all_training_clips(dataset))
        self.real = RealRange.of(read_episode(world, dataset, i).frames for i in dataset.indices("train"))
        self.game: Drives | None = None
        if can_drive(world, dataset.info):
            self.game = Drives.of(drive_simulator(dataset.info, LONG_RUNS, n_steps, 0))

    def figures(self, world: World) -> dict[str, Any]:
        """Measure one world."""
        context = world.info.context_frames
        starts = free_run_starts(self.clips, context, FREE_STEPS)
        predicted = roll(world, starts, 0)
        free = free_run_section(world, starts, predicted, self.atlas, 0)
        near = measure_horizons(starts, predicted, None, HORIZONS, self.atlas, 0, "under the recorded actions")
        runs = self.clips[:LONG_RUNS]
        actions = cycled_actions(runs, context, self.n_steps)
        long_starts = free_run_starts(runs, context, 1)
        long = drift_section(run_on(world, long_starts, actions, self.n_steps, 0), {}, self.real, 0)
        result = {
            **figures_to_keep(near.figures, *(f"{kind}_h{h}" for h in HORIZONS for kind in ("psnr", "gain", "exact"))),
            **figures_to_keep(free.figures, "free_run_frames_exact", "free_run_psnr", "free_run_motion"),
            **figures_to_keep(long.figures, "drift_within", "drift_last_within", "drift_edges", "drift_motion"),
        }
        if self.game is not None:
            drives = Drives.of(drive_world(world, self.clips, LONG_RUNS, self.n_steps, 0))
            result |= figures_to_keep(driving_figures(drives, self.game, 0))
        return result


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--world", type=Path, required=True, help="a world of the recipe pocket; its tokenizer is used")
    parser.add_argument("--data", type=Path, required=True, help="its recordings")
    parser.add_argument("--held-out", type=Path, help="a recording to judge on, instead of validation episodes")
    parser.add_argument("--runs", type=Path, default=Path("runs/context-noise"), help="where trainings are kept")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.1], help="greatest shares of replaced codes")
    parser.add_argument("--steps", type=int, default=2500, help="optimizer steps of each training")
    parser.add_argument("--clips", type=int, default=64, help="validation clips")
    parser.add_argument("--run-steps", type=int, default=300, help="length of the long runs and drives")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    world = World.load(arguments.world)
    config = replace(
        from_json(pocket.Config, world.info.provenance["config"], "world.json"),
        steps=arguments.steps,
        max_minutes=None,
    )
    dataset = open_for(world, arguments.data)
    judge = Judge(world, dataset, arguments.held_out, arguments.clips, arguments.run_steps)
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        for noise in arguments.noise:
            folder = arguments.runs / f"{world.info.name}-{arguments.steps}-steps-noise-{noise:g}-seed-{seed}"
            kept = folder / "figures.json"
            if not kept.is_file():
                begun = time.process_time()
                trained = learned(world, replace(config, context_noise=noise, seed=seed), dataset, folder)
                cost = time.process_time() - begun
                row = {"noise": noise, "seed": seed, "cpu_seconds": cost, "figures": judge.figures(trained)}
                write_json(kept, row)
            rows.append(json.loads(kept.read_text(encoding="utf-8")))
            shown = {name: round(f["value"], 4) for name, f in rows[-1]["figures"].items() if f["value"] is not None}
            print(noise, seed, json.dumps(shown), file=sys.stderr, flush=True)
    keep(
        "context-noise",
        arguments.out,
        world=world.info.name,
        steps=arguments.steps,
        clips=len(judge.clips),
        run_steps=arguments.run_steps,
        results=rows,
    )


if __name__ == "__main__":
    main()
