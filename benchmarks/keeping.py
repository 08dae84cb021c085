"""What benchmarks share: their first flags, how busy the machine is, the form in which results are kept."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reelworld.config import to_json
from reelworld.evaluate.bench import check_idle
from reelworld.evaluate.figures import Figure
from reelworld.evaluate.results import plain
from reelworld.files import write_json
from reelworld.system_info import commit, describe_machine, now
from reelworld.types import UserError

__all__ = ["figures_to_keep", "flags", "keep", "look_if_idle", "minutes", "speed_flags"]

OF_A_FIGURE = ("value", "low", "high", "n", "n_clips", "baselines")


def flags(about: str | None) -> argparse.ArgumentParser:
    """Begin a benchmark's flags: its docstring as help, and --out."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the result; printed in any case")
    return parser


def speed_flags(about: str | None) -> argparse.ArgumentParser:
    """Begin the flags of a benchmark whose numbers depend on what else the machine does."""
    parser = flags(about)
    parser.add_argument("--allow-busy", action="store_true", help="measure although other programs use the machine")
    return parser


def look_if_idle(parser: argparse.ArgumentParser, allow_busy: bool) -> dict[str, Any]:
    """Return how busy the machine is, to be kept; end the program if it is busy and that was not allowed."""
    try:
        return check_idle(allow_busy)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")


def figures_to_keep(figures: Iterable[Figure], *names: str) -> dict[str, Any]:
    """Pick figures, and of each its numbers; all figures when none is named."""
    chosen = (f for f in figures if not names or f.name in names)
    return {f.name: {k: plain(to_json(f))[k] for k in OF_A_FIGURE} for f in chosen}


def minutes(run: Path) -> dict[str, float]:
    """Read how many minutes each stage of a training took, by the clock on the wall."""
    entries = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return {entry["stage"]: entry["minutes"] for entry in entries}


def keep(kind: str, out: Path | None, **result: Any) -> None:
    """Print a result with the command, commit and machine it comes from, and write it where it is wanted.

    Args:
        kind: Of the benchmark; tables.py knows how to show it.
        out: File, or None.
        result: JSON values.
    """
    whole = {
        "format_version": 1,
        "kind": kind,
        "command": " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": commit(),
        "created": now(),
        "hardware": describe_machine(),
        **result,
    }
    print(json.dumps(whole, indent=2))
    if out:
        write_json(out, whole)
