"""Convert recordings from any format that can be read into our own layout, or another project's.

An interrupted conversion keeps its finished episodes; the same command goes on. The source is never written to.

Examples:
  reelworld convert lerobot-pusht --out recordings/pusht --camera top
  reelworld convert visual-cube --out recordings/cube --size 64 --fit stretch
  reelworld convert recordings/doors --out doors-lerobot --to lerobot --fps 10
  reelworld convert recordings/doors --out ~/.minari/datasets/doors-v0 --to minari
"""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import tyro

from reelworld.cli.load_options import check_folder
from reelworld.data.resize_options import ReadOptions


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld convert`."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """Folder or file of recordings."""
    out: Path
    """Folder of the new data set."""
    to: Literal["reelworld", "npz", "lerobot", "minari"] = "reelworld"
    """Format: reelworld (`dataset.json` and .npz), npz (one plain .npz per episode), lerobot (v3.0), minari."""
    read: Annotated[ReadOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ReadOptions)
    """Read options for files that are not our own recordings."""


def run(options: Options) -> None:
    """Convert and show progress."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from reelworld.data.conversion import convert

    check_folder(options.out)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    before = signal.signal(signal.SIGTERM, _interrupt)
    logger = logging.getLogger("reelworld.data")
    level = logger.level
    logger.setLevel(logging.ERROR)  # notes are printed below
    n_done = 0

    def show(done: int, total: int) -> None:
        nonlocal n_done
        n_done = done
        bar.start()
        bar.update(task, description="converting", completed=done, total=total)

    bar = Progress(*columns, transient=True)
    task = bar.add_task("reading", total=None)
    try:
        result = convert(options.source, options.out, options.to, options.read, show)
    except KeyboardInterrupt:
        bar.stop()
        print(f"stopped: {n_done} episodes were converted; the same command goes on.")
        raise
    finally:
        bar.stop()
        logger.setLevel(level)
        signal.signal(signal.SIGTERM, before)
    for kind, lines in (("note", result.notes), ("problem", result.problems)):
        for line in lines:
            print(f"{kind}: {line}")
    print(f"{result.n_episodes} episodes, {result.n_frames:,} frames in {options.out} ({result.n_new} are new)")


def _interrupt(*_: object) -> NoReturn:
    """Treat SIGTERM like Ctrl-C: finished episodes are kept."""
    raise KeyboardInterrupt
