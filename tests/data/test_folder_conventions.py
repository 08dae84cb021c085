"""Folders as splits and classes: proved on real videos, and rule by rule on names."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from tests.data.drawn_videos import numbered_frames, write_video

from reelworld.data.clip_index import ClipIndex
from reelworld.data.code_store import CodeStoreWriter
from reelworld.data.dataset import DataInfo, Dataset, Episode, write_episode, write_info
from reelworld.data.formats.folder_conventions import allowed_splits, class_folders, split_folders
from reelworld.data.loader import Loader
from reelworld.types import Clip, GridSpec, TokenSpec, UserError

TOKENS = TokenSpec(grids={"video": GridSpec(rows=2, columns=2, codebook_size=16)})


def film(path, n, grey=0):
    """Write a video whose content depends on its grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = numbered_frames(n)
    frames[:, -8:] = grey
    return write_video(path, frames)


@pytest.fixture
def ucf(tmp_path):
    """Three classes, of which one is in the training folder only and one in the test folder only."""
    grey = itertools.count(0, 9)
    for name, ending in (("bowl", ".mp4"), ("archery", ".avi")):
        for i in range(6):
            film(tmp_path / "train" / name / f"{i}{ending}", 5 + i, next(grey))
    for name in ("bowl", "walk"):
        for i in range(2):
            film(tmp_path / "test" / name / f"{i}.webm", 6 + i, next(grey))
    return tmp_path


def test_class_folders_become_splits_and_classes(ucf):
    dataset = Dataset.open(ucf)
    assert dataset.info.classes == ("archery", "bowl", "walk")
    for e in dataset.episodes:
        split, name, _ = e.source.split("/")
        assert dataset.info.classes[e.class_id] == name
        assert (e.split == "test") == (split == "test")
    assert {s: len(dataset.indices(s)) for s in ("all", "test")} == {"all": 16, "test": 4}
    assert dataset.indices("train") and dataset.indices("val")
    assert dataset.read(0).class_id == dataset.episodes[0].class_id


def test_labels_travel_through_windows_workers_and_token_stores(ucf, tmp_path_factory):
    dataset = Dataset.open(ucf)
    writer = CodeStoreWriter(
        tmp_path_factory.mktemp("store"), info=dataset.info, episodes=dataset.episodes, tokens=TOKENS, identity="x"
    )
    for i, e in enumerate(dataset.episodes):
        writer.write(i, np.zeros((e.n_frames, 4), np.int64), {})
    for source, n_workers in ((dataset, 0), (dataset, 2), (writer.finish().dataset, 0)):
        windows = ClipIndex(source, "all", 4)
        loader = Loader(windows, 7, 0, n_workers=n_workers)
        batches = loader.batches()
        for number in range(6):
            got = next(batches).conditions.class_id
            want = [dataset.episodes[windows.index[i, 0]].class_id for i in loader.order(number)]
            assert got.shape == (7,) and got.dtype.is_signed and got.tolist() == want
    assert ClipIndex(dataset, "test", 4).clip(0).class_id == dataset.episodes[dataset.indices("test")[0]].class_id


def test_without_classes_nothing_is_labelled(tmp_path):
    for i in range(3):
        film(tmp_path / f"{i}.mp4", 6, 20 * i)
    dataset = Dataset.open(tmp_path)
    assert dataset.info.classes == ()
    assert {e.class_id for e in dataset.episodes} == {-1}
    assert next(Loader(ClipIndex(dataset, "all", 3), 2, 0).batches()).conditions.class_id is None
    assert dataset.read(0).class_id is None and ClipIndex(dataset, "all", 3).clip(0).class_id is None


def test_a_copy_of_a_test_clip_is_dropped_from_training(ucf):
    (ucf / "train" / "walk").mkdir()
    (ucf / "train" / "walk" / "copy.webm").write_bytes((ucf / "test" / "walk" / "1.webm").read_bytes())
    dataset = Dataset.open(ucf)
    assert dataset.n_duplicates == 1
    assert "train/walk/copy.webm" not in {e.source for e in dataset.episodes}
    assert len(dataset.indices("test")) == 4


def test_folders_win_over_splits_that_were_remembered(ucf):
    moved = ucf / "train" / "bowl" / "0.mp4"
    sources = {e.source: e.split for e in Dataset.open(ucf).episodes}
    held_out = {s for s in sources if s.startswith("train/") and sources[s] == "val"}
    moved.rename(ucf / "test" / "bowl" / "0.mp4")
    (ucf / "val" / "bowl").mkdir(parents=True)
    film(ucf / "val" / "bowl" / "v.mp4", 6, 200)
    again = {e.source: e.split for e in Dataset.open(ucf).episodes}
    assert again["test/bowl/0.mp4"] == "test" and again["val/bowl/v.mp4"] == "val"
    assert {again[s] for s in held_out} == {"train"}  # with a folder of its own, val takes none of train/


def splits_and_classes(*files):
    named = split_folders(files)
    return named, *class_folders(named)


@pytest.mark.parametrize(
    ("files", "splits", "classes"),
    [
        ("train/a/1 train/b/1 train/b/2 test/a/1", "train train train test", "a b"),
        ("TRAIN/1 Valid/2 test/3", "train val test", ""),
        ("a/1 a/2 b/1", "   ", "a b"),
        ("a/1 a/2", "  ", ""),  # a single class says nothing
        ("a/1 b/1", "  ", ""),  # a folder for each recording
        ("a/1 a/2 b/x/1", "   ", ""),
        ("a/1 a/2 1", "   ", ""),
        ("train/1 bus/1 train/2", "   ", "bus train"),  # films of trains
        ("train/a/1 train/b/2 test/a/3 notes", "train train test ", ""),
        ("test/a/1 test/b/1 test/b/2", "test test test", "a b"),
    ],
)
def test_what_folders_mean(files, splits, classes):
    files = files.split(" ")
    named, names, numbers = splits_and_classes(*files)
    assert [named[f] for f in files] == (splits.split(" ") if splits.strip() else [""] * len(files))
    assert names == tuple(classes.split())
    assert set(numbers) == (set(files) if classes else set())
    assert all(names[n] in f.split("/") for f, n in numbers.items())


def test_splits_that_nobody_named_come_out_of_train():
    every, train = ("train", "val", "test"), "train"
    assert allowed_splits(["", ""]) == [every, every]
    assert allowed_splits([train, train]) == [every, every]
    assert allowed_splits([train, "test", ""]) == [("train", "val"), ("test",), ("train", "val")]
    assert allowed_splits([train, "val"]) == [("train", "test"), ("val",)]
    assert allowed_splits([train, "val", "test"]) == [("train",), ("val",), ("test",)]


def own_folder(folder, classes, ids):
    folder.mkdir()
    for i in range(len(ids)):
        write_episode(folder / f"{i}.npz", Clip(frames=np.full((5, 8, 8, 3), i, np.uint8)))
    episodes = [
        Episode(source=str(i), n_frames=5, split="train", file=f"{i}.npz", class_id=c) for i, c in enumerate(ids)
    ]
    write_info(folder, DataInfo(height=8, width=8, classes=classes), episodes)


def test_own_folders_keep_classes_and_need_none(tmp_path):
    own_folder(tmp_path / "with", ("x", "y"), [1, 0, 1])
    dataset = Dataset.open(tmp_path / "with")
    assert dataset.info.classes == ("x", "y")
    assert Counter(e.class_id for e in dataset.episodes) == {1: 2, 0: 1}
    own_folder(tmp_path / "without", (), [-1, -1, -1])
    values = json.loads((tmp_path / "without" / "dataset.json").read_text())
    assert "classes" not in values and "class_id" not in values["episodes"][0]  # as every version wrote it
    assert Dataset.open(tmp_path / "without").info.classes == ()


def test_broken_lists_of_classes_are_named(tmp_path):
    for name, classes, ids in (("a", ("x", "y"), [0, 1, 2]), ("b", ("x",), [0, -1, 0]), ("c", (), [0, -1, -1])):
        own_folder(tmp_path / name, classes, ids)
        with pytest.raises(UserError, match=rf"class .*list has {len(classes)} classes"):
            Dataset.open(tmp_path / name)
    own_folder(tmp_path / "d", ("x", "y"), [0, 1, 1])
    write_episode(tmp_path / "d" / "late.npz", Clip(frames=np.full((5, 8, 8, 3), 99, np.uint8)))
    with pytest.raises(UserError, match=r"does not list late\.npz"):
        Dataset.open(tmp_path / "d")
