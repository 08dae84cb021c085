"""Compare how a frame is told of the action that leads to it: added, prepended, concatenated, or as FiLM.

    reelworld train genie --data runs/demo/recording --out runs/genie --moved-share 0.75
    python benchmarks/conditionings.py --world runs/genie --data runs/demo/recording

The tokenizer and the latent actions are those of the world; only its dynamics are trained anew, with each conditioning
from the same seeds on the same batches. StepScores on validation episodes, one step from true frames: surprise, and how
much it grows when every clip is told the actions of another clip. The trivial baseline is the last frame again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from keeping import flags, keep

from reelworld.config import from_json
from reelworld.data.clip_index import ClipIndex, evenly_spaced
from reelworld.data.loader import Loader, to_batch
from reelworld.evaluate.clips import open_for
from reelworld.nn.action_conditioning import Conditioning
from reelworld.systems.genie import train as genie
from reelworld.systems.genie.maskgit import MaskGIT
from reelworld.train.loop import train
from reelworld.train.precompute_codes import encode_batch, encoded_batches
from reelworld.train.run import Run
from reelworld.train.stage import Stage
from reelworld.types import Codes, Conditions
from reelworld.worlds.world import World

JUDGED_CLIPS = 384


def learned(world: World, config: genie.Config, windows: ClipIndex) -> MaskGIT:
    """Train dynamics from the beginning."""
    torch.manual_seed(config.seed)
    dynamics = MaskGIT(replace(world.dynamics.config, conditioning=config.conditioning))
    loader = Loader(windows, config.batch, config.seed)
    stage = Stage(
        name="dynamics",
        part="dynamics",
        module=dynamics,
        batches=encoded_batches(loader.batches, world.tokenizer),
        steps=config.steps,
        optim=genie.optim(config, lr=config.lr, min_lr_share=config.min_lr_share),
        precision=config.precision,
        frames_per_batch=config.batch * config.clip_frames,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(Path(folder) / "run", {"conditioning": config.conditioning, "seed": config.seed})
        train([stage], run, {"dynamics": dynamics}, seed=config.seed, device="cpu")
    return dynamics.eval()


@torch.inference_mode()
def judged(dynamics: MaskGIT, codes: Codes, conditions: Conditions) -> dict[str, float]:
    """Judge next frames under the true actions and under those of another clip."""
    others = Conditions(actions={k: v.roll(1, 0) for k, v in conditions.actions.items()})
    true, other = (dynamics.judge(codes, told) for told in (conditions, others))
    changes = (codes.video[:, 1:] != codes.video[:, :-1]).any(-1)
    return {
        "nats": float(true.nats.mean()),
        "nats_more_with_other_actions": float((other.nats - true.nats).mean()),
        "exact": float(true.is_right.float().mean()),
        "exact_when_something_changes": float(true.is_right[changes].float().mean()),
        "copy_exact": float((~changes).float().mean()),
    }


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--world", type=Path, required=True, help="a trained world of the recipe genie")
    parser.add_argument("--data", type=Path, required=True, help="its recordings")
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings per conditioning")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    world = World.load(arguments.world)
    config = replace(from_json(genie.Config, world.info.provenance["config"], "world.json"), steps=arguments.steps)
    dataset = open_for(world, arguments.data)
    windows = ClipIndex(dataset, "train", config.clip_frames)
    held_out = ClipIndex(dataset, "val", config.clip_frames)
    rows = [held_out[i] for i in evenly_spaced(len(held_out), JUDGED_CLIPS)]
    batch = encode_batch(
        to_batch({k: torch.from_numpy(np.stack([row[k] for row in rows])) for k in rows[0]}), world.tokenizer
    )
    assert batch.codes is not None
    results: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        for kind in get_args(Conditioning):
            begun = time.process_time()
            dynamics = learned(world, replace(config, conditioning=kind, seed=seed), windows)
            row = {"conditioning": kind, "seed": seed, "cpu_seconds": time.process_time() - begun}
            results.append({**row, **judged(dynamics, batch.codes, batch.conditions)})
            print(json.dumps(results[-1]), file=sys.stderr)
    keep("conditionings", arguments.out, steps=arguments.steps, clips=len(rows), results=results)


if __name__ == "__main__":
    main()
