"""Mixtures of data sets: sampling fractions, contents, and compatibility."""

from __future__ import annotations

import json
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.data.loader import Loader
from reelworld.data.mixture import DatasetShare, describe_mixture, members_of, open_mixture, open_recordings
from reelworld.types import UserError

EIGHT = ReadOptions(size=8, fit="stretch")


def record(folder: Path, n: int = 6, n_frames: int = 20, side: int = 8, shade: int = 0, **rows: Any) -> Path:
    """Episodes whose frames say where they come from: red the data set, green the episode, blue the frame."""
    folder.mkdir(exist_ok=True)
    for i in range(n):
        frames = np.zeros((n_frames, side, side, 3), np.uint8)
        frames[..., 0], frames[..., 1] = shade, i
        frames[..., 2] = np.arange(n_frames)[:, None, None]
        np.savez(folder / f"{folder.name}{i}.npz", frames=frames, **{k: v[:n_frames] for k, v in rows.items()})
    return folder


def of(*members: Any, options: ReadOptions = EIGHT, **more: Any) -> Dataset:
    members = tuple(m if isinstance(m, DatasetShare) else DatasetShare(data=m) for m in members)
    return open_mixture(members, options, **{"with_actions": False, **more})


def colours(batch: Any) -> np.ndarray:
    """What the frames of a batch say, int (B, T, 3)."""
    return ((batch.video[:, :, 0, 0] + 1) * 127.5).round().int().numpy()


# ------------------------------------------------------------------ the draw


def test_members_are_drawn_by_their_weights(tmp_path: Path) -> None:
    """However many windows they have; within a member all windows alike."""
    small, large = record(tmp_path / "small", 3, 10, shade=1), record(tmp_path / "large", 9, 30, shade=2)
    mixture = of(DatasetShare(data=small, weight=3), DatasetShare(data=large, weight=1))
    windows = ClipIndex(mixture, "train", 5)
    loader = Loader(windows, 50, seed=0)
    order = np.concatenate([loader.order(b) for b in range(400)])
    is_small = mixture.part_of[windows.index[:, 0]] == 0
    drawn = np.bincount(order, minlength=len(windows)) / len(order)
    assert abs(drawn[is_small].sum() - 0.75) < 4 * (0.75 * 0.25 / len(order)) ** 0.5
    for of_member, share in ((is_small, 0.75), (~is_small, 0.25)):
        wanted = share / of_member.sum()
        assert np.abs(drawn[of_member] - wanted).max() < 5 * (wanted / len(order)) ** 0.5
    assert is_small.sum() < (~is_small).sum() / 3  # the weights, not the sizes


def test_without_weights_each_counts_by_its_frames(tmp_path: Path) -> None:
    mixture = of(
        record(tmp_path / "a", 4, 20), DatasetShare(data=record(tmp_path / "b", 8, 30, shade=1), frame_stride=3)
    )
    a, b = (
        20 * sum(e.split == "train" for e in part.episodes)
        for part in (Dataset.open(p.path, EIGHT) for p in mixture.parts)
    )
    np.testing.assert_allclose(mixture.fractions, [a / (a + b / 2), b / 2 / (a + b / 2)])  # 30 frames, 10 kept: half
    assert describe_mixture(mixture)[0].split()[0] == f"{a / (a + b / 2):.1%}"
    assert describe_mixture(mixture)[1].endswith("one of 3 kept")


@pytest.mark.parametrize("n_workers", [0, 2])
def test_any_start_and_any_worker_gives_the_same_batches(tmp_path: Path, n_workers: int) -> None:
    a, b = record(tmp_path / "a"), record(tmp_path / "b", n_frames=25, side=16, shade=9)
    windows = ClipIndex(of(DatasetShare(data=a, weight=1), DatasetShare(data=b, weight=2, frame_stride=2)), "train", 4)
    straight = [batch.video for batch in islice(Loader(windows, 6, 1).batches(), 9)]
    loader = Loader(pickle.loads(pickle.dumps(windows)), 6, 1, n_workers=n_workers)
    for start in (0, 4, 8):
        again = [batch.video for batch in islice(loader.batches(start), 9 - start)]
        assert all(torch.equal(x, y) for x, y in zip(straight[start:], again, strict=True))
    assert not torch.equal(straight[0], next(Loader(windows, 6, 2).batches()).video)


def test_windows_hold_frames_of_one_member_at_its_stride(tmp_path: Path) -> None:
    """Every window of every start, at every phase of the stride, exactly once."""
    a, b = record(tmp_path / "a", 3, 11), record(tmp_path / "b", 3, 14, shade=9)
    mixture = of(a, DatasetShare(data=b, frame_stride=3))
    for stride in (1, 2):
        windows = ClipIndex(mixture, "all", 2, stride)
        seen = set()
        for i in range(len(windows)):
            (shade, episode, first), (_, _, last) = windows[i]["frames"][:, 0, 0].tolist()
            assert last - first == stride * (3 if shade else 1)
            seen.add((shade, episode, first))
        wanted = {(0, e, t) for e in range(3) for t in range(11 - stride)}
        wanted |= {(9, e, t) for e in range(3) for t in range(14 - 3 * stride)}
        assert seen == wanted and len(windows) == len(wanted)


def test_rewards_add_up_over_a_stride_and_rows_that_some_lack_are_left_out(tmp_path: Path) -> None:
    rows: dict[str, Any] = {"actions": np.zeros((20, 2), np.float32), "rewards": np.arange(20, dtype=np.float32)}
    rows |= {"terminated": np.zeros(20, bool), "truncated": np.zeros(20, bool)}
    a = record(tmp_path / "a", **rows)
    b = record(tmp_path / "b", shade=1, **{k: v for k, v in rows.items() if k != "truncated"})
    mixture = of(DatasetShare(data=a, frame_stride=4), b)
    arrays = mixture.arrays(1, 0, 3)  # begins at frame 1: 1 to 5, 5 to 9, 9 to 13
    assert arrays["rewards"].tolist() == [1 + 2 + 3 + 4, 5 + 6 + 7 + 8, 9 + 10 + 11 + 12]
    np.testing.assert_array_equal(mixture.steps(1)["rewards"][:3], arrays["rewards"])
    assert set(arrays) == {"frames", "rewards", "terminated"} == set(mixture.arrays(len(mixture.episodes) - 1, 0, 3))
    assert mixture.info.fps == 0 and not mixture.info.actions


def test_members_are_brought_to_one_size_and_keep_their_splits(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a", 12), record(tmp_path / "b", 12, side=16, shade=1)
    mixture = of(a, b)
    assert (mixture.info.height, mixture.info.width) == (8, 8)
    for path in (a, b):
        alone = {e.source: e.split for e in Dataset.open(path, EIGHT).episodes}
        assert alone == {e.source: e.split for e in mixture.episodes if e.source in alone}
    with pytest.raises(UserError, match=r"several sizes.*8x8.*16x16; choose one with --size"):
        of(a, b, options=ReadOptions())


def test_a_member_may_be_read_in_its_own_way(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a"), tmp_path / "b"
    b.mkdir()
    for i in range(3):
        np.savez(b / f"{i}.npz", image=np.zeros((9, 8, 8, 3), np.uint8), wrist=np.full((9, 8, 8, 3), 7 + i, np.uint8))
    mixture = of(a, DatasetShare(data=b, read={"frames": "wrist", "fps": 6.0}, frame_stride=2))
    assert mixture.arrays(len(mixture.episodes) - 1, 0, 1)["frames"].min() == 9
    assert mixture.info.provenance["mixture"][1]["read"] == {"frames": "wrist", "fps": 6.0}
    with pytest.raises(UserError, match=r"unknown field of read of .*b 'framse'; did you mean 'frames'"):
        of(a, DatasetShare(data=b, read={"framse": "wrist"}))


# ------------------------------------------------------------------ actions


def test_equal_actions_are_learned_together_and_others_refused(tmp_path: Path) -> None:
    def moves(width: int, most: float) -> np.ndarray:
        return np.linspace(-most, most, 20 * width, dtype=np.float32).reshape(20, width)

    a, b = record(tmp_path / "a", actions=moves(2, 1.0)), record(tmp_path / "b", shade=1, actions=moves(2, 3.0))
    mixture = of(a, b, with_actions=True)
    spec = mixture.info.actions["action"]
    assert spec.low[0] == -3.0 and spec.high[1] == 3.0 and mixture.arrays(0, 0, 4)["actions/action"].shape == (4, 2)
    assert "actions/action" not in of(a, b).arrays(0, 0, 4)
    for folder, told in (
        (record(tmp_path / "wide", shade=2, actions=moves(3, 1.0)), r"continuous 'action' \(3\)"),
        (record(tmp_path / "keys", shade=3, actions=np.arange(20) % 4), r"discrete 'action' \(4\)"),
        (record(tmp_path / "film", shade=4), "none"),
    ):
        with pytest.raises(UserError, match=rf"different actions .*{told}.*--actions none") as caught:
            of(a, folder, with_actions=True)
        assert "\n" not in str(caught.value) and folder.name in str(caught.value)
        assert of(a, folder).info.actions == {}
    with pytest.raises(UserError, match=r"b has a frame_stride of its own, 2.*--frame-stride for all"):
        of(a, DatasetShare(data=b, frame_stride=2), with_actions=True)


# ------------------------------------------------------------------ what is refused


def test_empty_members_are_named(tmp_path: Path) -> None:
    a, short, nothing = record(tmp_path / "a"), record(tmp_path / "short", n_frames=4, shade=1), tmp_path / "nothing"
    nothing.mkdir()
    with pytest.raises(UserError, match="nothing holds no recording"):
        of(a, nothing)
    windows = ClipIndex(of(a, short), "train", 5)
    with pytest.raises(UserError, match=r"every train episode of .*short is shorter than the 5 frames.*has 4"):
        Loader(windows, 2, 0)
    held_out = tmp_path / "held"
    held_out.mkdir()
    for split in ("val", "test"):
        record(held_out / split, 2, shade=len(split))
    with pytest.raises(UserError, match=r"held has no episode to train on; leave this member out"):
        of(a, held_out)


def test_what_a_person_writes(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a"), record(tmp_path / "b=2", shade=1)
    assert members_of([f"{a}=0.7", str(b)]) == [DatasetShare(data=a, weight=0.7), DatasetShare(data=b)]
    assert members_of([f"{b}=0.3"]) == [DatasetShare(data=b, weight=0.3)]
    assert members_of(["C:\\robots=2"]) == [DatasetShare(data=Path("C:\\robots"), weight=2.0)]
    file = tmp_path / "mixture.json"
    entries = [{"data": "a", "weight": 0.7, "frame_stride": 2}, {"data": str(b), "weight": 1, "read": {"fps": 3}}]
    file.write_text(json.dumps({"members": entries}))
    assert members_of([str(file)]) == [
        DatasetShare(data=a, weight=0.7, frame_stride=2),
        DatasetShare(data=b, weight=1.0, read={"fps": 3}),
    ]
    assert len(open_recordings(members_of([str(file)]), EIGHT).parts) == 2
    assert not open_recordings(members_of([f"{a}=3"]), EIGHT).parts


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a=x"], "'a=x' is no path, and 'x' no weight"),
        (["a=0"], "the weight of a is 0; it must be above 0"),
        (["a=nan"], "the weight of a is nan"),
        (["a=1", "b"], "b has no weight and other members have one"),
        (["a", "b", "a"], "a is given twice"),
        (["mixture.json", "a"], "mixture.json is a mixture: give it alone"),
        (["mixture.json"], "unknown field of mixture.json.members.0. 'wieght'; did you mean 'weight'"),
        (["size.json"], "size of a cannot be its own: give it for all, --size"),
        (["stride.json"], "the frame_stride of a is 0"),
        (["none.json"], "has format version 1 and 0 members"),
        (["new.json"], "has format version 9"),
        (["broken.json"], "broken.json is not valid JSON"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: Any, words: list[str], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    record(Path("a"))
    record(Path("b"), shade=1)
    for name, members in (
        ("mixture", [{"data": "a", "wieght": 1}]),
        ("size", [{"data": "a", "read": {"size": 8}}]),
        ("stride", [{"data": "a", "frame_stride": 0}]),
        ("none", []),
    ):
        Path(f"{name}.json").write_text(json.dumps({"members": members}))
    Path("new.json").write_text(json.dumps({"members": [{"data": "a"}], "format_version": 9}))
    Path("broken.json").write_text("{")
    with pytest.raises(UserError, match=said) as caught:
        open_mixture(members_of(words), EIGHT)
    assert "\n" not in str(caught.value)
