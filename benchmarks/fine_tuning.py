"""Does it help a robot world to have seen other robots? Few demonstrations, with and without what was learned before.

    python benchmarks/fine_tuning.py --robots runs/robots --demonstrations DEMOS --runs runs/fine-tuning \\
        --out benchmarks/results/fine-tuning.json

DEMOS holds a folder per task with five episodes or more each. Of every task the last two are for measuring; two others
in all are for validation; the rest is what is learned from, 2 or 10 episodes of it, chosen by the seed. One world of
the recipe's size small first learns from both robots of worlds/robots.sh, without actions; then one that begins with
its weights and one that begins at random learn the demonstrations with their actions, for as many steps. What is
finished is kept: run it again to go on.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from keeping import figures_to_keep, flags, keep
from robot_worlds import HORIZONS, SAMPLES, SIZE, trained

from reelworld.evaluate.clips import choose_clips, draw_starts, given_frames, open_for
from reelworld.evaluate.reconstruction import measure_tokenizer
from reelworld.evaluate.samples import draw_samples, samples_section
from reelworld.files import write_json
from reelworld.worlds.world import World

EPISODES = (2, 10)
FOR_TESTS = 2
"""Last episodes of each task."""
FOR_VALIDATION = 2
"""Episodes in all."""
STARTS = 6
"""Of each test episode."""


def divided(demonstrations: Path, out: Path, n_train: int, seed: int) -> Path:
    """Link episodes into folders of their splits."""
    tasks = [sorted(folder.glob("*.npz")) for folder in sorted(demonstrations.iterdir()) if folder.is_dir()]
    others = [episode for task in tasks for episode in task[:-FOR_TESTS]]
    random.Random(seed).shuffle(others)
    splits = {
        "test": [episode for task in tasks for episode in task[-FOR_TESTS:]],
        "val": others[:FOR_VALIDATION],
        "train": others[FOR_VALIDATION : FOR_VALIDATION + n_train],
    }
    for split, episodes in splits.items():
        for episode in episodes:
            link = out / split / f"{episode.parent.name}-{episode.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(episode.resolve())
    return out


def measured(world: World, data: Path, seed: int) -> dict[str, Any]:
    """Measure on the test episodes: pictures through the codes, several futures."""
    clips = choose_clips(world, open_for(world, data), "test", 1000, seed)
    starts = draw_starts(clips, given_frames(world), max(HORIZONS), STARTS, seed)
    samples = samples_section(starts, draw_samples(world, starts, SAMPLES, seed), HORIZONS, None, seed)
    return figures_to_keep([*measure_tokenizer(world, clips, None, seed).figures, *samples.figures])


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--robots", type=Path, default=Path("runs/robots"), help="recordings of worlds/robots.sh")
    parser.add_argument("--demonstrations", type=Path, required=True, help="a folder per task of .npz episodes")
    parser.add_argument("--runs", type=Path, default=Path("runs/fine-tuning"), help="where finished ones are kept")
    parser.add_argument(
        "--before", nargs=2, type=int, default=[1500, 800], help="steps of tokenizer and dynamics before"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of the worlds of demonstrations")
    parser.add_argument("--steps", nargs=2, type=int, default=[400, 300], help="and of each world of demonstrations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    def steps(both: list[int]) -> list[str]:
        counts = ["--tokenizer-steps", str(both[0]), "--steps", str(both[1])]
        return [*SIZE, "--clip-frames", "17", "--threads", "1", *counts]

    robots = [arguments.robots / task / "recording" for task in ("cartpole", "reacher")]
    before = arguments.runs / "before"
    trained(before, robots, 0, [*steps(arguments.before), "--frame-stride", "2", "--actions", "none"])
    rows = []
    for seed in arguments.seeds:
        for n_episodes in EPISODES:
            data = divided(arguments.demonstrations, arguments.runs / f"data-{n_episodes}-{seed}", n_episodes, seed)
            for begins, words in (("at random", []), ("from other robots", ["--pretrained", str(before / "world")])):
                run = arguments.runs / f"{begins.replace(' ', '-')}-{n_episodes}-{seed}"
                world = trained(run, [data], seed, [*steps(arguments.steps), *words])
                if not (kept := run / "figures.json").is_file():
                    write_json(kept, measured(world, data, seed))
                found = json.loads(kept.read_text(encoding="utf-8"))
                rows.append({"begins": begins, "episodes": n_episodes, "seed": seed, "figures": found})
                shown = {name: f["value"] for name, f in found.items() if name.startswith("gain_mean")}
                print(begins, n_episodes, seed, json.dumps(shown), file=sys.stderr, flush=True)
    keep(
        "fine-tuning",
        arguments.out,
        seeds=arguments.seeds,
        samples=SAMPLES,
        steps_before=arguments.before,
        steps=arguments.steps,
        results=rows,
    )


if __name__ == "__main__":
    main()
