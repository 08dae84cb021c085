"""HDF5 files of many videos: windows equal those of h5py, and no other frames are read."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.data.damage import damaged, refusals
from tests.data.drawn_videos import numbered_frames, write_video

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset, ReadOptions, warn_once
from reelworld.data.formats.hdf5 import _Blocks
from reelworld.data.loader import Loader
from reelworld.data.resize import fit_frames
from reelworld.types import UserError

LAYOUTS = {
    "one piece": ({}, {}),
    "after a user block": ({"userblock_size": 1024}, {}),
    "compressed frames": ({}, {"chunks": (1, 8, 12, 3), "compression": "gzip"}),
    "chunks across frames": ({}, {"chunks": (33, 4, 4, 1), "compression": "lzf", "shuffle": True}),
    "resizable": ({}, {"maxshape": (None, 8, 12, 3)}),
}


def write(path, train=(), test=(), seed=0, layout="one piece", **more):
    """Write videos of these lengths; return the frames of both sides."""
    rng = np.random.default_rng(seed)
    file_options, options = LAYOUTS[layout]
    sides = {"train": train, "test": test}
    data = {s: rng.integers(0, 256, (sum(n), 8, 12, 3), np.uint8) for s, n in sides.items() if n}
    with h5py.File(path, "w", **file_options) as file:
        for side, frames in data.items():
            file.create_dataset(f"{side}_data", data=frames, **options)
            file[f"{side}_idx"] = np.cumsum([0, *sides[side][:-1]])
        for name, values in more.items():
            if name in file:
                del file[name]
            if values is not None:
                file[name] = values
    return data


def where(episode):
    """Side and number of the video that an episode is."""
    _, side, number = episode.source.split("/")
    return side, int(number)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 3])
def test_windows_are_the_slices_of_the_file(tmp_path, layout, stride):
    lengths = {"train": (16, 40, 16, 3, 50, 17, 31), "test": (16, 20)}
    write(path := tmp_path / "videos.hdf5", **lengths, layout=layout)
    length = 16 if stride == 1 else 6  # spans 16 frames both ways
    dataset = Dataset.open(path)
    seen = {"train": set(), "test": set()}
    with h5py.File(path) as file:
        for split in ("train", "val", "test"):
            windows = ClipIndex(dataset, split, length, stride)
            for i in range(len(windows)):
                number, start = windows.index[i]
                side, video = where(dataset.episodes[number])
                assert (side == "test") == (split == "test")
                first = file[f"{side}_idx"][video] + start
                want = file[f"{side}_data"][first : first + 16][::stride]
                np.testing.assert_array_equal(windows[i]["frames"], want)
                seen[side].add((video, int(start)))
    for side, videos in seen.items():  # every start of every video counts, the last one too
        assert videos == {(v, s) for v, n in enumerate(lengths[side]) for s in range(n - 15)}


def test_videos_of_exactly_one_window_are_enough(tmp_path):
    data = write(path := tmp_path / "videos.h5", train=(16, 16, 16), test=(16,))
    dataset = Dataset.open(path)
    for split, n in (("train", 2), ("val", 1), ("test", 1)):
        assert len(ClipIndex(dataset, split, 16)) == n
    np.testing.assert_array_equal(ClipIndex(dataset, "test", 16)[0]["frames"], data["test"])


def test_test_videos_stay_apart_and_val_comes_out_of_train(tmp_path):
    write(path := tmp_path / "videos.hdf5", train=(2,) * 900, test=(2,) * 50)
    splits = {e.source: e.split for e in Dataset.open(path).episodes}
    assert {s for name, s in splits.items() if "/test/" in name} == {"test"}
    train = [s for name, s in splits.items() if "/train/" in name]
    assert set(train) == {"train", "val"} and 70 < train.count("val") < 130  # one in nine
    write(path, train=(2,) * 1000, test=(2,) * 60)
    grown = {e.source: e.split for e in Dataset.open(path).episodes}
    assert len(grown) == 1060 and all(grown[name] == s for name, s in splits.items())


def test_without_test_videos_all_splits_come_out_of_train(tmp_path):
    write(path := tmp_path / "videos.hdf5", train=(4,) * 40)
    dataset = Dataset.open(path)
    assert all(dataset.indices(s) for s in ("train", "val", "test"))
    write(path, test=(4,) * 5, train_data=np.zeros((0, 8, 12, 3), np.uint8), train_idx=np.zeros(0, np.int64))
    assert {e.split for e in Dataset.open(path).episodes} == {"test"}


def test_a_single_training_video_is_cut_and_test_videos_are_not(tmp_path):
    data = write(path := tmp_path / "videos.hdf5", train=(100,), test=(40,))
    dataset = Dataset.open(path)
    assert [e.n_frames for e in dataset.episodes] == [16, 17, 17, 16, 17, 17, 40]
    assert dataset.indices("train") and dataset.indices("val") and len(dataset.indices("test")) == 1
    joined = np.concatenate([dataset.read(i).frames for i in range(6)])
    np.testing.assert_array_equal(joined, data["train"])


def test_copies_of_test_videos_are_dropped_from_train(tmp_path):
    rng = np.random.default_rng(1)
    videos = rng.integers(0, 256, (9, 5, 8, 12, 3), np.uint8)
    write(
        path := tmp_path / "videos.hdf5",
        train_data=videos[[0, 1, 2, 3, 4, 5, 6]].reshape(-1, 8, 12, 3),
        train_idx=np.arange(7) * 5,
        test_data=videos[[7, 3, 8]].reshape(-1, 8, 12, 3),
        test_idx=np.arange(3) * 5,
    )
    dataset = Dataset.open(path)
    assert dataset.n_duplicates == 1
    assert "videos.hdf5/train/000003" not in {e.source for e in dataset.episodes}
    assert len(dataset.indices("test")) == 3


def moved_by_hand(rows, starts, shift):
    """Video by video: its first frame whose step is known, and a row for each frame from there."""
    kept = []
    for first, last in zip(starts, [*starts[1:], len(rows)], strict=True):
        video = rows[first:last]
        known = [t for t in range(len(video) - 1) if 0 <= t + shift < len(video)]
        if known:
            after = known[-1] + 1 + shift  # the row after the last step is padding, and never another video's
            padding = video[after] if 0 <= after < len(video) else np.zeros_like(video[0])
            kept.append((first + known[0], np.stack([*(video[t + shift] for t in known), padding])))
    return kept


@pytest.mark.parametrize("shift", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("width", [0, 4])
def test_actions_are_aligned_video_by_video(tmp_path, shift, width):
    rng = np.random.default_rng(2)
    lengths = {"train": (5, 6, 9, 5), "test": (7, 5, 5)}
    actions = {
        f"{s}_actions": rng.standard_normal((sum(n), width)) if width else rng.integers(0, 6, sum(n))
        for s, n in lengths.items()
    }
    data = write(path := tmp_path / "videos.hdf5", **lengths, **actions)
    dataset = Dataset.open(path, ReadOptions(action_shift=shift))
    assert any("--action-shift 1" in note for note in dataset.notes) == (shift is None)
    assert dataset.info.actions["action"].kind == ("continuous" if width else "discrete")
    want = {s: moved_by_hand(actions[f"{s}_actions"], np.cumsum([0, *lengths[s][:-1]]), shift or 0) for s in lengths}
    assert len(dataset.episodes) == 7
    for i, e in enumerate(dataset.episodes):
        side, number = where(e)
        first, rows = want[side][number]
        clip = dataset.read(i)
        np.testing.assert_array_equal(clip.frames, data[side][first : first + len(rows)])
        np.testing.assert_array_equal(clip.action, rows.astype(clip.action.dtype))
        np.testing.assert_array_equal(clip.action, dataset.steps(i)["actions/action"])
        strided = dataset.read(i, 1, 4, 2).action
        np.testing.assert_array_equal(strided[0], clip.action[1:3])


def test_videos_that_an_action_shift_leaves_nothing_of_are_named(tmp_path):
    write(path := tmp_path / "videos.hdf5", train=(3, 9, 9, 9), train_actions=np.zeros((30, 2)))
    dataset = Dataset.open(path, ReadOptions(action_shift=5))
    assert len(dataset.episodes) == 3 and any("1 videos of videos.hdf5 are left out" in n for n in dataset.notes)
    with pytest.raises(UserError, match=r"no video of videos\.hdf5 is long enough for an action shift of 20"):
        Dataset.open(path, ReadOptions(action_shift=20))


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_frames_are_resized_when_they_are_read(tmp_path, cache, fit):
    data = write(path := tmp_path / "videos.hdf5", train=(6, 6, 6), test=(6,))
    with pytest.raises(UserError, match=r"videos\.hdf5 has frames of 8x12.*--fit crop"):
        Dataset.open(path, ReadOptions(size=4))
    dataset = Dataset.open(path, ReadOptions(size=4, fit=fit))
    assert (dataset.info.height, dataset.info.width) == (4, 4)
    for i, e in enumerate(dataset.episodes):
        side, _ = where(e)
        want = fit_frames(data[side][e.first : e.first + 6], (4, 4), fit, "")
        np.testing.assert_array_equal(dataset.read(i).frames, want)
        np.testing.assert_array_equal(dataset.read(i, 1, 6, 2).frames, want[1::2])
    assert [p.name for p in cache.iterdir()] == ["splits"]  # no copy of the frames


def test_chunks_that_are_kept_give_the_same_frames(tmp_path):
    data = write(path := tmp_path / "a.h5", train=(120,), layout="chunks across frames")
    with h5py.File(path) as file:
        blocks = _Blocks(file["train_data"])
        for start, stop, stride in np.random.default_rng(0).integers((0, 0, 1), (120, 130, 4), (200, 3)).tolist():
            stop = max(start, stop)
            np.testing.assert_array_equal(blocks[start:stop:stride], data["train"][start:stop:stride])


def read_bytes():
    """Bytes this process has asked the system for."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_large_file_is_neither_loaded_nor_copied(tmp_path, cache):
    n_videos, n_frames = 60, 200
    with h5py.File(path := tmp_path / "large.hdf5", "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # a hole on disk, as large as it says
        space = h5py.h5s.create_simple((n_videos * n_frames, 64, 64, 3))
        h5py.h5d.create(file.id, b"train_data", h5py.h5t.NATIVE_UINT8, space, layout)
        file["train_idx"] = np.arange(n_videos) * n_frames
        for i in range(n_videos):
            file["train_data"][i * n_frames] = np.full((64, 64, 3), i, np.uint8)
    assert path.stat().st_size > 147_000_000
    before = read_bytes()
    dataset = Dataset.open(path)
    batch = next(Loader(ClipIndex(dataset, "train", 16), 8, 0).batches())
    assert batch.video.shape == (8, 16, 64, 64, 3)
    wanted = (3 * len(dataset.episodes) + 8 * 16) * 64 * 64 * 3  # three frames of each video tell copies apart
    assert wanted <= read_bytes() - before < 1.5 * wanted
    assert sum(p.stat().st_size for p in cache.rglob("*") if p.is_file()) < 100_000


@pytest.mark.parametrize("layout", ["one piece", "compressed frames"])
def test_open_files_travel_to_workers_threads_and_forks(tmp_path, layout):
    write(path := tmp_path / "videos.hdf5", train=(20,) * 12, layout=layout)
    dataset = Dataset.open(path)
    windows = ClipIndex(dataset, "train", 8)
    straight = [b.video for b in islice(Loader(windows, 6, 0).batches(), 12)]  # the file is open in this process now
    workers = [b.video for b in islice(Loader(windows, 6, 0, n_workers=2).batches(), 12)]
    assert all(a.equal(b) for a, b in zip(straight, workers, strict=True))
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.read(3).frames, dataset.read(3).frames)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: (i % 12, dataset.read(i % 12).frames), range(200)))
    assert all(np.array_equal(frames, dataset.read(i).frames) for i, frames in read)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(dataset.read, (5,)).frames, dataset.read(5).frames)


def test_a_child_process_opens_the_file_for_itself(tmp_path):
    write(path := tmp_path / "videos.hdf5", train=(20,) * 3, layout="compressed frames")
    dataset = Dataset.open(path)
    dataset.read(0)
    pool = dataset.episodes[0].arrays.store.pool
    mine = set(pool._open)
    reader, writer = os.pipe()
    if not (child := os.fork()):
        dataset.read(0)
        os.write(writer, str(len(set(pool._open) - mine)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 9) == b"1"
    os.close(reader)
    os.close(writer)


def test_few_tables_stay_open(tmp_path):
    for i in range(80):
        write(tmp_path / f"{i}.h5", train=(3,), seed=i, layout="compressed frames")
    dataset = Dataset.open(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        for i in dataset.indices("all"):
            dataset.read(i)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 64


def test_folders_of_files_keep_their_places(tmp_path):
    for split in ("train", "test"):
        for name in ("bowl", "walk"):
            (tmp_path / split / name).mkdir(parents=True)
            write(tmp_path / split / name / "a.h5", train=(4, 4, 4), seed=len(split) + len(name) * 9 + ord(name[0]))
    write_video(tmp_path / "test" / "walk" / "b.mkv", numbered_frames(5, 8, 12))
    dataset = Dataset.open(tmp_path)
    assert dataset.info.classes == ("bowl", "walk")
    for i, e in enumerate(dataset.episodes):
        assert (e.split == "test") == e.source.startswith("test/")
        assert dataset.info.classes[e.class_id] in e.source
        assert dataset.read(i).frames.shape[1:] == (8, 12, 3)
    assert len(dataset.episodes) == 13 and len(dataset.indices("test")) == 7


def test_frames_before_the_first_start_and_slow_chunks_are_told(tmp_path, caplog):
    warn_once.cache_clear()
    write(path := tmp_path / "a.h5", train=(9,) * 9, layout="chunks across frames", train_idx=np.arange(8) * 9 + 5)
    with caplog.at_level(logging.WARNING, "reelworld.data"):
        dataset = Dataset.open(path)
    assert "5 frames of train_data of a.h5 are not used" in caplog.text
    assert "chunks of 33 frames" in caplog.text and "chunks=(1, 8, 12, 3)" in caplog.text
    assert [(e.first, e.n_frames) for e in dataset.episodes] == [*((5 + 9 * i, 9) for i in range(7)), (68, 13)]


N = 12  # frames of the bad files, in three videos
BAD = {
    "no frames": ({"train_data": None}, "has train_idx but no train_data"),
    "no starts": ({"train_idx": None}, "has train_data but no train_idx"),
    "falling": ({"train_idx": [0, 8, 4]}, r"has 4 after 8 \(entry 2\)"),
    "twice": ({"train_idx": [0, 4, 4]}, r"has 4 after 4 \(entry 2\)"),
    "negative": ({"train_idx": [-1, 4]}, "starts in -1..4"),
    "beyond the end": ({"train_idx": [0, 4, N]}, "starts in 0..12; wanted numbers of the 12 frames"),
    "empty starts": ({"train_idx": np.zeros(0, np.int64)}, "train_idx of a.hdf5 is empty for 12 frames"),
    "float starts": ({"train_idx": [0.0, 4.0]}, "train_idx of a.hdf5 is float64"),
    "table of starts": ({"train_idx": [[0, 4]]}, r"train_idx of a.hdf5 is int64 \(1, 2\)"),
    "float frames": ({"train_data": np.zeros((N, 8, 12, 3))}, "train_data of a.hdf5 is float64"),
    "grey frames": ({"train_data": np.zeros((N, 8, 12, 1), np.uint8)}, r"\(12, 8, 12, 1\); wanted uint8"),
    "channels first": ({"train_data": np.zeros((N, 3, 8, 12), np.uint8)}, r"\(12, 3, 8, 12\); wanted uint8"),
    "no pixels": ({"train_data": np.zeros((N, 0, 12, 3), np.uint8)}, "wanted uint8"),
    "a table of videos": ({"train_data": np.zeros((3, 4, 8, 12, 3), np.uint8)}, "wanted uint8"),
    "text": ({"train_data": "hello"}, r"is object \(\); wanted uint8"),
    "nothing": ({"train_data": h5py.Empty("uint8")}, "train_data of a.hdf5 is no array"),
    "bad test": ({"test_data": np.zeros((N, 8, 12, 3), np.uint8)}, "has test_data but no test_idx"),
    "short actions": ({"train_actions": np.zeros((N - 3, 2))}, "9 rows for 12 frames; wanted 12"),
    "words": ({"train_actions": ["left"] * N}, "train_actions of a.hdf5 is object"),
    "tensor": ({"train_actions": np.zeros((N, 2, 2))}, "wanted numbers"),
    "nan": (
        {"train_actions": np.where(np.arange(N)[:, None] == 6, np.nan, np.zeros((N, 2)))},
        r"train video 1 in a.hdf5 hold NaN or infinity \(first in its row 2\)",
    ),
    "huge ids": ({"train_actions": np.full(N, 10**6)}, "discrete actions are ids"),
    "half the actions": (
        {"train_actions": np.zeros(N), "test_data": np.zeros((3, 8, 12, 3), np.uint8), "test_idx": [0]},
        "has train_actions but no test_actions",
    ),
    "sizes": (
        {"test_data": np.zeros((3, 8, 8, 3), np.uint8), "test_idx": [0]},
        "the recordings have 2 sizes .* 3 of 8x12, 1 of 8x8; wanted one",
    ),
    "other names": ({"train_data": None, "train_idx": None, "pixels": np.zeros(3)}, "holds no video but pixels"),
    "empty file": ({"train_data": None, "train_idx": None}, r"a.hdf5 is empty; wanted train_data"),
    "zero videos": (
        {"train_data": np.zeros((0, 8, 12, 3), np.uint8), "train_idx": np.zeros(0, np.int64)},
        "holds no video but train_data, train_idx",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(tmp_path, name):
    changes, wanted = BAD[name]
    write(path := tmp_path / "a.hdf5", train=(4, 4, 4), **changes)
    with pytest.raises(UserError, match=wanted) as caught:
        Dataset.open(path)
    assert "\n" not in str(caught.value)


def test_groups_are_no_frames(tmp_path):
    write(path := tmp_path / "a.hdf5", train=(4, 4), train_data=None)
    with h5py.File(path, "a") as file:
        file.create_group("train_data")
    with pytest.raises(UserError, match=r"train_data of a\.hdf5 is no array"):
        Dataset.open(path)


def test_truncated_and_strange_files_are_skipped_and_named(tmp_path):
    write(tmp_path / "good.h5", train=(4, 4, 4, 4))
    write(tmp_path / "cut.h5", train=(4, 4), seed=1)
    write(tmp_path / "other.h5", weights=np.zeros(3))
    cut = tmp_path / "cut.h5"
    cut.write_bytes(cut.read_bytes()[:-500])
    (tmp_path / "noise.hdf5").write_bytes(b"no hdf5 at all")
    (tmp_path / "none.hdf5").write_bytes(b"")
    dataset = Dataset.open(tmp_path)
    assert len(dataset.episodes) == 4 and len(dataset.problems) == 4
    for start in ("cut.h5 is truncated", "other.h5 holds no video but weights", "noise.hdf5 is", "none.hdf5 is"):
        assert sum(p.startswith(start) for p in dataset.problems) == 1
    with pytest.raises(UserError, match=r"holds no readable recording: cut\.h5 is truncated"):
        Dataset.open(cut)


def test_every_truncation_and_damage_is_one_line(tmp_path):
    write(path := tmp_path / "a.h5", train=(4, 4, 4), layout="compressed frames", train_actions=np.zeros((12, 2)))

    def read(path):
        dataset = Dataset.open(path)
        for i in dataset.indices("all"):
            dataset.read(i)

    broken = damaged(path.read_bytes(), every=311, n=150, hits=8, reach=5000)
    assert refusals(path, broken, read) > 60


def test_damage_found_while_reading_is_one_line(tmp_path):
    write(path := tmp_path / "a.h5", train=(9,) * 4, layout="compressed frames")
    dataset = Dataset.open(path)
    with h5py.File(path) as file:
        chunk = file["train_data"].id.get_chunk_info(4)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.h5 cannot be read at frames 0 to 9 of train_data .* replace it"):
        dataset.read(0)


def test_a_file_that_shrinks_while_it_is_used_is_an_error_not_a_crash(tmp_path):
    write(path := tmp_path / "a.h5", train=(9,) * 4)
    dataset = Dataset.open(path)
    dataset.read(3)
    os.truncate(path, 4000)
    with pytest.raises(UserError, match=r"the file ends before its last frame"):
        dataset.read(3)
    write(path, train=(5,) * 4)
    with pytest.raises(UserError, match="was changed while it was in use"):
        pickle.loads(pickle.dumps(dataset)).read(0)
