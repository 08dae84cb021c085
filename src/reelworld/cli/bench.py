"""Measure the speed of encoding, stepping, decoding and training of a world, and the limit of this machine.

A busy machine is refused, because its measurements would be meaningless.

Examples:
  reelworld bench runs/doors/world
  reelworld bench runs/doors/world --threads 1 --out results/doors-bench.json
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from reelworld.cli.load_options import check_folder, load_world
from reelworld.types import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld bench``."""

    world: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WORLD")]
    """Folder of a world, or of the run that made it."""
    out: Path | None = None
    """JSON file for the results; without it they are only printed."""
    steps: int = 200
    """Repetitions of each measurement."""
    warmup: int = 20
    """Repetitions before, not counted."""
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads to measure with; none means 1 and all cores."""
    seed: int = 0
    """Of the actions and of the world's draws."""
    allow_busy: bool = False
    """Measure although other programs use the machine; the results say so."""
    device: str = "cpu"
    """Device of the model: auto (a GPU if there is one), cpu, cuda or cuda:1."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the world's parts may come from."""


def run(options: Options) -> None:
    """Measure, print a table, and keep the results."""
    from reelworld.evaluate.speed import BenchConfig, bench
    from reelworld.files import write_json
    from reelworld.train.console import Display

    config = BenchConfig(
        steps=options.steps,
        warmup=options.warmup,
        threads=options.threads,
        seed=options.seed,
        allow_busy=options.allow_busy,
    )
    if options.out is not None:
        if options.out.is_dir():
            raise UserError(f"{options.out} is a folder; --out wants a JSON file, e.g. {options.out / 'bench.json'}.")
        check_folder(options.out.parent)
    world = load_world(options.world, options.device, options.allow_code)
    with Display("bench") as display:
        results = bench(
            world,
            config,
            shlex.join(["reelworld", *sys.argv[1:]]),
            lambda what, share: display.update(share, lambda: what),
        )
    _print_table(results)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, results)
        print(f"results: {options.out}")


def _print_table(results: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    hardware = results["hardware"]
    busy = ", MEASURED ON A BUSY MACHINE" if results["is_busy"] else ""
    table = Table(title=f"{hardware['cpu']}, {hardware['cores']} cores, load {results['load_average']}{busy}")
    for column in ("what", "threads", "median", "p95", "limit", "of limit"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for r in results["results"]:
        limit = "" if r["limit"] is None else f"{r['limit']:.3g}"
        fraction = "" if r["fraction_of_limit"] is None else f"{100 * r['fraction_of_limit']:.1f}%"
        table.add_row(
            r["what"], str(r["threads"]), f"{r['median']:.4g} {r['unit']}", f"{r['p95']:.4g}", limit, fraction
        )
    Console().print(table)
