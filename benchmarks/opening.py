"""Seconds that opening 3,000 small .npz files takes, for the first time and again, with the index in the cache.

    python benchmarks/opening.py

Each opening is a process of its own; its imports are not counted. Files are mapped in place, converted, or unpacked.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

N_OPENINGS = 4
OPEN = """
import logging, sys, time
import reelworld.data.formats.registry
from reelworld.data.dataset import Dataset
logging.disable()
begun = time.perf_counter()
n = len(Dataset.open(sys.argv[1]).episodes)
print(time.perf_counter() - begun, n)
"""


def write(folder: Path, kind: str, n_files: int) -> None:
    """Write recordings of eight frames of 16x16 with continuous actions."""
    rng, rows = np.random.default_rng(0), {}
    if kind == "in place":
        rows = {"rewards": np.zeros(8, np.float32), "terminated": np.zeros(8, bool), "truncated": np.zeros(8, bool)}
    save = np.savez_compressed if kind == "unpacked" else np.savez
    for i in range(n_files):
        frames = rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
        save(folder / f"{i:06d}.npz", frames=frames, actions=rng.normal(size=(8, 2)).astype(np.float32), **rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3000)
    n_files = parser.parse_args().files
    print(f"{n_files} files  first  again")
    for kind in ("in place", "converted", "unpacked"):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / "recordings"
            folder.mkdir()
            write(folder, kind, n_files)
            command, environment = [sys.executable, "-c", OPEN, folder], {"REELWORLD_CACHE": str(Path(made) / "cache")}
            found = []
            for _ in range(N_OPENINGS):
                done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
                seconds, n = done.stdout.split()
                assert int(n) == n_files
                found.append(float(seconds))
            print(f"{kind:>10}  {found[0]:5.2f}  " + " ".join(f"{s:.2f}" for s in found[1:]))


if __name__ == "__main__":
    main()
