"""Whole clips are cut without overlap, and training clips are not those that are measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluate import toy, toy_clips
from reelworld.evaluate.protocol import training_clips
from reelworld.evaluate.sections.likelihood import WholeClips, encode_clips


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy.write_dataset(tmp_path_factory.mktemp("windows") / "data")


def test_the_first_of_every_recording_comes_before_any_second_one():
    clips = [replace(toy.episode(i, n), class_id=i) for i, n in enumerate((31, 6, 16, 8))]  # 32, 7, 17, 9 frames
    whole = WholeClips.cut(clips, 8, most=5)
    assert whole.clip.tolist() == [0, 2, 3, 0, 2] == whole.class_id.tolist()
    for frames, (c, i) in zip(whole.frames, [(0, 0), (2, 0), (3, 0), (0, 1), (2, 1)], strict=True):
        np.testing.assert_array_equal(frames, clips[c].frames[8 * i : 8 * i + 8])
    assert len(WholeClips.cut(clips, 8, most=99).clip) == 4 + 2 + 1
    assert WholeClips.cut([replace(c, class_id=None) for c in clips], 8, 5).class_id is None


@pytest.mark.parametrize("stride", [1, 2])
def test_training_clips_are_recorded_ones_that_are_not_measured(dataset, stride):
    world = toy_clips.clip_world(toy_clips.standing)
    world.info.provenance = {"config": {"frame_stride": stride}}
    world.model.spec = replace(world.spec, frame_stride=stride)
    indices = dataset.indices("train")
    skipped = dataset.episodes[indices[0]].source
    read, n = training_clips(world, dataset, 6, 999, {skipped}, seed=0)
    clips = list(read)
    expected = []
    for i in indices[1:]:
        frames = dataset.read(i).frames[::stride]
        expected += [frames[j : j + 6] for j in range(0, len(frames) - 5, 6)]
    assert n == len(clips) == len(expected)
    as_bytes = [c.tobytes() for c in clips]
    assert sorted(as_bytes) == sorted(c.tobytes() for c in expected)
    some, n = training_clips(world, dataset, 6, 4, {skipped}, seed=0)
    chosen = [c.tobytes() for c in some]
    assert n == 4 == len(chosen) and set(chosen) <= set(as_bytes)
    assert chosen != [c.tobytes() for c in training_clips(world, dataset, 6, 4, {skipped}, seed=1)[0]]


def test_the_worlds_own_training_list_comes_first(dataset):
    world = toy_clips.clip_world(toy_clips.standing)
    i = dataset.indices("val")[0]
    world.info.splits = {"train": (dataset.episodes[i].source,)}
    (clip, *_), n = training_clips(world, dataset, 6, 999, set(), seed=0)
    assert n == dataset.episodes[i].n_frames // 6
    np.testing.assert_array_equal(clip, dataset.read(i).frames[:6])


def test_nothing_is_left_when_all_is_measured(dataset):
    everything = {e.source for e in dataset.episodes}
    world = toy_clips.clip_world(toy_clips.standing)
    assert training_clips(world, dataset, 6, 9, everything, seed=0)[1] == 0


@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
def test_clips_are_coded_in_batches_as_one_by_one(n):
    world = toy_clips.clip_world(toy_clips.standing)
    frames = np.stack([toy.episode(i, 7).frames for i in range(n)])
    codes = encode_clips(world, iter(frames))
    np.testing.assert_array_equal(codes, np.concatenate([encode_clips(world, f[None]) for f in frames]))
    pairs = np.stack([[toy.read(f) for f in clip] for clip in frames]).reshape(n, 4, 2, 16)
    np.testing.assert_array_equal(codes, 8 * pairs[:, :, 0] + pairs[:, :, 1])
