import json
import os
import shutil
import stat

import numpy as np
import pytest

from reelworld.data.dataset import DataInfo, Dataset, Episode, ReadOptions, write_episode, write_info
from reelworld.types import ActionSpec, Clip, UserError

SPEC = ActionSpec(kind="discrete", n=5, names=("a", "b", "c", "d", "e"), null=0, keys={"KeyA": 1})


def make_clip(seed, n=20, size=8, **changes):
    rng = np.random.default_rng(seed)
    rows = {
        "frames": rng.integers(0, 256, (n, size, size, 3), np.uint8),
        "actions": {"action": rng.integers(0, 5, n)},
        "rewards": rng.random(n).astype(np.float32),
        "terminated": np.arange(n) == n - 2,
        "truncated": np.zeros(n, bool),
    }
    return Clip(**{**rows, **changes})


def make_folder(folder, clips, listed=True):
    folder.mkdir(exist_ok=True)
    episodes = []
    for i, clip in enumerate(clips):
        write_episode(folder / f"episode_{i:05d}.npz", clip)
        episodes.append(
            Episode(source=f"episode_{i:05d}", n_frames=len(clip.frames), split="train", file=f"episode_{i:05d}.npz")
        )
    info = DataInfo(fps=10.0, height=8, width=8, actions={"action": SPEC}, provenance={"env_id": "Toy-v0"})
    write_info(folder, info, episodes if listed else [])
    return info


@pytest.fixture
def folder(tmp_path):
    make_folder(tmp_path / "own", [make_clip(i) for i in range(12)], listed=False)
    return tmp_path / "own"


def test_an_own_recording_comes_back_as_it_was_written(folder):
    dataset = Dataset.open(folder)
    assert dataset.info.actions["action"] == SPEC
    assert dataset.info.provenance == {"env_id": "Toy-v0"}
    assert (dataset.problems, dataset.notes) == ((), ())
    for i in dataset.indices("all"):
        number = int(dataset.episodes[i].source.removeprefix("episode_"))
        want, got = make_clip(number), dataset.read(i)
        np.testing.assert_array_equal(got.frames, want.frames)
        np.testing.assert_array_equal(got.action, want.action)
        for name in ("rewards", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
        assert (got.fps, got.action.dtype, got.rewards.dtype) == (10.0, np.int64, np.float32)


def test_reading_does_not_write_into_the_folder(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    Dataset.open(folder, ReadOptions(size=4, fit="stretch"))
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_window_is_the_slice_with_its_steps_kept_together(folder, stride):
    dataset = Dataset.open(folder)
    whole = dataset.read(0)
    start, n_kept = 2, 4
    stop = start + (n_kept - 1) * stride + 1
    clip = dataset.read(0, start, stop, stride)
    np.testing.assert_array_equal(clip.frames, whole.frames[start:stop:stride])
    for t in range(n_kept - 1):  # the last row is padding
        steps = slice(start + t * stride, start + (t + 1) * stride)
        np.testing.assert_array_equal(np.atleast_1d(clip.action[t]), whole.action[steps])
        assert clip.rewards[t] == pytest.approx(whole.rewards[steps].sum())
        assert clip.terminated[t] == whole.terminated[steps].any()
    assert clip.fps == 10.0 / stride


def test_stride_finds_an_end_inside_skipped_frames_and_pads_past_the_episode(folder):
    dataset = Dataset.open(folder)
    clip = dataset.read(0, 16, 20, 3)  # frames 16 and 19; steps 16, 17, 18; the episode ends at step 18
    assert clip.terminated.tolist() == [True, False]
    assert clip.action[1, 1:].tolist() == [0, 0]


def test_what_lies_outside_an_episode_is_refused(folder):
    with pytest.raises(UserError, match="20 frames"):
        Dataset.open(folder).arrays(0, 15, 21)


def test_an_interrupted_recording_keeps_its_finished_episodes(folder):
    (folder / ".episode_00099.npz.123.tmp").write_bytes(b"half")
    info = make_folder(folder, [make_clip(i) for i in range(4)])  # four listed as train, eight not listed
    write_info(folder, info, [Episode(source="episode_00000", n_frames=20, split="test", file="episode_00000.npz")])
    dataset = Dataset.open(folder)
    assert len(dataset.episodes) == 12
    assert {e.source: e.split for e in dataset.episodes}["episode_00000"] == "test"
    assert all(dataset.indices(s) for s in ("train", "val", "test"))


def test_damaged_and_missing_episodes_are_skipped_and_named(folder, caplog):
    make_folder(folder, [make_clip(i) for i in range(12)])
    damaged = folder / "episode_00003.npz"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    (folder / "episode_00004.npz").unlink()
    dataset = Dataset.open(folder)
    assert len(dataset.episodes) == 10
    assert any("episode_00003.npz is truncated" in p for p in dataset.problems)
    assert any("episode_00004.npz is listed but missing" in p for p in dataset.problems)
    assert "2 files skipped" in caplog.text


def test_nothing_left_is_an_error(folder):
    for path in folder.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"no readable episode.*truncated"):
        Dataset.open(folder)


def test_own_episodes_without_dataset_json_are_mapped_in_place(folder, cache):
    (folder / "dataset.json").unlink()
    dataset = Dataset.open(folder)
    assert len(dataset.episodes) == 12
    assert dataset.info.actions["action"].kind == "discrete"
    assert not (cache / "episodes").exists()
    np.testing.assert_array_equal(dataset.read(0).action, make_clip(0).action)


def test_own_episodes_may_have_been_compressed_since(folder):
    with np.load(folder / "episode_00000.npz") as arrays:
        kept = dict(arrays)
    np.savez_compressed(folder / "episode_00000.npz", **kept)
    np.testing.assert_array_equal(Dataset.open(folder).read(0).frames, make_clip(0).frames)


def test_size_and_fit_resize_own_episodes_in_the_cache(folder):
    with pytest.raises(UserError, match="--fit crop"):
        Dataset.open(folder, ReadOptions(size=4))
    dataset = Dataset.open(folder, ReadOptions(size=4, fit="stretch"))
    clip, want = dataset.read(0), make_clip(0)
    assert (dataset.info.height, dataset.info.width) == (4, 4)
    mean = want.frames.reshape(20, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    assert np.abs(clip.frames - mean).max() <= 1
    np.testing.assert_array_equal(clip.action, want.action)


def test_one_recording_is_cut_into_ten_stretches(tmp_path):
    clip = make_clip(0, n=205)
    make_folder(tmp_path / "own", [clip])
    dataset = Dataset.open(tmp_path / "own")
    assert [e.source for e in dataset.episodes] == [f"episode_00000#{i:02d}" for i in range(10)]
    assert {e.n_frames for e in dataset.episodes} <= {20, 21}
    assert {e.split for e in dataset.episodes} == {"train", "val", "test"}
    assert "cut into 10 stretches" in dataset.notes[0]
    joined = np.concatenate([dataset.read(i).frames for i in range(10)])
    np.testing.assert_array_equal(joined, clip.frames)
    for i, e in enumerate(dataset.episodes):
        np.testing.assert_array_equal(dataset.read(i).action, clip.action[e.first : e.first + e.n_frames])
    last = dataset.read(0, 15, 20, 4).action[1]  # steps 19 to 22, of which only 19 belongs to the first stretch
    assert last.tolist() == [clip.action[19], 0, 0, 0]


def test_copies_in_other_splits_are_dropped_and_counted(tmp_path):
    clips = [make_clip(i % 10) for i in range(40)]
    make_folder(tmp_path / "own", clips, listed=False)
    dataset = Dataset.open(tmp_path / "own")
    by_content = {}
    for i, e in enumerate(dataset.episodes):
        by_content.setdefault(dataset.read(i).frames.tobytes(), set()).add(e.split)
    assert len(by_content) == 10
    assert all(len(splits) == 1 for splits in by_content.values())
    assert dataset.n_duplicates == 40 - len(dataset.episodes) > 0
    assert any(f"{dataset.n_duplicates} episodes dropped" in note for note in dataset.notes)


def test_splits_of_a_foreign_folder_are_remembered_outside_it(tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    for i in range(3):
        np.savez_compressed(folder / f"{i}.npz", image=make_clip(i).frames)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    first = {e.source: e.split for e in Dataset.open(folder).episodes}
    assert set(first.values()) == {"train", "val", "test"}
    folder.chmod(stat.S_IRWXU)
    for i in range(3, 30):
        np.savez_compressed(folder / f"{i}.npz", image=make_clip(i).frames)
    grown = {e.source: e.split for e in Dataset.open(folder).episodes}
    assert all(grown[source] == split for source, split in first.items())
    assert len(list(folder.iterdir())) == 30


def test_a_changed_file_or_option_is_read_again(tmp_path):
    path = tmp_path / "a.npz"
    for seed in (1, 2):
        np.savez(path, image=make_clip(seed).frames)
        os.utime(path, ns=(seed, seed))
        np.testing.assert_array_equal(Dataset.open(path).read(0).frames[0], make_clip(seed).frames[0])
    assert Dataset.open(path, ReadOptions(size=4, fit="crop")).info.height == 4
    assert Dataset.open(path).info.height == 8


BAD_EPISODES = {
    "frames of float": ({"frames": np.zeros((20, 8, 8, 3), np.float32)}, "uint8"),
    "frames channel-first": ({"frames": np.zeros((20, 3, 8, 8), np.uint8)}, r"\(T, H, W, 3\)"),
    "no frames": ({"pictures": np.zeros(3)}, "pictures"),
    "short actions": ({"actions": np.zeros(9, np.int64)}, "20 frames"),
    "strange action": ({"actions": np.full(20, 7)}, "n=5"),
    "negative action": ({"actions": np.full(20, -1)}, "ids from 0"),
    "nan": ({"actions": np.full((20, 2), np.nan, np.float32)}, "NaN"),
    "rewards of int": ({"rewards": np.zeros(20, np.int64)}, "rewards.*float32"),
    "other size": ({"frames": np.zeros((20, 9, 8, 3), np.uint8)}, "9x8"),
    "no actions": ({"actions": None}, "lacks the action stream"),
    "object": ({"actions": np.array([None] * 20)}, "pickled object"),
}


@pytest.mark.parametrize("name", BAD_EPISODES)
def test_bad_episodes_are_named_in_one_line(folder, name):
    changes, wanted = BAD_EPISODES[name]
    with np.load(folder / "episode_00005.npz") as arrays:
        kept = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    if name == "no frames":
        kept = changes
    np.savez(folder / "episode_00005.npz", **kept)
    with pytest.raises(UserError, match=wanted) as caught:
        Dataset.open(folder, ReadOptions(strict=True))
    assert "episode_00005.npz" in str(caught.value)
    assert "\n" not in str(caught.value)
    rest = Dataset.open(folder)
    assert rest.problems == (str(caught.value),)
    assert "episode_00005.npz" not in [e.file for e in rest.episodes] and len(rest.episodes) > 3


def test_bad_clips_are_not_written(tmp_path):
    with pytest.raises(UserError, match="uint8"):
        write_episode(tmp_path / "a.npz", make_clip(0, frames=np.zeros((2, 4, 4, 3))))
    with pytest.raises(UserError, match="19 rows"):
        write_episode(tmp_path / "a.npz", make_clip(0, rewards=np.zeros(19)))
    assert not list(tmp_path.iterdir())


def test_bad_dataset_json_is_named(folder):
    path = folder / "dataset.json"
    values = json.loads(path.read_text())
    for changes, wanted in (
        ({"format_version": 99}, "format version 99"),
        ({"widht": 8}, "did you mean 'width'"),
        ({"height": "8"}, "height"),
    ):
        path.write_text(json.dumps({**values, **changes}))
        with pytest.raises(UserError, match=wanted):
            Dataset.open(folder)
    path.write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        Dataset.open(folder)


def test_absent_and_empty_folders_and_strange_files(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no recording.*\.mp4"):
        Dataset.open(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"holds no recording"):
        Dataset.open(tmp_path)
    with pytest.raises(UserError, match=r"notes\.txt ends in '\.txt'"):
        Dataset.open(tmp_path / "notes.txt")


def test_unknown_split_and_bad_options():
    with pytest.raises(UserError, match="size"):
        ReadOptions(size=0)
    with pytest.raises(UserError, match="fps"):
        ReadOptions(fps=-1)


def test_a_full_disk_while_unpacking_is_one_line(tmp_path, monkeypatch, cache):
    np.savez_compressed(tmp_path / "a.npz", image=make_clip(0).frames)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reelworld.data.cache.write_npz", full)
    with pytest.raises(UserError, match=r"No space left.*REELWORLD_CACHE"):
        Dataset.open(tmp_path / "a.npz")
    shutil.rmtree(cache)


def test_links_are_followed_each_folder_once(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 10, 16, 16, 3), np.uint8)
    (tmp_path / "real" / "day").mkdir(parents=True)
    for i in range(6):
        np.savez(tmp_path / "real" / "day" / f"{i}.npz", frames=frames[i])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "real" / "day")  # the same recordings again
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "broken").symlink_to(tmp_path / "nowhere")
    dataset = Dataset.open(tmp_path / "data")
    assert len(dataset.episodes) == 6
    assert len({e.source for e in dataset.episodes}) == 6


@pytest.mark.skipif(os.name == "nt", reason="names of Windows are text")
def test_a_name_that_is_no_text_is_left_out_and_named(tmp_path):
    for i in range(4):
        np.savez(tmp_path / f"{i}.npz", image=np.full((4, 8, 8, 3), i, np.uint8))
    (tmp_path / "3.npz").rename(tmp_path / os.fsdecode(b"caf\xe9.npz"))
    dataset = Dataset.open(tmp_path)
    assert len(dataset.episodes) == 3
    assert dataset.problems == ("caf\\udce9.npz has a name that is no UTF-8; rename it.",)
    with pytest.raises(UserError, match="no UTF-8"):
        Dataset.open(tmp_path, ReadOptions(strict=True))
