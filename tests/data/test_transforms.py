"""Transforms, concatenation and subsampling of data sets, against slices made by hand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset
from reelworld.data.transforms import KeepArrays, subsample, with_actions
from reelworld.types import ActionSpec


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four episodes of 9 to 12 frames, whose frames, actions and rewards are their numbers."""
    for i in range(4):
        t = np.arange(9 + i)
        frames = np.broadcast_to(t[:, None, None, None], (len(t), 4, 4, 3)).astype(np.uint8) + 20 * i
        np.savez(tmp_path / f"{i}.npz", frames=frames, actions=t, rewards=t.astype(np.float32))
    return Dataset.open(tmp_path)


def test_a_transform_sees_every_window_and_the_steps_of_whole_episodes(dataset: Dataset) -> None:
    windows = []

    def negate(arrays: dict[str, np.ndarray], episode: int, window: slice) -> dict[str, np.ndarray]:
        windows.append((episode, window))
        return {**arrays, "rewards": -arrays["rewards"]}

    mapped = dataset.map(negate).map(KeepArrays({"frames", "rewards"}))
    assert mapped.info == dataset.info and mapped.indices("train") == dataset.indices("train")
    assert set(mapped.arrays(2, 1, 6, 2)) == {"frames", "rewards"}
    np.testing.assert_array_equal(mapped.arrays(2, 1, 6, 2)["rewards"], -dataset.arrays(2, 1, 6, 2)["rewards"])
    np.testing.assert_array_equal(mapped.steps(1)["rewards"], -dataset.steps(1)["rewards"])
    assert windows == [(2, slice(1, 6, 2)), (2, slice(1, 6, 2)), (1, slice(0, 10, 1))]


def test_other_actions_replace_the_recorded_ones(dataset: Dataset) -> None:
    rows = [100 + np.arange(e.n_frames) for e in dataset.episodes]
    labelled = with_actions(dataset, "latent", ActionSpec(kind="discrete", n=200), rows)
    assert labelled.recorded is dataset and list(labelled.info.actions) == ["latent"]
    for source in (labelled, pickle.loads(pickle.dumps(labelled))):
        arrays = source.arrays(3, 2, 7)
        assert set(arrays) == {"frames", "actions/latent", "rewards"}
        assert arrays["actions/latent"].tolist() == [102, 103, 104, 105, 106]
        assert source.steps(0)["actions/latent"].tolist() == rows[0].tolist()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_subsampled_episodes_are_slices_at_every_phase(dataset: Dataset, stride: int) -> None:
    half = subsample(dataset, 2)
    assert [e.n_frames for e in half.episodes[:4]] == [5, 4, 5, 5]
    for number, e in enumerate(half.episodes):
        original, phase = divmod(number, 2)
        frames = dataset.read(original).frames[phase::2]
        assert e.n_frames == len(frames) and e.split == dataset.episodes[original].split
        got = half.arrays(number, 1, e.n_frames, stride)
        np.testing.assert_array_equal(got["frames"], frames[1 :: 1 * stride])
        expected = dataset.arrays(original, phase + 2, phase + 2 * (e.n_frames - 1) + 1, 2 * stride)
        assert all(np.array_equal(got[k], expected[k]) for k in expected)
        whole = dataset.arrays(original, phase, phase + 2 * (e.n_frames - 1) + 1, 2)
        assert all(np.array_equal(rows, whole[k]) for k, rows in half.steps(number).items())


def test_concatenated_data_sets_are_drawn_by_their_weights(dataset: Dataset) -> None:
    both = Dataset.concat([dataset, subsample(dataset, 3)], dataset.info, [3, 1])
    assert both.fractions == (0.75, 0.25) and len(both.episodes) == 4 + 12
    np.testing.assert_array_equal(both.read(5).frames, dataset.read(0).frames[1::3])
    windows = ClipIndex(both, "all", 2)
    weights = windows.weights()
    assert weights is not None
    is_first = windows.index[:, 0] < 4
    assert weights[is_first].sum() == pytest.approx(0.75) and weights.sum() == pytest.approx(1)
    assert ClipIndex(dataset, "all", 2).weights() is None


def test_windows_at_other_places_leave_the_first_ones_alone(dataset: Dataset) -> None:
    windows = ClipIndex(dataset, "all", 3)
    n = len(windows)
    chosen = windows.with_index(windows.index[windows.index[:, 0] == 2])
    assert len(windows) == n and 0 < len(chosen) < n
    assert chosen.clip(1).source == dataset.episodes[2].source
