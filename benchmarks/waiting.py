"""How fast a small model learns with two threads, alone and beside a busy program, by how threads wait for each other.

    python benchmarks/waiting.py --out benchmarks/results/waiting.json

Threads of a parallel operation wait for the slowest one. By default they burn their core while they wait; where another
program wants that core, the one that is waited for does not get it. Each way is measured in processes of its own, in
turn, because it is read when torch is loaded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import numpy as np
import torch
from harness import idle_state, keep_speed, speed_flags

from reelworld.data.dataset import DataInfo
from reelworld.systems.videogpt.config import SMALL
from reelworld.systems.videogpt.model import build
from reelworld.types import Batch, Codes

WAYS: dict[str, dict[str, str]] = {
    "default": {},
    **{f"GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": n} for n in ("1000", "10000", "50000")},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
SECONDS = 6.0


def learn(threads: int) -> float:
    """Train the prior of videogpt:small on random codes; steps per second."""
    torch.set_num_threads(threads)
    prior = build(SMALL, DataInfo(fps=10.0, height=64, width=64, actions={})).parts["dynamics"]
    prior.codebook.normal_()  # type: ignore[operator, union-attr]
    batch = Batch(codes=Codes.of(torch.randint(0, 32, (2, 4, 64))))
    optimizer = torch.optim.Adam(prior.parameters(), 1e-3)
    steps, begun = -3, time.perf_counter()
    while steps < 1 or time.perf_counter() - begun < SECONDS:
        if steps == 0:  # the first three warm up
            begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            total, count = prior.loss(batch).terms["nats"]  # type: ignore[operator]
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        steps += 1
    return steps / (time.perf_counter() - begun)


def measured(way: str, threads: int, busy: bool) -> float:
    """Measure one way in a process of its own."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
        words = [sys.executable, __file__, "--learn", str(threads)]
        return float(subprocess.run(words, env=clean | WAYS[way], check=True, capture_output=True).stdout)
    finally:
        if other is not None:
            other.kill()
            other.wait()


def main() -> None:
    parser = speed_flags(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    parser.add_argument("--learn", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.learn:
        print(learn(arguments.learn))
        return
    state = idle_state(arguments)
    rates: dict[tuple[str, bool], list[float]] = {(way, busy): [] for busy in (False, True) for way in WAYS}
    for _ in range(arguments.rounds):
        for (way, busy), found in rates.items():
            found.append(measured(way, arguments.threads, busy))
    keep_speed(
        "waiting",
        arguments.out,
        state,
        seed=0,
        threads=arguments.threads,
        results=[
            {
                "waiting": way,
                "beside": "one busy program" if busy else "nothing",
                "unit": "steps/s",
                "median": float(np.median(found)),
                "all": found,
            }
            for (way, busy), found in rates.items()
        ],
    )


if __name__ == "__main__":
    main()
