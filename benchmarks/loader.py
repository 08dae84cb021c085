"""How many 64x64 frames per second one loader process delivers, beside the plain speed of the same memory map.

    python benchmarks/loader.py --out results.json

Records 32 synthetic driving-like episodes of 640 frames (random pixels: nothing here depends on the content),
then reads batches of 16 windows of 16 frames in shuffled order, in this process and with worker processes.
The limit is measured in the same run, interleaved: copying the same windows straight out of one memory map.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from harness import idle_state, in_turns, keep_speed, row, speed_flags

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import DataInfo, Dataset, write_episode, write_info
from reelworld.data.loader import Loader
from reelworld.types import ActionSpec, Clip

N_EPISODES, N_FRAMES, SIZE = 32, 640, 64
LENGTH, BATCH, N_BATCHES, ROUNDS = 16, 16, 40, 5
TARGET = 2000  # frames per second that a worker must deliver


def record(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(N_EPISODES):
        clip = Clip(
            frames=rng.integers(0, 256, (N_FRAMES, SIZE, SIZE, 3), np.uint8),
            actions={"action": rng.standard_normal((N_FRAMES, 3)).astype(np.float32)},
            rewards=np.zeros(N_FRAMES, np.float32),
            terminated=np.zeros(N_FRAMES, bool),
            truncated=np.zeros(N_FRAMES, bool),
        )
        write_episode(folder / f"episode_{i:05d}.npz", clip)
    spec = ActionSpec(kind="continuous", n=3)
    write_info(folder, DataInfo(fps=50.0, height=SIZE, width=SIZE, actions={"action": spec}), [])


def measure(folder: Path) -> dict[str, np.ndarray]:
    """Measure frames per second of every way to read."""
    windows = ClipIndex(Dataset.open(folder), "all", LENGTH)
    plain = Loader(windows, BATCH, 0)
    workers = Loader(windows, BATCH, 0, n_workers=1)
    raw = np.lib.format.open_memmap(
        folder / "raw.npy", "w+", np.uint8, (N_EPISODES, N_FRAMES, SIZE, SIZE, 3)
    )  # the same amount of data, already in the page cache, as the episodes are
    raw[:] = 1

    def read_raw() -> int:
        for number in range(N_BATCHES):
            places = windows.index[plain.order(number)]
            np.stack([raw[e, s : s + LENGTH] for e, s in places])
        return N_BATCHES * BATCH * LENGTH

    def read(loader: Loader) -> Callable[[], int]:
        return lambda: sum(
            b.video.shape[0] * LENGTH for b in islice(loader.batches(), N_BATCHES) if b.video is not None
        )

    runs = {"memory map": read_raw, "loader": read(plain), "loader, one worker with its start": read(workers)}
    return {name: N_BATCHES * BATCH * LENGTH / seconds for name, seconds in in_turns(runs, ROUNDS).items()}


def main() -> None:
    parser = speed_flags(__doc__)
    arguments = parser.parse_args()
    arguments.threads = 1
    state = idle_state(arguments)
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder))
        rates = measure(Path(folder))
    limit = float(np.median(rates["memory map"]))
    keep_speed(
        "loader",
        arguments.out,
        state,
        what=f"{SIZE}x{SIZE} frames, windows of {LENGTH} from {N_FRAMES}-frame episodes, batches of {BATCH}",
        seed=0,
        target=TARGET,
        results=[
            row(
                name,
                r.round(),
                1,
                "uint8" if name == "memory map" else "uint8 read, float32 delivered",
                "frames/s",
                limit=round(limit),
                limit_is="the same windows copied out of one memory map, in the same run",
                fraction_of_limit=round(float(np.median(r)) / limit, 3),
            )
            for name, r in rates.items()
        ],
    )


if __name__ == "__main__":
    main()
