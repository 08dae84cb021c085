"""Is it worth it to code later frames in few codes? The compressive tokenizer of iVideoGPT beside tokenizers per frame.

    python benchmarks/compressive.py --data RECORDING --test TEST-RECORDING --minutes 30 \\
        --out benchmarks/results/compressive.json

All are of the recipe's size small on frames of 32x32: the compressive one codes two context frames in 8x8 codes and
every later one in 4x4; its siblings code every frame alone, in 4x4, 8x8 or 16x16. Their networks are the same blocks,
so much wider that all have as many parameters (within 5%); the transformer is the same one over more or fewer tokens.
Every tokenizer and every transformer learns for as many CPU-minutes on one thread. What is finished is kept in --runs:
run it again to go on.

Nats per frame are of each one's own codes: compare them between seeds, not between tokenizers.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frame_vqgan import as_large_as
from keeping import figures_to_keep, flags, keep
from torch import nn

from reelworld.data.dataset import DataInfo, Dataset, ReadOptions
from reelworld.evaluate.clips import choose_clips, draw_starts, open_for
from reelworld.evaluate.figures import db
from reelworld.evaluate.metrics import squared_error
from reelworld.evaluate.reconstruction import reconstruct
from reelworld.evaluate.samples import draw_samples, samples_section
from reelworld.files import write_json
from reelworld.nn.pixels import to_float
from reelworld.systems import find_system
from reelworld.systems.ivideogpt import train as ivideogpt
from reelworld.systems.ivideogpt.config import Config
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
from reelworld.train.autotune import autocast, choose_precision, probe
from reelworld.train.optim import Gradients, lr_factor, make_optimizer
from reelworld.train.stage import Stage
from reelworld.types import Clip, Conditions
from reelworld.worlds.world import World

CPU = torch.device("cpu")
SIDE = 32
CHANNELS = (32, 32, 64)
STRIDE = 2
"""As of the worlds of robot_worlds.py."""
SAMPLES = 4
HORIZONS = tuple(range(1, 11))
PLACES = 4096
"""Longest sequence: ten frames of 16x16 codes behind two; it costs no parameters."""
SIBLINGS: dict[str, dict[str, Any]] = {
    "per-frame-4x4": {"channels": (32, 32, 64), "patch": 2},
    "per-frame-8x8": {"channels": (32, 32, 64), "patch": 1},
    "per-frame-16x16": {"channels": (24, 64), "patch": 1},
}
TOKENIZERS = ("compressive", *SIBLINGS)
SPEED_FRAMES = 4
"""Frames over which the speed of drawing is measured, after one that is not."""


def made(name: str, config: Config, info: DataInfo) -> dict[str, nn.Module]:
    """Make the untrained parts around one of the tokenizers."""
    parts = ivideogpt.build(config, info)
    if name == "compressive":
        return parts
    given: Any = parts["dynamics"]
    tokenizer = as_large_as(parts["tokenizer"], config, **SIBLINGS[name], side=SIDE)
    grid = tokenizer.grid
    dynamics = IVideoGPTTransformer(replace(given.config, grid=grid, context_grid=grid))
    return {"tokenizer": tokenizer, "dynamics": dynamics}


def learn(stage: Stage, seconds: float, seed: int) -> dict[str, Any]:
    """Train for a number of CPU-seconds, in the precision that is faster here, the learning rate falling over them."""
    optimizer = make_optimizer(stage.module, stage.optim)
    batches, generator = stage.batches(0), torch.Generator().manual_seed(seed)
    parameters = [p for p in stage.module.parameters() if p.requires_grad]
    stage.module.train()
    precision = choose_precision(probe(stage, next(batches), CPU, ("fp32", "bf16")))
    optimizer.zero_grad()
    begun, steps = time.process_time(), 0
    while (used := time.process_time() - begun) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = stage.optim.lr * lr_factor(stage.optim, steps, used / seconds)
        gradients = Gradients(parameters, 1)
        with autocast(CPU, precision):
            losses = stage.loss(next(batches), generator)
        gradients.add(losses)
        torch.nn.utils.clip_grad_norm_(parameters, stage.optim.clip)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    stage.module.eval()
    return {"precision": precision, "steps": steps, "steps_per_cpu_second": steps / used}


def trained(name: str, config: Config, dataset: Dataset, seconds: float) -> tuple[World, dict[str, Any]]:
    """Train a tokenizer, then a transformer over its codes."""
    parts = made(name, config, dataset.info)
    run: Any = None  # stages of this recipe keep nothing in the folder of a run
    learned = {
        stage.name: learn(stage, seconds, config.seed) for stage in ivideogpt.stages(config, parts, dataset, run)
    }
    n_parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return ivideogpt.assemble(config, parts, dataset.info), {"training": learned, "parameters": n_parameters}


def first_window(world: World, clip: Clip) -> Clip:
    """Cut a clip to the frames that a session knows at a time."""
    n_frames = int(world.dynamics.config.frames)
    return replace(
        clip, frames=clip.frames[:n_frames], actions={name: rows[:n_frames] for name, rows in clip.actions.items()}
    )


@torch.inference_mode()
def measured(world: World, clips: list[Clip], seed: int) -> dict[str, Any]:
    """Measure on recordings that training never saw: pictures, surprise, several futures, speed."""
    n_context = world.info.context_frames
    errors, nats = [], []
    for clip in (first_window(world, clip) for clip in clips):
        later = slice(n_context, None)
        errors.append(squared_error(clip.frames[later], reconstruct(world, clip.frames)[later]))
        video = to_float(torch.from_numpy(clip.frames.copy()))[None]
        actions = {name: torch.from_numpy(rows)[None] for name, rows in clip.actions.items()}
        codes = world.tokenizer.encode(video)
        nats.append(world.dynamics.judge(codes, Conditions(actions=actions)).nats[0].numpy())
    starts = draw_starts(clips, n_context, max(HORIZONS), 1, seed)
    section = samples_section(starts, draw_samples(world, starts, SAMPLES, seed), HORIZONS, None, seed)
    means = [figure for figure in section.figures if figure.name.startswith(("psnr_mean", "gain_mean"))]
    return {
        "reconstruction_psnr": float(db(np.concatenate(errors).mean())),
        "nats_per_frame": float(np.concatenate(nats).mean()),
        "figures": figures_to_keep(means),
        **speed(world, clips[0]),
    }


def speed(world: World, clip: Clip) -> dict[str, float]:
    """Measure one game's frames and tokens per CPU-second, pictures included."""
    n_context = world.info.context_frames
    session = world.session(seed=0)
    session.reset(clip.frames[:n_context], {name: rows[: n_context - 1] for name, rows in clip.actions.items()})
    begun = 0.0
    for i in range(1 + SPEED_FRAMES):
        if i == 1:
            begun = time.process_time()
        session.step({name: rows[n_context - 1 + i] for name, rows in clip.actions.items()})
    rate = SPEED_FRAMES / (time.process_time() - begun)
    n_tokens = world.tokenizer.spec(1, SIDE, SIDE).video.n_tokens
    return {"tokens_per_frame": n_tokens, "frames_per_cpu_second": rate, "tokens_per_cpu_second": rate * n_tokens}


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="recordings to train on")
    parser.add_argument("--test", type=Path, required=True, help="recordings to measure on, of other seeds")
    parser.add_argument("--minutes", type=float, default=30.0, help="CPU-minutes of each tokenizer and transformer")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the trainings")
    parser.add_argument("--clips", type=int, default=16, help="test episodes")
    parser.add_argument("--only", nargs="+", choices=TOKENIZERS, default=list(TOKENIZERS), help="tokenizers")
    parser.add_argument("--runs", type=Path, default=Path("runs/compressive"), help="where finished ones are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = Dataset.open(arguments.data, ReadOptions(size=(SIDE, SIDE), fit="stretch"))
    rows = []
    for seed in arguments.seeds:
        for name in arguments.only:
            kept = arguments.runs / f"{arguments.test.parent.name}-{arguments.minutes:g}-minutes-{name}-{seed}.json"
            if not kept.is_file():
                config = replace(
                    find_system("ivideogpt").presets["small"],
                    size=SIDE,
                    fit="stretch",
                    seed=seed,
                    frame_stride=STRIDE,
                    channels=CHANNELS,
                    places=PLACES,
                )
                world, learned = trained(name, config, dataset, 60 * arguments.minutes)
                clips = choose_clips(world, open_for(world, arguments.test), "all", arguments.clips, 0)
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_json(kept, {"tokenizer": name, "seed": seed, **learned, **measured(world, clips, seed)})
            rows.append(json.loads(kept.read_text(encoding="utf-8")))
            shown = {k: v for k, v in rows[-1].items() if k != "figures"}
            print(json.dumps(shown), file=sys.stderr, flush=True)
    settings = {"minutes": arguments.minutes, "clips": arguments.clips, "samples": SAMPLES, "threads": 1}
    keep("compressive", arguments.out, **settings, seeds=arguments.seeds, results=rows)


if __name__ == "__main__":
    main()
