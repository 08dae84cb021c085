"""Logs of keys and mouse: owl-control, VPT, Counter-Strike, and the action files of other stems and endings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.data.moving_square import check_alignment, episode
from tests.data.written_formats import N, counter_strike, film, owamcap, owl, vpt

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.data.formats.csgo import KEYS
from reelworld.data.formats.input_events import VPT_BUTTONS
from reelworld.types import UserError


def from_keys(dataset: Dataset, left: str, right: str):
    """Return a function from the rows of the keys to 0, 1 and 2."""
    names = dataset.info.actions["keys"].names
    return lambda rows: 1 + (rows[:, names.index(right)] > 0.5).astype(int) - (rows[:, names.index(left)] > 0.5)


# ------------------------------------------------------------------ owl-control


def test_owl_control_lays_events_between_frames(tmp_path: Path) -> None:
    for i in range(4):
        owl(tmp_path / f"s{i}", i)
    dataset = Dataset.open(tmp_path)
    assert [e.n_frames for e in dataset.episodes] == [N] * 4
    keys = dataset.info.actions["keys"]
    assert keys.kind == "buttons" and keys.keys == {"KeyA": (1.0, 0.0), "KeyD": (0.0, 1.0)}
    assert keys.names == ("a", "d")  # w was pressed before START only
    assert check_alignment(dataset, from_keys(dataset, "a", "d"), "keys") == 4 * (N - 1)
    clip = dataset.read(0)
    ids = episode(0)[1]
    np.testing.assert_allclose(clip.actions["mouse"][:-1], np.stack([3 * (ids - 1.0), 0 * ids + 6], 1)[:-1])
    assert dataset.info.actions["mouse"].names == ("dx", "dy")


def test_owl_control_at_another_rate_loses_no_press(tmp_path: Path) -> None:
    for i in range(4):
        owl(tmp_path / f"s{i}", i)
    dataset = Dataset.open(tmp_path, ReadOptions(fps=5))
    ids, keys = episode(0)[1], dataset.read(0).actions["keys"]
    n = len(keys) - 1
    pairs = ids[: 2 * n].reshape(n, 2)
    np.testing.assert_array_equal(keys[:n], np.stack([(pairs == 0).any(1), (pairs == 2).any(1)], 1))


def test_recordings_with_other_keys_share_one_set(tmp_path: Path) -> None:
    for i in range(4):
        owl(tmp_path / f"s{i}", i, extra=('1700000001.0,KEYBOARD,"[32,true]"',) if i == 2 else ())
    dataset = Dataset.open(tmp_path)
    assert dataset.info.actions["keys"].names == ("a", "d", "space")
    assert any("never released are held to the end (space)" in note for note in dataset.notes)
    third = next(i for i, e in enumerate(dataset.episodes) if e.file.startswith("s2"))
    np.testing.assert_array_equal(dataset.read(third).actions["keys"][:, 2], np.arange(N) >= 10)
    # a recording added with another key is read again, not taken from the cache
    owl(tmp_path / "s9", 9, extra=('1700000001.0,MOUSE_BUTTON,"[1,true]"',))
    assert "mouse-left" in Dataset.open(tmp_path).info.actions["keys"].names


def test_events_that_are_not_read_are_named(tmp_path: Path) -> None:
    for i in range(3):
        owl(tmp_path / f"s{i}", i, extra=('1700000000.3,SCROLL,"[1]"',))
    assert any("events SCROLL of owl-control are not read" in note for note in Dataset.open(tmp_path).notes)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1700000000.5,KEYBOARD,[65", "wanted a time, an event and a list of arguments"),
        ('soon,KEYBOARD,"[65,true]"', "in line"),
        ("1700000000.5,KEYBOARD,[]", "has the arguments [] of KEYBOARD"),
    ],
)
def test_bad_events_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    owl(tmp_path / "s0", 0, end=line)
    assert main(["inspect", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "s0/inputs.csv" in error and "\n" not in error


# ------------------------------------------------------------------ VPT


def test_vpt_steps(tmp_path: Path) -> None:
    for i in range(4):
        vpt(tmp_path / f"v{i}.jsonl", i)
    dataset = Dataset.open(tmp_path)
    spec = dataset.info.actions["keys"]
    assert spec.kind == "buttons" and spec.names == VPT_BUTTONS
    assert spec.keys["KeyW"].index(1.0) == VPT_BUTTONS.index("forward")
    assert spec.keys["ShiftLeft"].index(1.0) == VPT_BUTTONS.index("sneak")
    assert check_alignment(dataset, from_keys(dataset, "left", "right"), "keys") == 4 * (N - 1)
    keys = dataset.read(0).actions["keys"]
    np.testing.assert_array_equal(keys[:, VPT_BUTTONS.index("forward")], keys[:, VPT_BUTTONS.index("right")])
    # as in VPT's loader: a button that is down in the first step is stuck, and a change of slot is a key
    assert not keys[:, VPT_BUTTONS.index("attack")].any()
    np.testing.assert_array_equal(np.flatnonzero(keys[:, VPT_BUTTONS.index("hotbar.2")]), [5])
    np.testing.assert_allclose(dataset.read(0).actions["mouse"][:-1, 0], episode(0)[1][:-1] - 1)


@pytest.mark.parametrize(("n_steps", "n_frames"), [(N + 4, N), (N - 4, N - 3)])
def test_vpt_pairs_from_the_start(tmp_path: Path, n_steps: int, n_frames: int) -> None:
    for i in range(3):
        vpt(tmp_path / f"v{i}.jsonl", i, n_steps)
    dataset = Dataset.open(tmp_path)
    assert [e.n_frames for e in dataset.episodes] == [n_frames] * 3
    check_alignment(dataset, from_keys(dataset, "left", "right"), "keys")
    assert any("paired from the start" in note for note in dataset.notes)


def test_vpt_of_another_video_is_skipped_by_name(tmp_path: Path) -> None:
    for i in range(4):
        vpt(tmp_path / f"v{i}.jsonl", i, 40 if i == 1 else N)
    dataset = Dataset.open(tmp_path)
    assert len(dataset.episodes) == 3
    assert "v1.jsonl has 40 steps for a video of 24 frames" in dataset.problems[0]


# ------------------------------------------------------------------ OWAMcap


@pytest.mark.parametrize("raw", [True, False])
def test_owamcap_written_by_its_own_library(tmp_path: Path, raw: bool) -> None:
    for i in range(4):
        owamcap(tmp_path / f"{i}.mcap", i, raw=raw)
    dataset = Dataset.open(tmp_path)
    assert [e.file for e in dataset.episodes] == [f"{i}.mcap" for i in range(4)]  # not the videos beside them
    assert dataset.info.fps == pytest.approx(10)
    assert dataset.info.actions["keys"].names == ("a", "d")
    assert check_alignment(dataset, from_keys(dataset, "a", "d"), "keys") == 4 * (N - 1)
    ids = episode(0)[1]
    moved = dataset.read(0).actions["mouse"][:-1]
    if raw:
        np.testing.assert_allclose(moved, np.stack([3 * (ids - 1.0), 0 * ids + 6], 1)[:-1])
    else:  # the place of the pointer is known from its second event on
        np.testing.assert_allclose(moved[1:, 0], 3 * (ids[1:-1] - 1.0))


def test_owamcap_at_another_rate_loses_no_press(tmp_path: Path) -> None:
    for i in range(4):
        owamcap(tmp_path / f"{i}.mcap", i)
    dataset = Dataset.open(tmp_path, ReadOptions(fps=5))
    ids = episode(0)[1]
    keys, mouse = dataset.read(0).actions["keys"], dataset.read(0).actions["mouse"]
    n = len(keys) - 1
    pairs = ids[: 2 * n].reshape(n, 2)
    np.testing.assert_array_equal(keys[:n], np.stack([(pairs == 0).any(1), (pairs == 2).any(1)], 1))
    np.testing.assert_allclose(mouse[:n, 0], 3 * (pairs - 1.0).sum(1))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: (d / "0.mkv").unlink(), "0.mkv, which 0.mcap points into, is missing"),
        (lambda d: (d / "0.mcap").write_bytes(b"no mcap"), "no OWAMcap file"),
    ],
)
def test_damaged_owamcap_is_named_and_skipped(tmp_path: Path, spoil, said: str) -> None:
    for i in range(4):
        owamcap(tmp_path / f"{i}.mcap", i)
    spoil(tmp_path)
    dataset = Dataset.open(tmp_path)
    assert len(dataset.episodes) == 3
    assert said in dataset.problems[0]


def test_without_mcap_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owamcap(tmp_path / "0.mcap", 0)
    monkeypatch.setitem(sys.modules, "mcap.reader", None)
    with pytest.raises(UserError, match=r"pip install 'reelworld\[owa\]'"):
        Dataset.open(tmp_path)


# ------------------------------------------------------------------ Counter-Strike


def test_counter_strike(tmp_path: Path) -> None:
    moves = [counter_strike(tmp_path / f"hdf5_dm_july2021_{k}.hdf5", k) for k in range(4)]
    dataset = Dataset.open(tmp_path)
    assert dataset.info.fps == 16
    assert check_alignment(dataset, from_keys(dataset, "a", "d"), "keys") == 4 * (N - 1)
    for k in range(4):
        clip = dataset.read(k)
        np.testing.assert_array_equal(clip.frames, episode(k)[0])
        np.testing.assert_array_equal(clip.actions["mouse"][:-1], moves[k][:-1])
        np.testing.assert_array_equal(clip.actions["keys"][:, KEYS.index("mouse-left")], np.arange(N) % 5 == 0)
    small = Dataset.open(tmp_path, ReadOptions(size=24, fit="stretch"))
    assert small.read(0).frames.shape == (N, 24, 24, 3)


def test_counter_strike_with_a_missing_frame_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        for t in (0, 1, 3):
            file[f"frame_{t}_x"], file[f"frame_{t}_y"] = np.zeros((8, 8, 3), np.uint8), np.zeros(51)
    assert main(["inspect", str(tmp_path)]) == 2
    assert "x.hdf5 lacks frame_2_x or _y" in capsys.readouterr().err


# ------------------------------------------------------------------ plain files


@pytest.mark.parametrize("form", ["list", "object", "steps"])
def test_json_beside_a_video(tmp_path: Path, form: str) -> None:
    for i in range(3):
        ids = film(tmp_path / f"v{i}.mp4", i).tolist()
        value = {"list": ids, "object": {"fps": 10, "actions": ids}, "steps": [{"action": a} for a in ids]}[form]
        (tmp_path / f"v{i}.json").write_text(json.dumps(value))
    assert check_alignment(Dataset.open(tmp_path)) == 3 * (N - 1)


def test_json_of_something_else_is_said(tmp_path: Path) -> None:
    for i in range(3):
        film(tmp_path / f"v{i}.mp4", i)
        (tmp_path / f"v{i}.json").write_text('{"uploader": "somebody", "duration": 4}')
    dataset = Dataset.open(tmp_path)
    assert not dataset.info.actions
    assert any("v0.json (beside v0.mp4) holds no list of actions" in note for note in dataset.notes)


@pytest.mark.parametrize("ending", [".action.npy", ".actions.npy", ".npy"])
def test_npy_beside_a_video(tmp_path: Path, ending: str) -> None:
    for i in range(3):
        np.save(tmp_path / f"v{i}{ending}", film(tmp_path / f"v{i}.mp4", i))
    assert check_alignment(Dataset.open(tmp_path)) == 3 * (N - 1)


def test_endings_in_capitals(tmp_path: Path) -> None:
    for i in range(3):
        ids = film(tmp_path / f"RUN{i}.mp4", i)
        (tmp_path / f"RUN{i}.mp4").rename(tmp_path / f"RUN{i}.MP4")
        np.savetxt(tmp_path / f"RUN{i}.CSV", ids, fmt="%d")
    assert check_alignment(Dataset.open(tmp_path)) == 3 * (N - 1)


def test_two_action_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = film(tmp_path / "v.mp4", 0)
    np.save(tmp_path / "v.action.npy", ids)
    np.savetxt(tmp_path / "v.csv", ids, fmt="%d")
    assert main(["inspect", str(tmp_path)]) == 2
    assert "v.mp4 has 2 action files (v.csv, v.action.npy)" in capsys.readouterr().err
