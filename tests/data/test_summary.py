import io

import numpy as np
import pytest
from PIL import Image

from reelworld.data.dataset import DataInfo, Dataset, write_episode, write_info
from reelworld.data.pictures import action_histogram, episode_sheet
from reelworld.data.summary import summarize
from reelworld.types import ActionSpec, Clip


@pytest.fixture
def dataset(tmp_path):
    """Three episodes of 5, 6 and 7 frames; a quarter of the pixels changes at every second step."""
    specs = {
        "key": ActionSpec(kind="discrete", n=3, names=("up", "down", "stay")),
        "aim": ActionSpec(kind="continuous", n=2, low=(-1.0, 0.0), high=(1.0, 0.0)),
    }
    for i, n in enumerate((5, 6, 7)):
        frames = np.zeros((n, 8, 8, 3), np.uint8)
        for t in range(n):
            frames[t, :4, :4, 1] = 10 * i + (t + 1) // 2
        aim = np.stack([np.linspace(-1, 1, n), np.zeros(n)], axis=1).astype(np.float32)
        clip = Clip(
            frames=frames,
            actions={"key": np.r_[np.zeros(n - 2), 1, 2].astype(np.int64), "aim": aim},
            rewards=np.r_[np.ones(n - 1), 100].astype(np.float32),
            terminated=np.arange(n) == (n - 2 if i else n - 1),
        )
        write_episode(tmp_path / f"{i}.npz", clip)
    write_info(tmp_path, DataInfo(fps=2.0, height=8, width=8, actions=specs), [])
    return Dataset.open(tmp_path)


def test_figures_leave_the_padding_row_out(dataset):
    s = summarize(dataset)
    assert (s.n_episodes, s.n_frames, s.episode_frames, s.seconds) == (3, 18, (5, 6, 7), 9.0)
    assert sorted(s.splits.values()) == [(1, 5), (1, 6), (1, 7)]
    assert s.n_compared == 15
    assert s.fraction_changed == pytest.approx((2 + 3 + 3) / 15)
    assert s.fraction_pixels == pytest.approx(0.25)
    assert s.actions["key"].counts == ((12, 3, 0),)
    assert s.actions["key"].n_steps == 15
    assert [sum(row) for row in s.actions["aim"].counts] == [15, 15]
    assert s.mean_return == pytest.approx(5.0)
    assert s.n_ended == 2


def test_large_data_sets_are_sampled_for_changes_only(dataset, monkeypatch):
    monkeypatch.setattr("reelworld.data.summary.MAX_COMPARED_FRAMES", 9)
    s = summarize(dataset)
    assert s.n_compared < 15
    assert s.actions["key"].counts == ((12, 3, 0),)


def test_long_episodes_are_compared_across_the_stretches_they_are_read_in(dataset, monkeypatch):
    whole = summarize(dataset)
    monkeypatch.setattr("reelworld.data.summary.CHUNK_BYTES", 8 * 8 * 3 * 2)
    assert summarize(dataset) == whole


def test_pictures_show_frames_and_actions(dataset):
    sheet = np.asarray(Image.open(io.BytesIO(episode_sheet(dataset))).convert("RGB"))
    black = (sheet == 0).all(axis=2).mean()
    assert 0.3 < black < 0.9  # most of a frame is black, most of the sheet is frames
    bars = np.asarray(Image.open(io.BytesIO(action_histogram(summarize(dataset).actions))).convert("RGB"))
    assert (bars == (0x3B, 0x6E, 0xA8)).all(axis=2).any()
