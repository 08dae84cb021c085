"""Worlds with known scores: perfect, copying, delayed, random."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from evaluate import toy
from reelworld.evaluate.metrics import COPY, FROZEN
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.run import evaluate
from reelworld.types import UserError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy.write_dataset(tmp_path_factory.mktemp("toy") / "data")


CONFIG = EvalConfig(
    clips=6, single_steps=300, free_run_steps=20, control_starts=24, inverse_steps=0, stability_steps=100
)


@pytest.fixture(scope="module")
def measured(dataset):
    """World name -> figure name -> figure, and the evaluations themselves."""
    worlds = {"perfect": toy.perfect, "copying": toy.copying, "late": toy.late, "noise": toy.noise}
    done = {k: evaluate(toy.ToyWorld(v), dataset, CONFIG) for k, v in worlds.items()}
    return {k: {f.name: f for s in e.sections for f in s.metrics} for k, e in done.items()}, done


def test_a_perfect_world_is_perfect(measured):
    figures = measured[0]["perfect"]
    shares = [n for n, f in figures.items() if f.unit == "share" and f.better == "higher"]
    assert {"one_step_frames_exact", "rare_changes_exact", "open_loop_frames_exact", "exact_h16"} <= set(shares)
    for name in shares:
        assert figures[name].value == 1.0, name
    for name in set(shares) - {"tokenizer_kinds_right"}:
        assert figures[name].low == pytest.approx(0.025 ** (1 / figures[name].n)), "binomial bound"
    for name in ("tokenizer_psnr", "open_loop_psnr", "psnr_h1", "psnr_h16"):
        assert figures[name].value == math.inf
    assert figures["delta_shuffled_h4"].value == math.inf
    assert figures["open_loop_motion"].value == figures["open_loop_motion"].baselines["recording"]


def test_a_copying_world_is_exactly_its_baseline(measured):
    figures = measured[0]["copying"]
    compared = 0
    for f in figures.values():
        if COPY in f.baselines:
            assert f.value == pytest.approx(f.baselines[COPY], rel=1e-12), f.name
            compared += 1
    assert compared > 12
    assert figures["one_step_changed_frames_exact"].value == 0.0
    assert figures["one_step_unchanged_frames_exact"].value == 1.0
    for h in (1, 2, 4, 8, 16):
        assert figures[f"gain_h{h}"].value == 0.0
    for h in (1, 4, 8):
        assert figures[f"delta_uniform_h{h}"].value == 0.0, "a world that ignores actions has no control"


def test_late_actions_are_seen(measured):
    late, perfect = measured[0]["late"], measured[0]["perfect"]
    assert late["one_step_changed_frames_exact"].value < 0.5
    assert late["open_loop_frames_exact"].value < 0.6
    assert late["one_step_changed_frames_exact"].high < perfect["one_step_changed_frames_exact"].low


def test_noise_fails_everywhere(measured):
    figures = measured[0]["noise"]
    assert figures["one_step_frames_exact"].value == 0.0
    assert figures["psnr_h1"].value < 10
    assert figures["gain_h1"].high < 0
    assert figures["open_loop_motion"].value < figures["open_loop_motion"].baselines["recording"]


def test_counts_by_hand(measured, dataset):
    figures = measured[0]["copying"]
    frames = [dataset.read(i).frames for i in dataset.indices("test")]
    still = [(f[2:] == f[1:-1]).all((1, 2, 3)) for f in frames]  # steps with a full context of two frames
    assert figures["one_step_frames_exact"].n == sum(map(len, still))
    assert figures["one_step_unchanged_frames_exact"].n == sum(int(s.sum()) for s in still)
    assert figures["one_step_frames_exact"].value == np.concatenate(still).mean()
    frozen = np.concatenate([(f[2:] == f[:1]).all((1, 2, 3)) for f in frames]).mean()
    assert figures["one_step_frames_exact"].baselines[FROZEN] == frozen


def test_free_runs_stop_at_the_end_of_the_episode(measured, dataset):
    evaluation = measured[1]["perfect"]
    lengths = {e.source: e.n_frames for e in dataset.episodes}
    section = next(s for s in evaluation.sections if s.name == "open_loop")
    steps = sum(min(20, lengths[source] - 2) for source in evaluation.clips)
    assert section.metrics[0].n == steps
    for run in evaluation.videos.rollouts:
        clip = dataset.read(next(i for i, e in enumerate(dataset.episodes) if e.source == run.source))
        np.testing.assert_array_equal(run.actual, clip.frames[: len(run.actual)])
        np.testing.assert_array_equal(run.predicted, run.actual)


def test_rare_changes_by_hand(measured, dataset):
    def boards(split):
        return [np.stack([toy.read(f) for f in dataset.read(i).frames]) for i in dataset.indices(split)]

    kinds, n_changing = Counter(), 0
    for board in boards("train"):
        for old, new in pairwise(board):
            kinds.update(set(zip(old[old != new].tolist(), new[old != new].tolist(), strict=True)))
            n_changing += (old != new).any()
    rare = {k for k, n in kinds.items() if n < 0.03 * n_changing}
    doors = {(toy.SHUT, toy.OPEN), (toy.OPEN, toy.SHUT)}
    assert rare and rare <= doors
    n = 0
    for board in boards("test"):
        for old, new in pairwise(board[1:]):  # the first step has no full context of two frames
            n += bool(rare & set(zip(old[old != new].tolist(), new[old != new].tolist(), strict=True)))
    assert measured[0]["perfect"]["rare_changes_exact"].n == n > 0


def test_a_tokenizer_that_loses_the_agent_is_found_out(dataset):
    world = toy.ToyWorld(toy.perfect, toy.BlurTokenizer())
    figures = {f.name: f for s in evaluate(world, dataset, CONFIG).sections for f in s.metrics}
    assert figures["tokenizer_tiles_right"].value == 15 / 16
    assert figures["tokenizer_kinds_right"].value < 1
    assert figures["tokenizer_worst_patch_psnr"].value < 12
    assert figures["codebook_usage"].value == 3 / 8


def test_training_clips_are_refused_unless_asked_for(dataset):
    world = toy.ToyWorld(toy.copying, train=[dataset.episodes[0].source])
    with pytest.raises(UserError, match="training list"):
        evaluate(world, dataset, EvalConfig(split="train"))
    allowed = EvalConfig(
        split="train", allow_train=True, clips=20, single_steps=10, free_run_steps=2, inverse_steps=0, stability_steps=0
    )
    assert evaluate(world, dataset, allowed).n_trained_on == 1


def test_the_same_seed_gives_the_same_figures(dataset, measured):
    again = evaluate(toy.ToyWorld(toy.noise), dataset, CONFIG)
    assert again.sections == measured[1]["noise"].sections


def test_sizes_and_streams_must_fit(dataset):
    world = toy.ToyWorld(toy.copying, height=64)
    with pytest.raises(UserError, match="32x32 pixels; the world makes 64x32"):
        evaluate(world, dataset, CONFIG)
    world = toy.ToyWorld(toy.copying, actions={"steering": toy.SPEC})
    with pytest.raises(UserError, match="steering"):
        evaluate(world, dataset, CONFIG)
