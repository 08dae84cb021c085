"""Record a game, learn it, measure the result, play it: the whole house in one command.

The game is MiniGrid DoorKey: find the key, open the door, reach the goal, seen as 64x64 pixels. Everything is
kept in one folder: recording/, test-recording/ (fresh seeds, for measuring), run/ (the training), world/,
report.html and videos/ of simulator and world under the same actions. It can be stopped at any time; the same
command skips what is finished and goes on with the rest. At the end the play page opens when this is a terminal
(PLAY=0 prints the command instead).

Examples:
  reelworld demo
  reelworld demo --quick                      two minutes, to see that everything works; the world is not good
  reelworld demo --out runs/long --minutes 20
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reelworld.cli import eval as measuring
from reelworld.cli import play, record, train
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.recipes.pocket import Config

__all__ = ["Options", "run"]

ENV_ID = "MiniGrid-DoorKey-8x8-v0"
# Random play alone never opens the door; a solver alone never wanders.
POLICY = "explorer:0.6,solver:0.2,random:0.2"
TEST_SEED = 1_000_000
"""First seed of the test recording, far from those of the training recording."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld demo`."""

    out: Path | None = None
    """Folder for everything. Default: runs/demo, with --quick runs/demo-quick."""
    quick: bool = False
    """A tiny world from a few episodes: shows that everything works, not how good it gets."""
    minutes: float = 5.0
    """Training time; the whole demo takes about three minutes more."""
    seed: int = 0
    """Decides the training recording and every draw of the training."""

    def __post_init__(self) -> None:
        if self.minutes <= 0:
            raise UserError(f"minutes is {self.minutes}; wanted more than 0, e.g. 5.")


def run(options: Options) -> None:
    """Run the stages that are not finished yet."""
    out = options.out or Path("runs/demo-quick" if options.quick else "runs/demo")
    n_train, n_test = (40, 20) if options.quick else (400, 128)
    world, report = out / "world", out / "report.html"

    _announce(1, f"recording {n_train} episodes of {ENV_ID}", "under a minute", out / "recording")
    _record(out / "recording", n_train, options.seed)
    _announce(2, f"recording {n_test} episodes of fresh seeds, to measure with", "seconds", out / "test-recording")
    _record(out / "test-recording", n_test, TEST_SEED)

    config = _config(options)
    _announce(3, "training the recipe pocket", f"at most {config.max_minutes:g} minutes", out / "run")
    _train(out, "pocket:tiny" if options.quick else "pocket", config)

    _announce(4, "measuring the world on the fresh episodes", "about a minute", report)
    if report.exists() and report.stat().st_mtime >= (world / "world.json").stat().st_mtime:
        print("already measured")
    else:
        measuring.run(_measurement(options, out))

    print(f"\nThe world is {world}; how good it is stands in {report} (open it in a browser).")
    if sys.stdout.isatty() and os.environ.get("PLAY") != "0":
        _announce(5, "playing", "until Ctrl-C", world)
        play.run(play.Options(world=world))
    else:
        print(f"play it:  reelworld play {world}")


def _announce(number: int, what: str, how_long: str, where: Path) -> None:
    print(f"\n[{number}/5] {what} ({how_long}) -> {where}", flush=True)


def _record(out: Path, episodes: int, seed: int) -> None:
    record.run(record.Options(env_id=ENV_ID, out=out, episodes=episodes, seed=seed, policy=POLICY))


def _config(options: Options) -> Config:
    from reelworld.recipes import pocket

    if options.quick:
        return replace(pocket.tiny(), seed=options.seed, steps=200, tokenizer_steps=100, max_minutes=0.5)
    return replace(pocket.small(), seed=options.seed, max_minutes=options.minutes)


def _train(out: Path, recipe: str, config: Config) -> None:
    from reelworld.worlds.world import World

    trained = train.train_world(recipe, config, out / "recording", out / "run")
    if not (out / "world" / "world.json").exists():
        World.load(trained).save(out / "world")


def _measurement(options: Options, out: Path) -> measuring.Options:
    # Every episode of the test recording is fresh, whichever split its name falls into.
    full = measuring.Options(world=out / "run", data=out / "test-recording", out=out, split="all")
    if not options.quick:
        return full
    return replace(full, clips=4, single_steps=100, free_run_steps=20, key_tests=4)
