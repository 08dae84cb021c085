"""Record a game, learn it, measure the result, play it: the whole house in one command.

The game is MiniGrid DoorKey: find the key, open the door, reach the goal, seen as 64x64 pixels. Everything is
kept in one folder: the recordings, run/ (the training), world/, report.html and videos/ of simulator and world.
It can be stopped at any time; the same command skips what is finished and goes on with the rest. At the end the
play page opens when this is a terminal (PLAY=0 prints the command instead).

--recipe pocket learns a world that a player steers, and measures it on a second recording of fresh seeds.
--recipe videogpt watches scripted walks and learns to continue them by itself, each time in another way; it is
measured on the recording's test episodes.

Examples:
  reelworld demo
  reelworld demo --quick                      two minutes, to see that everything works; the world is not good
  reelworld demo --recipe videogpt
  reelworld demo --out runs/long --minutes 20
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from reelworld.cli import eval as measuring
from reelworld.cli import play, record, train
from reelworld.types import UserError

__all__ = ["Options", "run"]

ENV_ID = "MiniGrid-DoorKey-8x8-v0"
TEST_SEED = 1_000_000
"""First seed of the test recording, far from those of the training recording."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe's demo records and for how long it learns."""

    out: str
    """Folder, unless asked otherwise."""
    policy: str
    """Who plays."""
    episodes: int
    """Episodes of the recording."""
    test_episodes: int
    """Episodes of a test recording of its own; 0 measures on the recording's test split."""
    minutes: float
    """Training time."""


PLANS = {
    # Random play alone never opens the door; a solver alone never wanders.
    "pocket": Plan(
        out="runs/demo", policy="explorer:0.6,solver:0.2,random:0.2", episodes=400, test_episodes=128, minutes=5.0
    ),
    # The codes of test clips are compared with predictors fitted on training clips, so both lie in one data set.
    "videogpt": Plan(out="runs/demo-videogpt", policy="waypoints", episodes=1280, test_episodes=0, minutes=8.5),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld demo`."""

    recipe: Literal["pocket", "videogpt"] = "pocket"
    """What learns."""
    out: Path | None = None
    """Folder for everything. Default: runs/demo or runs/demo-videogpt, with --quick runs/demo-quick."""
    quick: bool = False
    """A tiny world from a few episodes: shows that everything works, not how good it gets."""
    minutes: float | None = None
    """Training time. Default: 5 minutes for pocket, 8.5 for videogpt; the whole demo takes one to three more."""
    seed: int = 0
    """Decides the training recording and every draw of the training."""

    def __post_init__(self) -> None:
        if self.minutes is not None and self.minutes <= 0:
            raise UserError(f"minutes is {self.minutes}; wanted more than 0, e.g. 5.")


def run(options: Options) -> None:
    """Run the stages that are not finished yet."""
    plan = PLANS[options.recipe]
    out = options.out or Path(f"{plan.out}-quick" if options.quick else plan.out)
    n_train = 40 if options.quick else plan.episodes
    n_test = min(plan.test_episodes, 20) if options.quick else plan.test_episodes
    world, report = out / "world", out / "report.html"

    _announce(1, f"recording {n_train} episodes of {ENV_ID}", "under a minute", out / "recording")
    _record(out / "recording", n_train, options.seed, plan.policy)
    if n_test:
        _announce(2, f"recording {n_test} episodes of fresh seeds, to measure with", "seconds", out / "test-recording")
        _record(out / "test-recording", n_test, TEST_SEED, plan.policy)
    else:
        _announce(2, "a tenth of the episodes is kept for measuring", "done", out / "recording")

    config = _config(options)
    _announce(3, f"training the recipe {options.recipe}", f"at most {config.max_minutes:g} minutes", out / "run")
    _train(out, f"{options.recipe}:tiny" if options.quick else options.recipe, config)

    _announce(4, "measuring the world on episodes it has not seen", "one to two minutes", report)
    if report.exists() and report.stat().st_mtime >= (world / "world.json").stat().st_mtime:
        print("already measured")
    else:
        measuring.run(_measurement(options, out))

    print(f"\nThe world is {world}; how good it is stands in {report} (open it in a browser).")
    if sys.stdout.isatty() and os.environ.get("PLAY") != "0":
        _announce(5, "playing", "until Ctrl-C", world)
        play.run(play.Options(worlds=(world,)))
    else:
        print(f"play it:  reelworld play {world}")


def _announce(number: int, what: str, how_long: str, where: Path) -> None:
    print(f"\n[{number}/5] {what} ({how_long}) -> {where}", flush=True)


def _record(out: Path, episodes: int, seed: int, policy: str) -> None:
    record.run(record.Options(env_id=ENV_ID, out=out, episodes=episodes, seed=seed, policy=policy))


def _config(options: Options) -> Any:
    module, _ = train.find_recipe(options.recipe)
    if options.quick:
        return replace(module.SIZES["tiny"](), seed=options.seed, steps=200, tokenizer_steps=100, max_minutes=0.5)
    minutes = options.minutes or PLANS[options.recipe].minutes
    return replace(module.SIZES["small"](), seed=options.seed, max_minutes=minutes)


def _train(out: Path, recipe: str, config: Any) -> None:
    from reelworld.worlds.world import World

    trained = train.train_world(recipe, config, out / "recording", out / "run")
    if not (out / "world" / "world.json").exists():
        World.load(trained).save(out / "world")


def _measurement(options: Options, out: Path) -> measuring.Options:
    if PLANS[options.recipe].test_episodes:
        # every episode of the test recording is fresh, whichever split its name falls into
        fresh, known = out / "test-recording", out / "recording"
        full = measuring.Options(world=out / "run", data=fresh, train_data=known, out=out, split="all")
    else:
        full = measuring.Options(world=out / "run", data=out / "recording", out=out, split="test")
    if not options.quick:
        return full
    few = replace(full, clips=4, single_steps=100, free_run_steps=20, key_tests=4)
    return replace(few, control_starts=8, inverse_steps=20, drift_steps=50, drift_runs=2, simulator_episodes=2)
