"""Measure a world on episodes it has not seen, and write a report that opens in any browser.

Writes results.json, report.html and videos of the world beside the recording.

Examples:
  reelworld eval runs/doors/world --data recordings/doors
  reelworld eval runs/doors --data recordings/fresh --split all --out runs/doors/fresh
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from reelworld.cli.loading import check_folder, load_world, set_threads

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld eval``."""

    world: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WORLD")]
    """Folder of a world, or of the run that made it."""
    data: Path
    """Recordings to compare with."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Which episodes; those the world was trained on are refused."""
    out: Path | None = None
    """Folder of the report. Default: eval beside the world's folder."""
    clips: int = 32
    """Episodes that are rolled out; single steps use up to four times as many."""
    single_steps: int = 2000
    """Single steps from true frames (worlds drawn from tiles)."""
    free_run_steps: int = 100
    """Length of the run on the world's own predictions."""
    key_tests: int = 64
    """Carried-key tests (MiniGrid DoorKey)."""
    tiles: Literal["auto", "yes", "no"] = "auto"
    """Whether frames are drawn from 8x8 tiles; auto looks at the training split."""
    seed: int = 0
    """Of every draw: clips, starts, noise, bootstrap."""
    allow_train: bool = False
    """Accept episodes the world was trained on; the report says so."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    device: str = "cpu"
    """Where the model runs: auto (a GPU if there is one), cpu, cuda or cuda:1."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the world's parts may come from."""


def run(options: Options) -> None:
    """Evaluate, write, and print the headlines."""
    import dataclasses

    from reelworld.evaluate.clips import open_for
    from reelworld.evaluate.protocol import EvalConfig
    from reelworld.evaluate.run import evaluate_to_folder
    from reelworld.train.log import Display

    names = {f.name for f in dataclasses.fields(EvalConfig)}
    config = EvalConfig(**{k: v for k, v in vars(options).items() if k in names})
    set_threads(options.threads)
    world = load_world(options.world, options.device, options.allow_code)
    dataset = open_for(world, options.data)
    folder = options.world / "world" if (options.world / "world").is_dir() else options.world
    out = options.out or folder.resolve().parent / "eval"
    check_folder(out)
    with Display("evaluating") as display:
        results = evaluate_to_folder(
            world,
            dataset,
            config,
            out,
            command=shlex.join(["reelworld", *sys.argv[1:]]),
            training_log=folder.resolve().parent / "log.jsonl",
            progress=lambda what, share: display.update(share, lambda: what),
        )
    for line in _headlines(results):
        print(line)
    print(f"report: {out / 'report.html'}")


def _headlines(results: dict) -> list[str]:
    """One line for each number that the report shows large."""
    from html import unescape

    from reelworld.evaluate.report import headlines, interval_text, value_text

    return [
        unescape(f"{f['label']:<42} {value_text(f):>9}  ({interval_text(f)}; n={f['n']})") for f in headlines(results)
    ]
