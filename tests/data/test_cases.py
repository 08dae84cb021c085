"""The shared cases of formats: recordings that people have, made by a script of their own, against what is expected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.data.moving_square import positions

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(os.environ.get("REELWORLD_CASES", REPOSITORY.parent / "shared" / "data" / "cases")) / "recordings.py"
Steps = Callable[[Dataset, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Expected content of a case."""

    episodes: int
    frames: int
    actions: dict[str, tuple[str, int]]
    """Stream -> kind and number of ids, dimensions or buttons."""
    moves: Steps | None = None
    """(data set, episode) -> what each action does to the square: -1, 0 or 1; None where actions are noise."""
    is_bgr: bool = False
    """The script writes RGB where the format has BGR."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Words of the recordings that are left out, one each."""
    names: tuple[str, ...] = ()
    """Names of the only stream's ids, dimensions or buttons."""


def ids(dataset: Dataset, i: int) -> np.ndarray:
    return dataset.read(i).action - 1


def first_number(dataset: Dataset, i: int) -> np.ndarray:
    return dataset.read(i).action[:, 0]


def counter_strike(dataset: Dataset, i: int) -> np.ndarray:
    """Actions 0, 1 and 2 are the keys w, s and a."""
    return dataset.read(i).actions["keys"][:, :3].argmax(axis=1) - 1


def left_right(dataset: Dataset, i: int) -> np.ndarray:
    return dataset.read(i).action[:, 1] - dataset.read(i).action[:, 0]


ID, XY, KEYS = ("discrete", 3), ("continuous", 2), ("buttons", 13)
CASES = {
    "npz_ogbench": Expected(
        episodes=16, frames=640, actions={"action": XY}, moves=first_number, notes=("cut at their marks", "1 val")
    ),
    "npz_dreamerv3": Expected(episodes=6, frames=240, actions={"action": ID}, moves=ids, notes=("DreamerV3",)),
    "pngs": Expected(episodes=4, frames=80, actions={"action": ID}, moves=ids),
    "robomimic_hdf5": Expected(episodes=6, frames=240, actions={"action": ("continuous", 7)}),
    "aloha_hdf5": Expected(episodes=4, frames=160, actions={"action": ("continuous", 14)}),
    "minari_hdf5": Expected(episodes=5, frames=200, actions={"action": ID}, moves=ids),
    "swm_hdf5": Expected(episodes=6, frames=240, actions={"action": XY}, moves=first_number),
    "csgo_hdf5": Expected(
        episodes=4,
        frames=160,
        actions={"keys": KEYS, "mouse": XY},
        moves=counter_strike,
        is_bgr=True,
        notes=("stored as BGR", "without a step of the mouse"),
    ),
    "json_sidecar": Expected(episodes=3, frames=120, actions={"action": ID}, moves=ids),
    "action_npy_dreamer4": Expected(episodes=3, frames=120, actions={"action": ID}, moves=ids),
    "uppercase": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids),
    "symlinked": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids),
    "vpt_jsonl": Expected(episodes=3, frames=120, actions={"keys": ("buttons", 23), "mouse": XY}),
    "csv_keys_multihot": Expected(
        episodes=8,
        frames=320,
        actions={"action": ("buttons", 4)},
        moves=left_right,
        names=("left", "right", "up", "jump"),
        notes=("read as buttons",),
    ),
    "npz_onehot": Expected(episodes=6, frames=240, actions={"action": ID}, moves=ids, notes=("exactly one 1",)),
    "npz_bool_keys": Expected(episodes=6, frames=240, actions={"action": ID}, moves=ids, notes=("exactly one 1",)),
    "csv_frame_action": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids, notes=("'frame'",)),
    "csv_time_action": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids, notes=("'timestamp'",)),
    "csv_bom_crlf_quoted": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids),
    "csv_semicolon": Expected(episodes=4, frames=160, actions={"action": XY}, names=("a", "b")),
    "csv_one_bad_of_ten": Expected(
        episodes=9, frames=360, actions={"action": ID}, moves=ids, problems=("43 rows for 40 frames",)
    ),
    "csv_missing_one": Expected(
        episodes=5, frames=200, actions={"action": ID}, moves=ids, problems=("r0.mp4 has no actions",)
    ),
    "npz_float": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids, notes=("scaled from 0..1",)),
    "npz_rgba": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids, notes=("alpha channel",)),
    "npz_chw_grey": Expected(episodes=4, frames=160, actions={"action": ID}),
    "npz_thw_grey": Expected(episodes=4, frames=160, actions={"action": ID}),
    "bframes": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids),
    "names": Expected(episodes=7, frames=280, actions={"action": ID}, moves=ids),
    "short": Expected(episodes=30, frames=150, actions={"action": ID}),
    "vfr": Expected(episodes=4, frames=635, actions={"action": ID}, notes=("variable frame rate",)),
    "odd_size": Expected(episodes=4, frames=160, actions={"action": ID}, moves=ids),
    "mixed_fps": Expected(episodes=6, frames=240, actions={"action": ID}, moves=ids, notes=("frame rates differ",)),
    "audio_only": Expected(episodes=3, frames=120, actions={}, problems=("no video stream",)),
    "other_containers": Expected(episodes=6, frames=240, actions={}),
    "mp4_named_mkv": Expected(episodes=3, frames=120, actions={}),
    "rotated": Expected(episodes=3, frames=120, actions={}),
    "fragmented": Expected(episodes=4, frames=773, actions={}, notes=("v3.mp4 is damaged after its first",)),
    "corrupt_middle": Expected(episodes=4, frames=675, actions={}, notes=("v3.mp4 is damaged after its first",)),
    "hdr_pq": Expected(episodes=1, frames=20, actions={}, notes=("HDR (PQ)",)),
    # two recordings are cut into stretches, so that there is something to hold out
    "owl_events": Expected(episodes=6, frames=80, actions={"keys": ("buttons", 2)}, notes=("never released",)),
}


FLAT = ("h264_10bit", "h264_444", "alpha_webm", "av1", "hevc10", "color_709")
"""Films of four quarters of one colour each, in the forms that cameras and recorders make."""
_TOP, _END = slice(0, 32), slice(32, 64)
QUARTERS = (
    (_TOP, _TOP, (200, 30, 30)),
    (_TOP, _END, (30, 200, 30)),
    (_END, _TOP, (30, 30, 200)),
    (_END, _END, (235, 235, 235)),
)
REFUSED = {
    "csv_gap_blank": "row 7 is blank (line 8)",
    "csv_nan": "NaN or infinity (first in row 7)",
    "csv_longer": "41 rows for 40 frames",
    "csv_shorter2": "38 rows for 40 frames",
    "csv_minus1": "discrete actions are ids from 0",
    "csv_names_words": "row 0 holds 'NOOP' in column 'action'",
    "npz_depth16": "wanted frames (T, H, W, 3)",
    "npz_png_bytes": "pickled object array",
    "mixed_size": "2 sizes (height x width)",
}
"""Case -> words of the error."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not SCRIPT.is_file():
        pytest.skip(f"{SCRIPT} is absent: set REELWORLD_CASES to the folder of the cases")
    folder = tmp_path_factory.mktemp("cases")
    names = [*CASES, *FLAT, *REFUSED, "lerobot_v21", "lerobot_v3"]
    subprocess.run([sys.executable, str(SCRIPT), str(folder), *names], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_cases_are_read(made: Path, name: str) -> None:
    expected, dataset = CASES[name], Dataset.open(made / name)
    assert len(dataset.episodes) == expected.episodes
    assert sum(e.n_frames for e in dataset.episodes) == expected.frames
    assert {stream: (s.kind, s.n) for stream, s in dataset.info.actions.items()} == expected.actions
    assert len(dataset.problems) == len(expected.problems)
    assert all(words in line for words, line in zip(expected.problems, dataset.problems, strict=True))
    if expected.names:
        assert dataset.info.actions["action"].names == expected.names
    for words in expected.notes:
        assert any(words in note for note in dataset.notes), words
    if expected.moves is None:
        return
    for i in dataset.indices("all"):
        frames = dataset.read(i).frames.copy()
        frames = frames[..., ::-1] if expected.is_bgr else frames
        frames[:, :9, :9] = 0  # the mark in the corner
        moved = np.diff(positions(frames)) / 3
        wall = np.abs(moved) < 0.95  # the square stops at the walls
        taken = expected.moves(dataset, i)[:-1]
        np.testing.assert_allclose(moved[~wall], taken[~wall], atol=0.25)
        assert (~wall).sum() > 5


@pytest.mark.parametrize("name", FLAT)
def test_colours_are_those_of_the_film(made: Path, name: str) -> None:
    dataset = Dataset.open(made / name)
    for i in dataset.indices("all"):
        frames = dataset.read(i).frames.astype(int)
        for rows, columns, colour in QUARTERS:
            seen = frames[:, rows, columns][:, 8:24, 8:24].mean((0, 1, 2))
            np.testing.assert_allclose(seen, colour, atol=6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_rightly_is_refused_in_one_line(
    made: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(made / name)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and REFUSED[name] in error and "\n" not in error


@pytest.mark.parametrize("name", ["lerobot_v21", "lerobot_v3"])
def test_lerobot_with_broken_parquet_is_one_line(made: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    assert main(["inspect", str(made / name)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
