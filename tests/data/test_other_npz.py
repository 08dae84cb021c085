"""The alignment of each format is proved against the raw arrays, read here with plain numpy."""

import logging

import numpy as np
import pytest

from reelworld.data.dataset import Dataset, ReadOptions, warn_once
from reelworld.data.formats.npz import to_pixels
from reelworld.types import UserError


def save(folder, n=3, compressed=True, **arrays):
    folder.mkdir(exist_ok=True)
    for i in range(n):
        (np.savez_compressed if compressed else np.savez)(folder / f"{i}.npz", **arrays)
    return folder


def whole(dataset):
    """Join the stretches of a single recording."""
    return [dataset.read(i) for i in dataset.indices("all")]


def frames(n=10, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 20, 3), np.uint8)


def test_metaworld_rows_led_to_their_frame_and_stacks_keep_the_newest(real):
    dataset = Dataset.open(real / "metaworld")
    assert len(dataset.episodes) == 20
    assert dataset.info.actions["action"].n == 4
    assert sum("shifted by one" in n for n in dataset.notes) == 1
    for i in dataset.indices("all"):
        clip, e = dataset.read(i), dataset.episodes[i]
        with np.load(real / "metaworld" / e.file) as raw:
            stack, action, reward = raw["observation"], raw["action"], raw["reward"]
        for t in range(100):
            # the newest picture of row t is the one before the newest of row t + 1: the raw file itself says
            # which channels are newest, and that row t + 1 of the actions belongs to the step from t to t + 1
            np.testing.assert_array_equal(clip.frames[t].transpose(2, 0, 1), stack[t + 1, 3:6])
            np.testing.assert_array_equal(clip.action[t], action[t + 1])
            assert clip.rewards[t] == reward[t + 1, 0]
        np.testing.assert_array_equal(clip.frames[100].transpose(2, 0, 1), stack[100, 6:9])
        assert not clip.action[100].any()
        assert not clip.terminated.any()


def test_bair_is_kept_as_given_with_one_warning(real, caplog):
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "reelworld.data"):
        datasets = [Dataset.open(real / "bair_sample.npz") for _ in range(2)]
    assert caplog.text.count("use --action-shift 1") == 1
    with np.load(real / "bair_sample.npz") as raw:
        image, action = raw["image"], raw["action"]
    clips = whole(datasets[0])
    np.testing.assert_array_equal(np.concatenate([c.frames for c in clips]), image)
    np.testing.assert_array_equal(np.concatenate([c.action for c in clips]), action.astype(np.float32))
    assert clips[0].frames.dtype == np.uint8


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2, 3])
def test_action_shift_pairs_each_frame_with_the_row_it_names(real, shift):
    dataset = Dataset.open(real / "bair_sample.npz", ReadOptions(action_shift=shift))
    assert not any("--action-shift" in n for n in dataset.notes)
    with np.load(real / "bair_sample.npz") as raw:
        image, action = raw["image"].astype(np.uint8), raw["action"].astype(np.float32)
    clips = whole(dataset)
    got = np.concatenate([c.frames for c in clips])
    rows = np.concatenate([c.action for c in clips])
    first = next(t for t in range(30) if np.array_equal(image[t], got[0]))
    assert len(got) == 30 - max(0, -shift) - max(0, shift - 1)
    for t in range(len(got) - 1):
        np.testing.assert_array_equal(got[t], image[first + t])
        np.testing.assert_array_equal(rows[t], action[first + t + shift])


def test_fractal_is_not_square_and_has_no_actions(real):
    dataset = Dataset.open(real / "fractal_sample.npz")
    assert (dataset.info.height, dataset.info.width, dict(dataset.info.actions)) == (256, 320, {})
    with np.load(real / "fractal_sample.npz") as raw:
        np.testing.assert_array_equal(np.concatenate([c.frames for c in whole(dataset)]), raw["image"])


def test_another_camera_is_chosen_by_name(real):
    dataset = Dataset.open(real / "bair_sample.npz", ReadOptions(frames="aux1_image"))
    with np.load(real / "bair_sample.npz") as raw:
        np.testing.assert_array_equal(dataset.read(0).frames, raw["aux1_image"][: dataset.episodes[0].n_frames])


def test_sizes_that_differ_need_a_choice(real, tmp_path):
    for name in ("bair_sample.npz", "fractal_sample.npz"):
        (tmp_path / name).symlink_to(real / name)
    with np.load(real / "bair_sample.npz") as raw:
        np.savez(tmp_path / "bair_sample_2.npz", image=raw["image"][:9])
    (tmp_path / "bair_sample.npz").unlink()
    with pytest.raises(UserError, match=r"2 sizes.*64x64.*256x320|2 sizes.*256x320.*64x64"):
        Dataset.open(tmp_path)
    assert Dataset.open(tmp_path, ReadOptions(size=(48, 64), fit="pad")).info.width == 64


def test_one_row_less_than_frames_is_unambiguous(tmp_path):
    action = np.arange(9)
    dataset = Dataset.open(save(tmp_path / "d", obs=frames(), action=action, reward=np.arange(9.0)))
    clip = dataset.read(0)
    assert clip.action.tolist() == [*range(9), 0]
    assert clip.rewards.tolist() == [*range(9), 0]
    assert dataset.info.actions["action"].n == 9
    assert not any("aligned" in n for n in dataset.notes)


def test_a_replay_with_discount_ends_where_the_discount_is_zero(tmp_path):
    discount = np.ones((10, 1), np.float32)
    discount[9] = 0
    action = np.vstack([np.zeros((1, 2)), np.ones((9, 2))]).astype(np.float32)
    reward = np.arange(10, dtype=np.float32)[:, None]
    folder = save(tmp_path / "d", observation=frames(), action=action, reward=reward, discount=discount)
    clip = Dataset.open(folder).read(0)
    assert clip.terminated.tolist() == [False] * 8 + [True, False]
    assert clip.rewards.tolist() == [*range(1, 10), 0]
    as_given = Dataset.open(folder, ReadOptions(action_shift=0)).read(0)
    assert as_given.rewards.tolist() == list(range(10))


def test_several_streams_and_uncompressed_foreign_files(tmp_path):
    rows = {"actions/move": np.arange(10) % 3, "actions/look": np.linspace(-1, 1, 20, dtype=np.float32).reshape(10, 2)}
    dataset = Dataset.open(save(tmp_path / "d", compressed=False, video=frames(), **rows))
    assert dataset.info.actions["move"].n == 3
    assert dataset.info.actions["look"].low == (-1.0, pytest.approx(-0.894737, abs=1e-5))
    np.testing.assert_array_equal(dataset.read(0).actions["look"], rows["actions/look"])


@pytest.mark.parametrize(
    ("raw", "layout", "index"),
    [
        (frames(), "auto", lambda a: a),
        (frames().transpose(0, 3, 1, 2), "auto", lambda a: a.transpose(0, 2, 3, 1)),
        (np.concatenate([frames(seed=1), frames()], axis=3), "auto", lambda a: a[..., 3:]),
        (frames()[..., 0], "auto", lambda a: np.repeat(a[..., None], 3, 3)),
        (frames()[:, :3, :, :].astype(np.int32), "channels-last", lambda a: a),
        (frames()[:, :3, :3, :], "channels-first", lambda a: a.transpose(0, 2, 3, 1)),
    ],
)
def test_layouts(raw, layout, index):
    got = to_pixels(raw, layout, "x")
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, index(raw))


BAD = {
    "float": ({"image": frames() / 1.0}, "multiply by 255"),
    "bool": ({"image": frames() > 3}, "store as uint8"),
    "range": ({"image": frames().astype(np.int64) * 2}, r"0\.\.510|\.\.5\d\d; wanted 0\.\.255"),
    "negative": ({"image": frames().astype(np.int16) - 9}, r"-9\.\."),
    "four channels": ({"image": np.zeros((4, 16, 16, 5), np.uint8)}, "--layout"),
    "ambiguous": ({"image": np.zeros((4, 3, 16, 3), np.uint8)}, "--layout"),
    "no frames": ({"positions": np.zeros((9, 3))}, "--frames"),
    "nan": ({"image": frames(), "action": np.full((10, 2), np.nan)}, "NaN.*row 0"),
    "inf": ({"image": frames(), "action": np.r_[np.zeros(9), np.inf]}, "row 9"),
    "length": ({"image": frames(), "action": np.zeros((7, 2))}, r"7 rows for 10 frames; wanted 10 .* or 9"),
    "long": ({"image": frames(), "action": np.zeros((11, 2))}, "11 rows for 10 frames"),
    "text": ({"image": frames(), "action": np.array(["left"] * 10)}, "wanted numbers"),
    "object": ({"image": frames(), "action": np.array([None] * 10)}, "pickled object array"),
    "reward": ({"image": frames(), "action": np.zeros(10), "reward": np.full(10, np.nan)}, "reward.*finite"),
    "ids": ({"image": frames(), "action": np.arange(10) - 4}, "ids from 0"),
    "empty": ({"image": frames()[:0]}, "at least one frame"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_one_line(tmp_path, name):
    arrays, wanted = BAD[name]
    with pytest.raises(UserError, match=wanted) as caught:
        Dataset.open(save(tmp_path / "d", **arrays))
    assert "0.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_suggest_the_closest(tmp_path):
    folder = save(tmp_path / "d", image=frames(), action=np.zeros((10, 2)))
    with pytest.raises(UserError, match="did you mean 'image'"):
        Dataset.open(folder, ReadOptions(frames="imgae"))
    with pytest.raises(UserError, match="did you mean 'action'"):
        Dataset.open(folder, ReadOptions(action="actoin"))


def test_streams_must_agree(tmp_path):
    folder = save(tmp_path / "d", image=frames(), action=np.zeros((10, 2)))
    np.savez(folder / "x.npz", image=frames(seed=3), action=np.zeros((10, 3)))
    with pytest.raises(UserError, match=r"x\.npz are continuous \(3\)"):
        Dataset.open(folder)
    np.savez(folder / "x.npz", image=frames(seed=3))
    with pytest.raises(UserError, match=r"1 of 4 recordings have no actions \(first: x\.npz\)"):
        Dataset.open(folder, ReadOptions(strict=True))
    rest = Dataset.open(folder)
    assert rest.problems == ("x.npz has no actions, 3 other recordings have",)


def test_damaged_files_are_skipped_and_counted(tmp_path):
    folder = save(tmp_path / "d", image=frames())
    np.savez_compressed(folder / "other.npz", image=frames(seed=5))
    content = bytearray((folder / "0.npz").read_bytes())
    (folder / "0.npz").write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 255
    (folder / "1.npz").write_bytes(content)
    (folder / "2.npz").write_bytes(b"this is no zip")
    dataset = Dataset.open(folder)
    assert sorted({e.file for e in dataset.episodes}) == ["other.npz"]
    assert len(dataset.problems) == 3
    (folder / "other.npz").unlink()
    with pytest.raises(UserError, match="no readable recording"):
        Dataset.open(folder)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path):
    folder = save(tmp_path / "d", image=np.zeros((400, 64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="max-gigabytes"):
        Dataset.open(folder, ReadOptions(max_gigabytes=0.001))
