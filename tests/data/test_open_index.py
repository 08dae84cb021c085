"""Opening a folder again reads none of its unchanged files; what was changed, added or removed is noticed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reelworld.data import array_store
from reelworld.data.dataset import DataInfo, Dataset, ReadOptions, write_info
from reelworld.data.formats import npz
from reelworld.types import ActionSpec, UserError

ROWS = {"rewards": np.float32, "terminated": np.bool_, "truncated": np.bool_}


def write(path: Path, seed: int, kind: str = "plain", n: int = 9) -> np.ndarray:
    """Write one recording of random frames; return them."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    rows = {name: np.zeros(n, dtype) for name, dtype in ROWS.items()} if kind == "plain" else {}
    save = np.savez_compressed if kind == "packed" else np.savez
    save(path, frames=frames, actions=rng.integers(0, 3, n), **rows)
    return frames


@pytest.fixture(params=["plain", "other", "packed"])
def kind(request: pytest.FixtureRequest) -> str:
    """Files that are mapped in place, converted, or unpacked."""
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, kind: str) -> Path:
    folder = tmp_path / "recordings"
    (folder / "deep").mkdir(parents=True)
    for i in range(6):
        write(folder / f"{i}.npz", i, kind)
    write(folder / "deep" / "6.npz", 6, kind)
    return folder


def facts(dataset: Dataset) -> object:
    """All that opening finds out."""
    return dataset.info, dataset.episodes, dataset.problems, dataset.notes, dataset.n_duplicates


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the .npz files whose arrays are looked up."""
    names: list[str] = []
    read_index = array_store.read_index

    def read(path: Path) -> dict[str, array_store.ArrayIndex]:
        names.append(path.name)
        return read_index(path)

    monkeypatch.setattr(array_store, "read_index", read)
    return names


def test_a_second_opening_reads_no_file_and_finds_the_same(folder: Path, kind: str, opened: list[str]) -> None:
    first = Dataset.open(folder)
    assert len(opened) >= 7
    opened.clear()
    again = Dataset.open(folder)
    assert opened == []
    assert facts(again) == facts(first)
    for i, episode in enumerate(again.episodes):
        number = int(Path(episode.file).stem)
        expected = np.random.default_rng(number).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
        np.testing.assert_array_equal(again.read(i).frames, expected)


def test_changed_added_and_removed_files_are_noticed(folder: Path, kind: str, opened: list[str]) -> None:
    Dataset.open(folder)
    changed = write(folder / "2.npz", 22, kind)  # of the same size
    os.utime(folder / "2.npz", ns=(5, 5))
    longer = write(folder / "3.npz", 33, kind, n=12)
    (folder / "4.npz").unlink()
    added = write(folder / "7.npz", 77, kind)
    opened.clear()
    dataset = Dataset.open(folder)
    found = {e.source: dataset.read(i).frames for i, e in enumerate(dataset.episodes)}
    assert set(found) == {"0", "1", "2", "3", "5", "deep/6", "7"}
    for source, frames in (("2", changed), ("3", longer), ("7", added)):
        np.testing.assert_array_equal(found[source], frames)
    opened.clear()
    assert len(Dataset.open(folder).episodes) == 7 and opened == []


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_an_index_does_not_grow_with_changes(folder: Path, cache: Path) -> None:
    Dataset.open(folder)
    (index,) = (cache / "index").iterdir()
    facts = json.loads(index.read_bytes().partition(b"\n")[2])["facts"]
    for n_actions in range(4, 9):
        write(folder / "0.npz", 0, n=n_actions)
        with np.load(folder / "0.npz") as file:
            rows = {**file, "actions": np.arange(n_actions)}  # as many ids as rows, in no other file
        np.savez(folder / "0.npz", **rows)
        assert Dataset.open(folder).info.actions["action"].n == n_actions
    stored = json.loads(index.read_bytes().partition(b"\n")[2])
    assert len(stored["files"]) == 7 and len(stored["facts"]) <= len(facts) + 1


def test_a_file_that_is_damaged_later_is_named(folder: Path) -> None:
    Dataset.open(folder)
    (folder / "1.npz").write_bytes((folder / "1.npz").read_bytes()[:-200])
    dataset = Dataset.open(folder)
    assert len(dataset.episodes) == 6 and "1.npz" in dataset.problems[0]


def test_an_entry_of_the_cache_that_is_gone_is_made_again(folder: Path, kind: str, cache: Path) -> None:
    Dataset.open(folder)
    if kind == "plain":
        assert not (cache / "episodes").exists()
    shutil.rmtree(cache / "episodes", ignore_errors=True)
    dataset = Dataset.open(folder)
    assert [dataset.read(i).frames.shape for i in dataset.indices("all")] == [(9, 8, 8, 3)] * 7


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "a folder"])
def test_a_damaged_index_is_made_anew_in_one_line(
    damage: str, folder: Path, cache: Path, caplog: pytest.LogCaptureFixture, opened: list[str]
) -> None:
    first = Dataset.open(folder)
    (index,) = (cache / "index").iterdir()
    whole = index.read_bytes()
    if damage == "a folder":
        index.unlink()
        index.mkdir()
    else:
        flipped = whole.replace(b'"n_frames": 9', b'"n_frames": 8', 1)
        assert flipped != whole
        index.write_bytes({"cut": whole[:-9], "flipped": flipped, "empty": b""}[damage])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert facts(Dataset.open(folder)) == facts(first)
    assert [r.getMessage() for r in caplog.records] == [
        "the index of recordings in the cache is damaged; it is made anew"
    ]
    if damage != "a folder":
        assert index.read_bytes() == whole


def test_a_read_only_folder_has_an_index_too(folder: Path, opened: list[str]) -> None:
    before = sorted(p.name for p in folder.rglob("*"))
    for place in (folder / "deep", folder):
        place.chmod(0o500)
    try:
        Dataset.open(folder)
        opened.clear()
        Dataset.open(folder)
        assert opened == []
        assert sorted(p.name for p in folder.rglob("*")) == before
    finally:
        for place in (folder, folder / "deep"):
            place.chmod(0o700)


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_other_options_have_another_index(folder: Path) -> None:
    Dataset.open(folder)
    assert Dataset.open(folder, ReadOptions(size=4, fit="stretch")).info.height == 4
    assert Dataset.open(folder, ReadOptions(fps=5.0)).info.fps == 5
    assert Dataset.open(folder).info.height == 8 and Dataset.open(folder).info.fps == 0


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_copies_are_found_with_an_index(folder: Path) -> None:
    Dataset.open(folder)
    for i in range(20):
        shutil.copy(folder / "0.npz", folder / f"copy{i}.npz")
    first = Dataset.open(folder)
    assert first.n_duplicates > 0
    assert facts(Dataset.open(folder)) == facts(first)


def test_two_processes_at_once_find_the_same(folder: Path, cache: Path) -> None:
    code = (
        "import sys, json; from reelworld.data.dataset import Dataset\n"
        "for _ in range(3):\n"
        "    d = Dataset.open(sys.argv[1])\n"
        "print(json.dumps([[e.source, e.split, d.read(i).frames.sum().item()] for i, e in enumerate(d.episodes)]))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [p.communicate() for p in running]
    assert [p.returncode for p in running] == [0, 0], outputs
    dataset = Dataset.open(folder)
    expected = [[e.source, e.split, int(dataset.read(i).frames.sum())] for i, e in enumerate(dataset.episodes)]
    assert [json.loads(out) for out, _ in outputs] == [expected, expected]
    assert not any("damaged" in err for _, err in outputs)
    assert not list(cache.rglob("*.tmp"))


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_a_changed_dataset_json_is_noticed(folder: Path, opened: list[str]) -> None:
    spec = ActionSpec(kind="discrete", n=3, names=("a", "b", "c"), keys={"KeyA": 1})
    write_info(folder, DataInfo(height=8, width=8, actions={"action": spec}), [])
    first = Dataset.open(folder)
    opened.clear()
    assert facts(Dataset.open(folder)) == facts(first) and opened == []
    assert first.info.actions == {"action": spec}
    write_info(folder, DataInfo(height=8, width=8, actions={"action": ActionSpec(kind="discrete", n=2)}), [])
    with pytest.raises(UserError, match="says discrete with n=2"):
        Dataset.open(folder)


# ------------------------------------------------------------------ moved folders


def test_a_moved_folder_is_not_decoded_again(
    folder: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Dataset.open(folder)
    moved = tmp_path / "elsewhere" / "games"
    moved.parent.mkdir()
    folder.rename(moved)
    monkeypatch.setattr(npz, "decode", lambda *_: pytest.fail("decoded again"))
    again = Dataset.open(moved)
    assert again.episodes == first.episodes
    for i in first.indices("all"):
        np.testing.assert_array_equal(again.read(i).frames[0], frames_of(again.episodes[i].file)[0])


def frames_of(file: str) -> np.ndarray:
    """Frames that ``write`` drew for a file."""
    return np.random.default_rng(int(Path(file).stem)).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)


def test_files_alike_in_name_size_and_time_are_told_apart(tmp_path: Path) -> None:
    """Archives often give all files one time."""
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "0.npz", seed, "other")
        os.utime(tmp_path / name / "0.npz", ns=(0, 0))
    assert len({(tmp_path / name / "0.npz").stat().st_size for name in ("one", "two")}) == 1
    for seed, name in enumerate(("one", "two")):
        shown = Dataset.open(tmp_path / name).read(0).frames[0]
        drawn = np.random.default_rng(seed).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
        np.testing.assert_array_equal(shown, drawn[0])
