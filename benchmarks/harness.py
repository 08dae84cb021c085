"""Shared parts of the benchmarks: flags, an idle machine, works timed in turns, kept results, memory bandwidth."""

from __future__ import annotations

import argparse
import ctypes
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelworld.config import to_json
from reelworld.evaluate.results import Metric, plain
from reelworld.evaluate.speed import BenchResult, check_idle
from reelworld.files import write_json
from reelworld.nn.decode import compile_c, huge_page_zeros, pointer
from reelworld.system_info import commit, describe_machine, load_average, now, peak_memory_mb
from reelworld.types import UserError

OF_A_FIGURE = ("value", "low", "high", "n", "n_clips", "baselines")
READ_BYTES, READS = 512 * 2**20, 6


# ------------------------------------------------------------------ flags and results


def flags(about: str | None) -> argparse.ArgumentParser:
    """Make a benchmark's parser: its docstring as help, and --out."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the result; printed in any case")
    return parser


def speed_flags(about: str | None) -> argparse.ArgumentParser:
    """Make the parser of a benchmark that needs an idle machine: also --allow-busy and --threads."""
    parser = flags(about)
    parser.add_argument("--allow-busy", action="store_true", help="measure although other programs use the machine")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; kept results use 2")
    return parser


def idle_state(arguments: argparse.Namespace) -> dict[str, Any]:
    """Set the threads, and return the machine's load, kept with the result; exit if it is busy and may not be."""
    torch.set_num_threads(arguments.threads)
    try:
        return check_idle(arguments.allow_busy)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def keep(kind: str, out: Path | None, **result: Any) -> None:
    """Print a result with its command, commit and machine, and write it.

    Args:
        kind: Kind of benchmark; tables.py has a function for each.
        out: File, or None.
        result: JSON values.
    """
    whole = {
        "format_version": 1,
        "kind": kind,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": commit(),
        "created": now(),
        "hardware": describe_machine(),
        **result,
    }
    print(json.dumps(whole, indent=2))
    if out:
        write_json(out, whole)


def keep_speed(kind: str, out: Path | None, state: Mapping[str, Any], **result: Any) -> None:
    """Keep a result of an idle machine: its load before and after, and the peak memory."""
    keep(kind, out, **state, load_average_after=load_average(), peak_memory_mb=peak_memory_mb(), **result)


def figures_to_keep(figures: Iterable[Metric], *names: str) -> dict[str, Any]:
    """Pick figures, and of each its numbers; all figures when none is named."""
    chosen = (f for f in figures if not names or f.name in names)
    return {f.name: {k: plain(to_json(f))[k] for k in OF_A_FIGURE} for f in chosen}


# ------------------------------------------------------------------ command line


def reelworld(*words: str | Path) -> None:
    """Run a verb in a process of its own, its output on stderr."""
    line = ["reelworld", *map(str, words)]
    print(shlex.join(line), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", *line], check=True, stdout=sys.stderr)


def trained(run: Path, system: str, data: Path, *words: str) -> Path:
    """Train with the command line, unless the run is finished; returns the run."""
    if not (run / "world" / "world.json").is_file():
        reelworld("train", system, "--data", data, "--out", run, *words)
    return run


def minutes(run: Path) -> dict[str, float]:
    """Read the wall-clock minutes of each stage of a training."""
    entries = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return {entry["stage"]: entry["minutes"] for entry in entries}


# ------------------------------------------------------------------ times


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Time works in turns, so that other load on the machine hits all of them: seconds of each round.

    One more round comes first and warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for i in range(rounds + 1):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            if i:
                seconds[name].append(time.perf_counter() - begun)
    return {name: np.array(s) for name, s in seconds.items()}


def row(what: str, values: np.ndarray, threads: int, dtype: str, unit: str = "ms", **more: Any) -> dict[str, Any]:
    """Summarize values as a row of a result: median, p95 (of a rate the slow end), count."""
    slow_end = 5 if unit.endswith("/s") else 95
    result: dict[str, Any] = to_json(
        BenchResult(
            what=what,
            unit=unit,
            threads=threads,
            dtype=dtype,
            median=float(np.median(values)),
            p95=float(np.percentile(values, slow_end)),
            n=len(values),
        )
    )
    return result | more


@dataclass
class Memory:
    """Memory bandwidth, GB/s: by operator, and a probe with the fastest."""

    speeds: dict[str, float]
    fastest: str
    read: Callable[[], object]

    def probe(self) -> list[float]:
        """Measure some reads, after one that warms up."""
        self.read()
        return [_bandwidth(self.read) for _ in range(READS)]


def _bandwidth(read: Callable[[], object]) -> float:
    begun = time.perf_counter()
    read()
    return READ_BYTES / (time.perf_counter() - begun) / 1e9


def _read_in_c(library: ctypes.CDLL, buffer: torch.Tensor) -> None:
    """Read a float32 tensor; it is passed and not its address, so that it lives as long as the operator."""
    library.read_memory(pointer(buffer), ctypes.c_int64(buffer.numel()), torch.get_num_threads())


def measure_memory() -> Memory:
    """Read a large buffer with torch's fastest operators and with a loop in C: the limit of reading weights once."""
    n = READ_BYTES // 4
    library = compile_c(Path(__file__).with_name("read_memory.c"))
    operators: dict[str, Callable[[], object]] = {}
    for pages, buffer in {"": torch.ones(n), ", huge pages": huge_page_zeros((n,), torch.float32).fill_(1)}.items():
        operators |= {f"{name}{pages}": getattr(buffer, name) for name in ("max", "sum", "aminmax")}
        operators[f"dot{pages}"] = partial(torch.dot, buffer, buffer)
        if library is not None:
            operators[f"a loop in C{pages}"] = partial(_read_in_c, library, buffer)
    for read in operators.values():
        read()
    speeds = {name: float(np.median([_bandwidth(read) for _ in range(5)])) for name, read in operators.items()}
    fastest = max(speeds, key=lambda name: speeds[name])
    return Memory({k: round(v, 1) for k, v in speeds.items()}, fastest, operators[fastest])
