from dataclasses import replace

import numpy as np
import pytest

from reelworld.data.clip_index import ClipIndex, merge_actions, merged_specs
from reelworld.data.episodes import DataInfo, Episode
from reelworld.types import ActionSpec, UserError


class Numbers:
    """A source whose frames are their numbers: episode e, frame t is 1000 e + t."""

    def __init__(self, lengths, kind="discrete", splits=None):
        self.info = DataInfo(
            height=1, width=1, actions={"action": ActionSpec(kind=kind, n=1 if kind != "discrete" else 99)}
        )
        splits = splits or ["train"] * len(lengths)
        self.episodes = [
            Episode(source=str(i), n_frames=n, split=s, file="")
            for i, (n, s) in enumerate(zip(lengths, splits, strict=True))
        ]
        self._kind = np.int64 if kind == "discrete" else np.float32

    def indices(self, split):
        return [i for i, e in enumerate(self.episodes) if split in ("all", e.split)]

    def arrays(self, episode, start, stop, stride=1):
        kept = np.arange(start, stop, stride)
        steps = kept[:, None] + np.arange(stride)
        steps = (steps if self._kind == np.int64 else steps[..., None]).astype(self._kind)
        return {"frames": 1000 * episode + kept, "actions/action": steps if stride > 1 else steps[:, 0]}


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (4, 1), (4, 3), (7, 1)])
def test_every_window_that_fits_is_there_once(length, stride):
    lengths = [7, 3, 12, 10]
    windows = ClipIndex(Numbers(lengths), "train", length, stride)
    span = (length - 1) * stride + 1
    want = [(e, s) for e, n in enumerate(lengths) for s in range(n) if s + span <= n]
    assert [tuple(row) for row in windows.index] == want
    assert len(windows) == len(want)
    for i in range(len(windows)):
        e, s = want[i]
        assert windows[i]["frames"].tolist() == [1000 * e + s + t * stride for t in range(length)]
    assert windows.n_too_short == sum(n < span for n in lengths)


def test_merging_is_explicit():
    source = Numbers([9], kind="continuous")
    stacked = ClipIndex(source, "all", 3, 2)[1]["actions/action"]
    assert stacked[..., 0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert ClipIndex(source, "all", 3, 2, "last")[1]["actions/action"][:, 0].tolist() == [2, 4, 6]
    assert ClipIndex(source, "all", 3, 2, "sum")[1]["actions/action"][:, 0].tolist() == [3, 7, 11]
    assert ClipIndex(source, "all", 3, 1, "sum")[1]["actions/action"].shape == (3, 1)


def test_specs_describe_what_the_windows_give():
    keys = {"ArrowUp": (1.0, 0.25)}
    spec = ActionSpec(kind="continuous", n=2, low=(-1.0, 0.0), high=(1.0, 0.5), null=(0.0, 0.125), keys=keys)
    ids = ActionSpec(kind="discrete", n=3)
    specs = {"move": spec, "jump": ids}
    assert merged_specs(specs, 4, "stack") == {"move": replace(spec, repeat=4), "jump": replace(ids, repeat=4)}
    assert merged_specs(specs, 4, "last") == specs == merged_specs(specs, 1, "sum")
    summed = merged_specs(specs, 4, "sum")["move"]
    held = np.array([[spec.low] * 4, [spec.high] * 4, [spec.null] * 4, [keys["ArrowUp"]] * 4])
    given = [summed.low, summed.high, summed.null, summed.keys["ArrowUp"]]
    assert merge_actions(held, "sum").tolist() == [list(row) for row in given]
    assert summed.repeat == 1


def test_discrete_actions_are_not_summed():
    with pytest.raises(UserError, match="discrete"):
        ClipIndex(Numbers([9]), "all", 3, 2, "sum")
    with pytest.raises(UserError, match="discrete"):
        merge_actions(np.zeros((3, 2), np.int64), "sum")


def test_too_short_episodes_are_counted_or_an_error(caplog):
    windows = ClipIndex(Numbers([5, 20, 6]), "train", 8)
    assert windows.n_too_short == 2
    assert "2 of 3 train episodes are shorter" in caplog.text
    with pytest.raises(UserError, match=r"window of 25 frames \(the longest has 20\); use windows of at most 20"):
        ClipIndex(Numbers([5, 20, 6]), "train", 9, 3)


def test_an_empty_split_is_named():
    with pytest.raises(UserError, match="the val split has no episodes"):
        ClipIndex(Numbers([9]), "val", 2)
    with pytest.raises(UserError, match="both must be at least 1"):
        ClipIndex(Numbers([9]), "all", 0)
