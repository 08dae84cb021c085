"""Every format that can be read: a small recording of each is written, read back and checked.

    python benchmarks/formats.py

The recordings show a square that moves as its actions say. "Steps" counts the steps whose movement is that of their own
action, in every case all of them; `tests/data/moving_square.py` has the check, which no shifted reading passes. The
recordings are written by the format's own library where it can be installed, else after its documentation.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.data import written_formats as written
from tests.data.moving_square import check_alignment, episode, ids
from tests.data.test_lerobot import version_2, version_3
from tests.data.test_robonet import write as write_robonet

from reelworld.data.dataset import DataInfo, Dataset, Episode, write_episode, write_info
from reelworld.data.formats.registry import FORMATS
from reelworld.types import ActionSpec, Clip

DOCUMENTED = "recording after its documentation"
DRIVER, RECORDER, LOADER = (f"recording after its {source}" for source in ("driver", "recorder", "loader"))


@dataclass(frozen=True)
class Case:
    """One kind of recording."""

    format: str
    """Name in the table of formats; "own folder" for folders with ``dataset.json``."""
    kind: str
    write: Callable[[Path], object]
    proved_by: str = DOCUMENTED
    to_ids: Callable[[np.ndarray], np.ndarray] = ids
    stream: str = "action"


def several(name: str, write: Callable[[Path, int], object], n: int = 4) -> Callable[[Path], object]:
    """Write n recordings of these names."""
    return lambda folder: [write(folder / name.format(i), i) for i in range(n)]


def own(folder: Path) -> None:
    listed = []
    for i in range(4):
        frames, actions = episode(i)
        write_episode(folder / f"{i}.npz", Clip(frames=frames, actions={"action": actions}))
        listed.append(Episode(source=str(i), n_frames=len(frames), split="train", file=f"{i}.npz"))
    spec = ActionSpec(kind="discrete", n=3)
    write_info(folder, DataInfo(height=48, width=48, actions={"action": spec}), listed)


def own_file(path: Path, seed: int) -> None:
    frames, actions = episode(seed)
    rows = {"rewards": np.zeros(24, np.float32), "terminated": np.zeros(24, bool), "truncated": np.zeros(24, bool)}
    np.savez(path, frames=frames, actions=actions, **rows)


def other_npz(path: Path, seed: int) -> None:
    frames, actions = episode(seed)
    np.savez(path, image=frames, action=actions)


def videogpt(folder: Path) -> None:
    parts = [episode(i) for i in range(4)]
    with h5py.File(folder / "videos.hdf5", "w") as file:
        file["train_data"], file["train_actions"] = (np.concatenate(x) for x in zip(*parts, strict=True))
        file["train_idx"] = np.arange(0, 4 * 24, 24)


def robonet(path: Path, seed: int) -> None:
    frames, actions = episode(seed)
    rows = np.pad(written.vectors(actions)[:-1].astype(np.float64), ((0, 0), (0, 3)))
    write_robonet(path, rows, kind="frames", frames=frames)


def minari(folder: Path) -> None:
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    written.write_minari(folder)


def video(path: Path, seed: int) -> None:
    np.savetxt(path.with_suffix(".csv"), written.film(path, seed), fmt="%d")


def dreamer(is_version_2: bool) -> Callable[[Path, int], object]:
    return lambda path, seed: written.replay(path, seed, is_version_2=is_version_2)


def pressed(left: int, right: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from buttons to 0, 1 and 2."""
    return lambda rows: 1 + (rows[:, right] > 0.5).astype(int) - (rows[:, left] > 0.5)


ARROWS = written.from_vectors
CASES = [
    Case("own folder", "dataset.json", own, "recording by its own writer"),
    Case("episode of this package", ".npz", several("{}.npz", own_file), "recording by its own writer"),
    Case("LeRobot v2, v3", "v2.1, mp4", version_2, to_ids=ARROWS),
    Case("LeRobot v2, v3", "v3.0, mp4", version_3, to_ids=ARROWS),
    Case("LeRobot v2, v3", "v3.0, pictures", lambda f: version_3(f, "image"), to_ids=ARROWS),
    Case("numbered pictures", "png, csv", several("run{}", written.pictures), "nothing: rows are taken as given"),
    Case(
        "D4RL, OGBench, DreamerV2, DreamerV3",
        "OGBench",
        lambda f: written.laid_out(f / "x.npz", range(4)),
        to_ids=ARROWS,
    ),
    Case("D4RL, OGBench, DreamerV2, DreamerV3", "DreamerV3", several("{}.npz", dreamer(False)), DRIVER),
    Case("D4RL, OGBench, DreamerV2, DreamerV3", "DreamerV2", several("{}.npz", dreamer(True)), DRIVER),
    Case("other .npz", ".npz", several("{}.npz", other_npz), "nothing: rows are taken as given"),
    Case("RoboNet", ".hdf5", several("{}.hdf5", robonet), LOADER, ARROWS),
    Case("robomimic, LIBERO", ".hdf5", lambda f: written.robomimic(f / "demo.hdf5"), to_ids=ARROWS),
    Case("Minari", "main_data.hdf5", minari, "recording by Minari's own library"),
    Case("ALOHA", "arrays", several("{}.hdf5", written.aloha), RECORDER, ARROWS),
    Case("ALOHA", "JPEGs", several("{}.hdf5", lambda p, i: written.aloha(p, i, encoded=True)), RECORDER, ARROWS),
    Case("stable-worldmodel", ".h5", lambda f: written.stable_worldmodel(f / "x.h5", [24] * 4), to_ids=ARROWS),
    Case(
        "Counter-Strike (DIAMOND)",
        ".hdf5",
        several("{}.hdf5", written.counter_strike),
        "recording after DIAMOND's reader",
        pressed(2, 3),
        "keys",
    ),
    Case(
        "OWAMcap",
        ".mcap, mkv",
        several("{}.mcap", written.owamcap),
        "recording by OWAMcap's own library",
        pressed(0, 1),
        "keys",
    ),
    Case("other HDF5 arrays", "D4RL", lambda f: written.laid_out_hdf5(f / "x.hdf5", range(4)), to_ids=ARROWS),
    Case("HDF5 of videos", ".hdf5", videogpt, "nothing: rows are taken as given"),
    Case("video", "mp4, csv", several("{}.mp4", video), "recording after our documentation"),
    Case("video", "owl-control", several("s{}", written.owl), "recording after its extraction", pressed(0, 1), "keys"),
    Case("video", "VPT", several("{}.jsonl", written.vpt), LOADER, pressed(2, 3), "keys"),
]


def measure(case: Case, folder: Path) -> list[str]:
    """Write and read one recording; return its row of the table."""
    folder.mkdir()
    case.write(folder)
    dataset = Dataset.open(folder)
    n_steps = check_alignment(dataset, case.to_ids, case.stream, slack=1)
    actions = ", ".join(f"{name}: {spec.kind} {spec.n}" for name, spec in dataset.info.actions.items())
    n_frames = sum(e.n_frames for e in dataset.episodes)
    return [case.format, case.kind, str(len(dataset.episodes)), str(n_frames), actions, str(n_steps), case.proved_by]


def main() -> None:
    missing = {f.name for f in FORMATS} - {case.format for case in CASES}
    if missing:
        sys.exit(f"no recording is written for {', '.join(sorted(missing))}")
    logging.getLogger("reelworld.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="minari")
    rows = [["format", "kind", "episodes", "frames", "actions", "steps", "alignment proved by"]]
    with tempfile.TemporaryDirectory() as name:
        os.environ["REELWORLD_CACHE"] = f"{name}/cache"
        rows += [measure(case, Path(name) / str(i)) for i, case in enumerate(CASES)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
