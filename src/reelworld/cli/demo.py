"""Record a game, train a world on it, evaluate it, play it: the whole pipeline in one command.

The game is MiniGrid DoorKey: find the key, open the door, reach the goal, seen as 64x64 pixels. Everything is
kept in one folder: the recordings, run/ (the training), world/, report.html and videos/ of simulator and world.
It can be stopped at any time; the same command skips what is finished and goes on with the rest. At the end the
play page opens when this is a terminal (PLAY=0 prints the command instead).

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

from reelworld.cli import eval as measuring
from reelworld.cli import play, record, train
from reelworld.config import unknown
from reelworld.models.system import DemoPlan, SystemConfig
from reelworld.systems import all_systems
from reelworld.types import UserError

ENV_ID = "MiniGrid-DoorKey-8x8-v0"
TEST_SEED = 1_000_000
"""First seed of the test recording, far from those of the training recording."""
QUICK_EPISODES = 40
QUICK_TEST_EPISODES = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld demo`."""

    system: str | None = None
    """System to train; by default the first one with a demo (see above)."""
    out: Path | None = None
    """Folder for everything. Default: runs/demo, or runs/demo-SYSTEM; with --quick, -quick behind it."""
    quick: bool = False
    """A tiny world from a few episodes: a smoke test, not a good world."""
    minutes: float | None = None
    """Training time. Default: that of the system's demo (see above); the whole demo takes one to three more."""
    seed: int = 0
    """Seed of the training recording and of every draw of the training."""

    def __post_init__(self) -> None:
        if self.minutes is not None and self.minutes <= 0:
            raise UserError(f"minutes is {self.minutes}; wanted more than 0, e.g. 5.")


def description() -> str:
    """Return the help text: the module's, with the systems that have a demo."""
    text, examples = (__doc__ or "").split("Examples:")
    plans = [f"--system {n}: {plan.about} {plan.config.max_minutes:g} minutes." for n, plan in demos().items()]
    return "\n\n".join([text.rstrip(), *plans, f"Examples:{examples}"])


def demos() -> dict[str, DemoPlan]:
    """Find the systems that have a demo, by name; the first is the default."""
    return {system.name: system.demo for system in all_systems() if system.demo is not None}


def run(options: Options) -> None:
    """Run the steps that are not finished yet."""
    plans = demos()
    default = next(iter(plans))
    name = options.system or default
    if name not in plans:
        raise unknown("system with a demo", name, plans)
    plan = plans[name]
    folder = "runs/demo" if name == default else f"runs/demo-{name}"
    out = options.out or Path(f"{folder}-quick" if options.quick else folder)
    n_train = QUICK_EPISODES if options.quick else plan.episodes
    n_test = min(plan.test_episodes, QUICK_TEST_EPISODES) if options.quick else plan.test_episodes
    world, report = out / "world", out / "report.html"

    _announce(1, f"recording {n_train} episodes of {ENV_ID}", "under a minute", out / "recording")
    _record(out / "recording", n_train, options.seed, plan.policy)
    if n_test:
        _announce(2, f"recording {n_test} episodes of fresh seeds, to measure with", "seconds", out / "test-recording")
        _record(out / "test-recording", n_test, TEST_SEED, plan.policy)
    else:
        _announce(2, "a tenth of the episodes is kept for measuring", "done", out / "recording")

    config = plan.quick if options.quick else plan.config
    minutes = config.max_minutes if options.quick else options.minutes or config.max_minutes
    config = replace(config, seed=options.seed, max_minutes=minutes)
    _announce(3, f"training the system {name}", f"at most {minutes:g} minutes", out / "run")
    _train(out, f"{name}:tiny" if options.quick else name, config)

    _announce(4, "measuring the world on episodes it has not seen", "one to two minutes", report)
    if report.exists() and report.stat().st_mtime >= (world / "world.json").stat().st_mtime:
        print("already measured")
    else:
        measuring.run(_measurement(plan, options, out))

    print(f"\nWorld: {world}. Report: {report} (open it in a browser).")
    if sys.stdout.isatty() and os.environ.get("PLAY") != "0":
        _announce(5, "playing", "until Ctrl-C", world)
        play.run(play.Options(worlds=(world,)))
    else:
        print(f"play it:  reelworld play {world}")


def _announce(number: int, what: str, how_long: str, where: Path) -> None:
    print(f"\n[{number}/5] {what} ({how_long}) -> {where}", flush=True)


def _record(out: Path, episodes: int, seed: int, policy: str) -> None:
    record.run(record.Options(env_id=ENV_ID, out=out, episodes=episodes, seed=seed, policy=policy))


def _train(out: Path, word: str, config: SystemConfig) -> None:
    from reelworld.worlds.world import World

    trained = train.train_world(word, config, out / "recording", out / "run")
    if not (out / "world" / "world.json").exists():
        World.load(trained).save(out / "world")


def _measurement(plan: DemoPlan, options: Options, out: Path) -> measuring.Options:
    if plan.test_episodes:
        # every episode of the test recording is fresh, whichever split its name falls into
        fresh, known = out / "test-recording", out / "recording"
        full = measuring.Options(world=out / "run", data=fresh, train_data=known, out=out, split="all")
    else:
        full = measuring.Options(world=out / "run", data=out / "recording", out=out, split="test")
    if not options.quick:
        return full
    few = replace(full, clips=4, single_steps=100, free_run_steps=20, key_tests=4)
    return replace(few, control_starts=8, inverse_steps=20, stability_steps=50, stability_runs=2, simulator_episodes=2)
