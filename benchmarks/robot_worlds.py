"""Train iVideoGPT worlds on recorded robots from three seeds and measure them (docs/systems/ivideogpt.md).

    bash worlds/robots.sh                                  # records, into runs/robots
    python benchmarks/robot_worlds.py --runs runs/robots --out benchmarks/results/ivideogpt-robots.json \\
        --train-flags --precision bf16

RUNS/TASK holds ``recording`` (trained on), ``test-recording`` (other seeds) and perhaps ``reward-recording`` (others
again). Per task and seed: the per-pixel mean of 4 samples 2 to 15 steps ahead, what the true actions are worth 4 steps
ahead, and expected rewards on all episodes. Beside them a copy of the last frame, other actions, always the mean
reward. What is finished is kept: run it again to go on.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import figures_to_keep, flags, keep, minutes, trained

from reelworld.data.dataset import Dataset
from reelworld.evaluate.protocol import EvalConfig, choose_clips, given_frames, open_for
from reelworld.evaluate.results import Metric
from reelworld.evaluate.run import measure_section, prepare
from reelworld.evaluate.samples import Starts
from reelworld.evaluate.sections import controllability, prediction, reward, tokenizer
from reelworld.files import write_json
from reelworld.worlds.world import World

SEEDS = (0, 1, 2)
SAMPLES = 4
HORIZONS = tuple(range(2, 16))
CONTROL_STARTS = 128
STEPS = {"cartpole": (3000, 3000, 1500), "reacher": (6000, 6000, 1500)}
"""Of tokenizer, drafts and transformer: two joints take longer to draw and to foresee than one."""
RECORDED = ("test-recording", "reward-recording")
"""Episodes that rewards are measured on; the second, where there is one, has more of them."""
STRIDE = {"cartpole": "2", "reacher": "4"}
"""Frames of 40 ms per step."""


def trained_world(run: Path, data: Path, seed: int, words: list[str]) -> World:
    """Train, or load what was trained with the same words."""
    world = World.load(trained(run, "ivideogpt:small_32", data, "--seed", str(seed), *words))
    was = world.info.provenance["training"]["command"]
    if not set(map(str, words)) <= set(was.split()):
        raise SystemExit(f"{run} was trained by other words ({was}); remove it, or give another --runs.")
    return world


def measured(world: World, data: Path, n_clips: int, seed: int) -> dict[str, Any]:
    """Measure a world on episodes that training never saw."""
    # four times as many clips may be drawn as are rolled out
    config = EvalConfig(split="all", clips=n_clips, control_starts=CONTROL_STARTS, tiles="no", seed=seed)
    evaluation = prepare(world, open_for(world, data), config)
    evaluation = replace(evaluation, wide=evaluation.clips)
    starts = Starts.drawn(evaluation.clips, given_frames(world.spec), max(HORIZONS), 1, seed)
    samples = evaluation.rollouts(starts, SAMPLES)
    made = prediction.sample_metrics(evaluation.build(prediction.TEXTS, starts.clip), starts, samples, HORIZONS)
    metrics = [metric for metric in made if isinstance(metric, Metric)]
    for section in (tokenizer.SECTION, controllability.DELTAS):
        metrics += measure_section(section, evaluation)[0].metrics
    return figures_to_keep(metrics)


def measured_rewards(world: World, recordings: list[Dataset], seed: int) -> dict[str, Any]:
    """Measure expected rewards on all episodes: where few of them pay, some dozen tell little."""
    scored = []
    for data in recordings:
        for clip in choose_clips(world, data, "all", len(data.episodes), seed):
            scored.append((clip, world.score(clip)))
    return {**figures_to_keep(reward.outcome_metrics(scored, seed)), "reward_episodes": len(scored)}


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/robots"), help="folder of recordings and trainings")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="seeds of the trainings")
    parser.add_argument("--tasks", nargs="+", choices=list(STEPS), default=list(STEPS), help="folders in it")
    parser.add_argument("--clips", type=int, default=48, help="test episodes")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--train-flags", nargs=argparse.REMAINDER, default=[], help="more flags for every training")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for seed in arguments.seeds:
        for task in arguments.tasks:
            folder = arguments.runs / task
            run = folder / f"world-{seed}"
            of_parts = zip(
                ("--tokenizer.steps", "--frame-prior.steps", "--dynamics.steps"), map(str, STEPS[task]), strict=True
            )
            words = [*(word for pair in of_parts for word in pair), "--frame-stride", STRIDE[task], "--rewards"]
            words += ["--threads", str(arguments.threads), *arguments.train_flags]
            world = trained_world(run, folder / "recording", seed, words)
            if not (kept := run / f"figures-{arguments.clips}.json").is_file():
                write_json(kept, measured(world, folder / "test-recording", arguments.clips, seed))
            paying = [open_for(world, path) for name in RECORDED if (path := folder / name).is_dir()]
            n_episodes = sum(len(data.episodes) for data in paying)
            if not (rewards := run / f"rewards-{n_episodes}.json").is_file():
                write_json(rewards, measured_rewards(world, paying, seed))
            found = {**json.loads(kept.read_text("utf-8")), **json.loads(rewards.read_text("utf-8"))}
            about = {name: world.info.provenance["training"][name] for name in ("command", "commit")}
            about |= {"minutes": minutes(run), "reward_episodes": found.pop("reward_episodes")}
            rows.append({"task": task, "seed": seed, **about, "figures": found})
            shown = {name: f["value"] for name, f in found.items() if name.startswith(("gain_mean", "delta", "reward"))}
            print(task, seed, json.dumps(shown), file=sys.stderr, flush=True)
    keep("ivideogpt-robots", arguments.out, seeds=arguments.seeds, samples=SAMPLES, clips=arguments.clips, results=rows)


if __name__ == "__main__":
    main()
