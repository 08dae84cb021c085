"""Does a world remember what it cannot see? An object lies beside the agent, it turns away, waits, and turns back.

    python benchmarks/memory.py --runs runs/memory --out benchmarks/results/memory.json

MiniGrid-Fetch-8x8-N3 in the agent's own view (56x56 pixels). Two worlds of one recording, one seed, one length of
training: one attends to 28 frames, the other to 2. Each is given real frames up to the moment before the turn and
then runs by itself; recall is the share of objects that were in sight before the turn, not while away, and are drawn
as they were after turning back. Beside it: the best fixed guess (the commonest object), and the frame before. Objects
are known from the simulator. What is finished already is kept: run it again to go on.

Shapes: n starts, T context frames, H W pixel rows and columns
"""

from __future__ import annotations

import copy
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import flags, keep, reelworld, trained

from reelworld.envs.policies.minigrid import DONE, LEFT, RIGHT, glancer
from reelworld.envs.presets import WrapperConfig
from reelworld.envs.recorder import record_config
from reelworld.envs.simulator import Simulator
from reelworld.evaluate.metrics import fraction_interval
from reelworld.worlds.world import World

ENV = "MiniGrid-Fetch-8x8-N3-v0"
TILE = 8
WINDOWS = {"28 frames": 28, "2 frames": 2}
AWAY = (2, 8, 16)
CONTEXT = 8
SAME = 6.0
"""Two tiles with a smaller mean absolute difference, in grey levels, show the same."""
WRAPPERS = ("minigrid.wrappers:RGBImgPartialObsWrapper", "minigrid.wrappers:ImgObsWrapper")
VIEW: list[str] = [
    "--policy", "glancer", "--frames", "observation", "--drawing", "environment",
    "--wrapper", WRAPPERS[0] + '={"tile_size": 8}', WRAPPERS[1],
]  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A moment before turning away from something."""

    frames: np.ndarray
    """uint8, (T, H, W, 3); the last one is what must come back."""
    actions: np.ndarray
    """int64, (T - 1,)."""
    away: int
    """The action that turns away."""
    hidden: tuple[tuple[int, int, str], ...]
    """Row and column in the view, kind and colour of every object that will be out of sight."""


def trained_world(runs: Path, window: int, steps: int, seed: int) -> World:
    """Record, if need be, and train, if need be."""
    data, run = runs / "recording", runs / f"window-{window}"
    if not data.is_dir():
        reelworld("record", ENV, "--out", data, "--episodes", "1000", *VIEW)
    length = ["--dynamics.window", str(window), "--clip-frames", "28", "--dynamics.batch", "3"]
    budget = ["--tokenizer.steps", "800", "--dynamics.steps", str(steps), "--seed", str(seed), "--threads", "1"]
    return World.load(trained(run, "pocket", data, *length, *budget))


def seen_objects(env: Any) -> dict[tuple[int, int], tuple[int, int, str]]:
    """Cell -> (row, column, what) of every object in the agent's sight."""
    _, visible = env.gen_obs_grid()
    found = {}
    for x in range(env.width):
        for y in range(env.height):
            thing, place = env.grid.get(x, y), env.relative_coords(x, y)
            if thing is not None and thing.type in ("key", "ball") and place and visible[place]:
                found[x, y] = (place[1], place[0], f"{thing.color} {thing.type}")
    return found


def find_starts(n: int, first_seed: int) -> list[Start]:
    """Walk about in rooms of fresh seeds until something is in sight that turning hides."""
    wrappers = (WrapperConfig(path=WRAPPERS[0], kwargs={"tile_size": TILE}), WrapperConfig(path=WRAPPERS[1]))
    settings = record_config(ENV, frames="observation", drawing="environment", wrappers=wrappers)
    simulator, starts, seed = Simulator(settings.simulator), [], first_seed
    while len(starts) < n:
        if (start := _start(simulator, seed)) is not None:
            starts.append(start)
        seed += 1
    return starts


def _start(simulator: Simulator, seed: int) -> Start | None:
    simulator.reset(seed)
    rng = np.random.default_rng(seed)
    frames, actions = [simulator.frame()], []
    for action in glancer(simulator, rng):
        env: Any = simulator.env.unwrapped
        if len(frames) >= CONTEXT and action in (LEFT, RIGHT):
            before, after = seen_objects(env), seen_objects(_turned(env, action))
            if hidden := tuple(what for cell, what in before.items() if cell not in after):
                return Start(np.stack(frames[-CONTEXT:]), np.array(actions[1 - CONTEXT :]), action, hidden)
        if len(frames) > 60:
            return None
        simulator.step(action)
        frames.append(simulator.frame())
        actions.append(action)
    return None


def _turned(env: Any, action: int) -> Any:
    turned = copy.deepcopy(env)
    turned.step(action)
    return turned


def recall(world: World, starts: list[Start], n_away: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Play all starts at once: objects drawn right after turning back, for each start, and how many there were."""
    session = world.session(len(starts), seed)
    session.reset(np.stack([s.frames for s in starts]), np.stack([s.actions for s in starts]))
    away = np.array([s.away for s in starts])
    back = np.where(away == LEFT, RIGHT, LEFT)
    for action in [away, *[np.full_like(away, DONE)] * (n_away - 1), back]:
        drawn = session.step(action).frame
    right = [sum(_is_same(frame, s.frames[-1], row, column) for row, column, _ in s.hidden)
             for frame, s in zip(drawn, starts, strict=True)]  # fmt: skip
    return np.array(right, float), np.array([len(s.hidden) for s in starts], float)


def _is_same(one: np.ndarray, other: np.ndarray, row: int, column: int) -> bool:
    cut = np.s_[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
    return bool(np.abs(one[cut].astype(float) - other[cut]).mean() < SAME)


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/memory"), help="folder for recording and runs")
    parser.add_argument("--steps", type=int, default=4000, help="optimizer steps of each dynamics")
    parser.add_argument("--starts", type=int, default=200, help="starts that are played")
    parser.add_argument("--seed", type=int, default=0, help="of training and playing")
    arguments = parser.parse_args()
    worlds = {name: trained_world(arguments.runs, n, arguments.steps, arguments.seed) for name, n in WINDOWS.items()}
    starts = find_starts(arguments.starts, 1_000_000)
    kinds = Counter(what for s in starts for _, _, what in s.hidden)
    rows = []
    for name, world in worlds.items():
        for n_away in AWAY:
            right, total = recall(world, starts, n_away, arguments.seed)
            value, low, high = fraction_interval(right, total)
            rows.append({"window": name, "away": n_away, "recall": value, "low": low, "high": high})
            print(rows[-1], file=sys.stderr, flush=True)
    keep(
        "memory",
        arguments.out,
        seed=arguments.seed,
        starts=len(starts),
        objects=kinds.total(),
        commonest_object=max(kinds.values()) / kinds.total(),
        steps={name: world.info.provenance["training"]["stages"] for name, world in worlds.items()},
        rows=rows,
    )


if __name__ == "__main__":
    main()
