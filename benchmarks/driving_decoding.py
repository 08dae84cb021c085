"""Choose how a driving world draws its codes: by driving in it on validation tracks, not by one-step PSNR.

    python benchmarks/driving_decoding.py --world runs/driving --data runs/driving/recording --out decoding.json

Every setting is driven by the driver that sees pixels only (docs/evaluation.md, "Driving"), from the same first frames
and with the same noise; the game itself is driven once for reference. Greedy decoding has the best PSNR one step ahead
and stands still after a while. Settings that fail fewer of the three bars stand first: motion of 22 to 34 dB, road
within 40% of the game's, road that hangs together in 80% of frames; among equals, more blocks that keep their road.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelworld.config import to_json
from reelworld.evaluate.clips import choose_clips, open_for
from reelworld.evaluate.driving import (
    MOTION,
    ROAD_TOLERANCE,
    Drives,
    can_drive,
    drive_simulator,
    drive_world,
    driving_figures,
)
from reelworld.evaluate.results import plain
from reelworld.files import write_json
from reelworld.system_info import commit, describe_machine, now
from reelworld.types import UserError
from reelworld.worlds.world import World

PASSES = (1, 2, 4)
TEMPERATURES = (0.0, 0.7, 0.9, 1.0)
HANGS_TOGETHER = 0.8


def judged(drives: Drives, game: Drives, seed: int) -> dict[str, Any]:
    """Figures of one setting, and which bars it fails."""
    figures = {f.name: f for f in driving_figures(drives, game, seed)}
    usual = game.road.mean()
    bars = {
        "motion": MOTION[0] <= figures["driving_motion"].value <= MOTION[1],
        "road": abs(figures["driving_road"].value - usual) <= ROAD_TOLERANCE * usual,
        "connected": figures["driving_connected"].value >= HANGS_TOGETHER,
    }
    return {"figures": plain(to_json(figures)), "fails": [name for name, holds in bars.items() if not holds]}


def order(row: dict[str, Any]) -> tuple[float, ...]:
    """Sort key of a setting: bars failed over all lengths, then blocks that keep their road at the longest."""
    last = row["lengths"][-1]["figures"]
    n_failed = sum(len(length["fails"]) for length in row["lengths"])
    return n_failed, -last["driving_keeps_road"]["value"], -last["driving_moves"]["value"], row["passes"]


def shown(row: dict[str, Any]) -> str:
    parts = [f"passes {row['passes']}  temperature {row['temperature']:<4g} {row['ms_per_frame']:6.1f} ms/frame"]
    for length in row["lengths"]:
        f = {name.removeprefix("driving_"): figure["value"] for name, figure in length["figures"].items()}
        motion = f"{f['motion']:.1f}" if f["motion"] != "inf" else "inf"
        parts.append(
            f"{length['steps']:>5} steps: motion {motion} dB, road {f['road']:.3f}, keeps {f['keeps_road']:.0%}, "
            f"connected {f['connected']:.0%}, fails {', '.join(length['fails']) or 'nothing'}"
        )
    return " | ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, required=True, help="folder of a world of CarRacing, or of its run")
    parser.add_argument("--data", type=Path, required=True, help="recording with validation tracks")
    parser.add_argument("--out", type=Path, help="file for the result; printed in any case")
    parser.add_argument("--split", default="val", help="tracks to begin on; the test split is for the report")
    parser.add_argument("--passes", type=int, nargs="*", default=list(PASSES), help="passes per frame")
    parser.add_argument("--temperatures", type=float, nargs="*", default=list(TEMPERATURES), help="temperatures")
    parser.add_argument("--steps", type=int, nargs="*", default=[300], help="lengths, e.g. 300 1000")
    parser.add_argument("--runs", type=int, default=8, help="drives per setting, one per track")
    parser.add_argument("--seed", type=int, default=0, help="of tracks and noise")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    world = World.load(arguments.world, arguments.device)
    dataset = open_for(world, arguments.data)
    if not can_drive(world, dataset.info):
        raise UserError(f"{arguments.world} cannot be driven: wanted a 64x64 world of CarRacing with the game's keys.")
    clips = choose_clips(world, dataset, arguments.split, arguments.runs, arguments.seed)
    steps = sorted(arguments.steps)
    game = Drives.of(drive_simulator(dataset.info, len(clips), steps[-1], arguments.seed))
    rows = []
    for passes in arguments.passes:
        for temperature in arguments.temperatures:
            sampler = replace(world.info.sampler, steps=passes, temperature=temperature)
            since = time.process_time()
            frames = drive_world(world, clips, arguments.runs, steps[-1], arguments.seed, sampler)
            cost = 1000 * (time.process_time() - since) / (len(frames) * steps[-1])
            drives = Drives.of(frames)
            lengths = [{"steps": n, **judged(drives.first(n), game.first(n), arguments.seed)} for n in steps]
            row = {"passes": passes, "temperature": temperature, "ms_per_frame": round(cost, 2), "lengths": lengths}
            rows.append(row)
            print(shown(row), file=sys.stderr, flush=True)
    rows.sort(key=order)
    result = {
        "format_version": 1,
        "kind": "driving-decoding",
        "command": " ".join(["python benchmarks/driving_decoding.py", *sys.argv[1:]]),
        "commit": commit(),
        "created": now(),
        "hardware": describe_machine(),
        "split": arguments.split,
        "runs": len(clips),
        "seed": arguments.seed,
        "best": {name: rows[0][name] for name in ("passes", "temperature")},
        "results": rows,
    }
    for row in rows:
        print(shown(row))
    if arguments.out:
        write_json(arguments.out, result)
    else:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
