"""Action recovery: worlds that follow their actions, others, and the cache of the model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evaluate import toy
from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.samples import Starts
from reelworld.evaluate.sections.controllability import (
    DECODED,
    FREQUENT,
    MEAN,
    RECORDED,
    RECOVERY,
    recovery_metrics,
)
from reelworld.evaluate.sections.inverse_dynamics import InverseDynamics, trained
from reelworld.types import ActionSpec

STEPS = 150


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("following")
    dataset = toy.write_dataset(folder / "data", n=60)
    clips = [dataset.read(i) for i in dataset.indices("test")]
    return dataset, clips, toy.control_starts(clips, 40), folder / "cache"


def following(made, predict, steps=STEPS):
    dataset, clips, _, cache = made
    (metric,) = recovered(dataset, clips, toy.ToyWorld(predict), steps, cache).values()
    return metric


def recovered(dataset, clips, world, steps, cache):
    config = EvalConfig(control_starts=40, inverse_steps=steps)
    return toy.measured(RECOVERY, toy.evaluation_of(world, clips, config, train=dataset, cache=cache))[0]


def test_a_world_that_does_as_told_is_read_like_the_recordings(made):
    figure = following(made, toy.perfect)
    assert set(figure.baselines) == {RECORDED, DECODED, FREQUENT}
    assert figure.value == figure.baselines[RECORDED] == figure.baselines[DECODED] > 0.8
    assert figure.value > figure.baselines[FREQUENT] + 0.3


@pytest.mark.parametrize("predict", [toy.copying, toy.late, toy.noise])
def test_worlds_that_do_not_do_as_told_are_found_out(made, predict):
    figure = following(made, predict)
    assert figure.high < figure.baselines[RECORDED] - 0.2
    assert figure.value < figure.baselines[FREQUENT] + 0.25


def test_steps_that_change_nothing_do_not_count(made):
    _, _, starts, _ = made
    before = np.concatenate([starts.context[:, -1:], starts.future[:, :-1]], 1)
    changes = (before != starts.future).any((2, 3, 4)) & starts.valid
    assert following(made, toy.perfect).n == changes.sum() < changes.size
    actions = starts.actions["action"][changes]
    assert following(made, toy.perfect).baselines[FREQUENT] == np.bincount(actions).max() / len(actions)


def test_it_is_trained_once(made):
    cache = made[3]
    following(made, toy.perfect)
    weights = {p: p.stat().st_mtime_ns for p in cache.rglob("*.safetensors")}
    assert weights
    following(made, toy.late)
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.safetensors")} == weights
    following(made, toy.late, steps=2)
    assert len(list(cache.iterdir())) == 2, "other settings are kept apart"


def test_the_same_seed_learns_the_same(made, tmp_path):
    windows = ClipIndex(made[0], "train", 3)
    specs = {"action": toy.SPEC}
    models = [trained(windows, specs, 3, 5, tmp_path / str(i), torch.device("cpu")) for i in range(2)]
    for a, b in zip(*(m.state_dict().values() for m in models), strict=True):
        assert torch.equal(a, b)
    config = next((tmp_path / "0").iterdir()) / "config.json"
    assert "inverse dynamics" in config.read_text()


def test_too_little_to_learn_from_is_said(made, tmp_path):
    dataset = made[0]
    clips = [dataset.read(i) for i in range(55)]
    (figure,) = recovered(dataset, clips, toy.ToyWorld(toy.perfect), 5, tmp_path).values()
    assert figure.n == 0 and "wanted" in figure.description and "--train-data" in figure.description
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ numbers instead of ids

STREAM = {"push": ActionSpec(kind="continuous", n=2)}


def bar_clips(n, n_steps, seed):
    """A bar on a torus is pushed to the right and down by as many pixels as the action says."""
    rng = np.random.default_rng(seed)
    frames, actions = [], rng.integers(-3, 4, (n, n_steps, 2))
    for row in actions:
        picture = np.zeros((32, 32, 3), np.uint8)
        picture[8:14, 8:20] = (250, 120, 10)
        run = [picture]
        for right, down in row:
            run.append(np.roll(run[-1], (down, right), (0, 1)))
        frames.append(np.stack(run))
    return np.stack(frames), actions.astype(np.float32)


@pytest.mark.slow
def test_numbers_are_read_too(tmp_path):
    frames, actions = bar_clips(24, 20, 0)
    for i, (f, a) in enumerate(zip(frames, actions, strict=True)):
        np.savez(tmp_path / f"{i:02d}.npz", frames=f, actions=np.concatenate([a, np.zeros((1, 2), np.float32)]))
    dataset = Dataset.open(tmp_path)
    (stream,) = dataset.info.actions
    model = trained(ClipIndex(dataset, "all", 3), dataset.info.actions, 250, 0, tmp_path / "cache", torch.device("cpu"))
    fresh, pushed = bar_clips(8, 9, 1)
    starts = Starts(
        clip=np.arange(8), context=fresh[:, :2], context_actions={}, actions={stream: pushed[:, 1:]},
        future=fresh[:, 2:], valid=np.ones((8, 8), bool), first=fresh[:, 0],
    )  # fmt: skip
    world = toy.ToyWorld(toy.perfect, actions=dataset.info.actions)
    right, frozen = (
        recovery_metrics(world, model, starts, made, 0)[0]
        for made in (starts.future, np.repeat(starts.context[:, -1:], 8, 1))
    )
    assert right.name == "action_recovery_r2" and right.baselines[MEAN] == 0
    assert right.value == right.baselines[RECORDED] > 0.8
    assert frozen.value < 0.1 and frozen.baselines[RECORDED] == right.value


def test_every_stream_has_a_figure_of_its_own():
    rng = np.random.default_rng(0)
    specs = {"key": ActionSpec(kind="discrete", n=4, repeat=2), "mouse": ActionSpec(kind="continuous", n=3)}
    specs |= {"pad": ActionSpec(kind="discrete", n=2)}
    frames = rng.integers(0, 256, (3, 6, 32, 32, 3), dtype=np.uint8)
    actions = {"key": rng.integers(0, 4, (3, 4, 2)), "pad": rng.integers(0, 2, (3, 4))}
    actions["mouse"] = rng.normal(size=(3, 4, 3)).astype(np.float32)
    starts = Starts(
        clip=np.arange(3), context=frames[:, :2], context_actions={}, actions=actions, future=frames[:, 2:],
        valid=np.ones((3, 4), bool), first=frames[:, 0],
    )  # fmt: skip
    world = toy.ToyWorld(toy.perfect, actions=specs)
    model = InverseDynamics(specs)
    found = {f.name: f for f in recovery_metrics(world, model, starts, starts.future, 0)}
    assert list(found) == ["action_recovery", "action_recovery_r2_mouse", "action_recovery_pad"]
    assert (found["action_recovery"].n, found["action_recovery_pad"].n) == (24, 12)
    said = model.read(frames)
    assert found["action_recovery"].value == (said["key"] == actions["key"]).mean()
    assert found["action_recovery_pad"].value == (said["pad"][..., 0] == actions["pad"]).mean()
    error = ((said["mouse"] - actions["mouse"]) ** 2).sum((0, 1))
    variance = actions["mouse"].var((0, 1)) * 12
    assert found["action_recovery_r2_mouse"].value == pytest.approx((1 - error / variance).mean(), rel=1e-5)


def test_frames_and_actions_are_matched():
    """The action read from windows t..t+2 is the one between the last two frames."""
    torch.manual_seed(0)
    model = InverseDynamics({"a": ActionSpec(kind="discrete", n=4, repeat=2), "b": ActionSpec(kind="continuous", n=3)})
    frames = np.random.default_rng(0).integers(0, 256, (2, 6, 16, 24, 3), dtype=np.uint8)
    said = model.read(frames)
    assert said["a"].shape == (2, 4, 2) and said["b"].shape == (2, 4, 3)
    alone = model.read(frames[1:, 2:5])
    assert np.array_equal(alone["a"][0, 0], said["a"][1, 2]) and np.allclose(
        alone["b"][0, 0], said["b"][1, 2], atol=1e-5
    )
    assert not math.isnan(said["b"].sum())
