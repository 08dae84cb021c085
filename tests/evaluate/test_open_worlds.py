"""Worlds without actions, and worlds that encode whole clips: their sections and metrics."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluate import toy, toy_clips
from reelworld.data.dataset import Dataset, write_info
from reelworld.evaluate.metrics import COPY
from reelworld.evaluate.protocol import EvalConfig, choose_clips, read_episode
from reelworld.evaluate.report.page import render_report
from reelworld.evaluate.report.values import headlines
from reelworld.evaluate.run import evaluate, evaluate_to_folder
from reelworld.evaluate.samples import Starts, roll
from reelworld.evaluate.sections.likelihood import COPY as COPY_CODES
from reelworld.types import UserError

CONFIG = EvalConfig(clips=6, single_steps=40, free_run_steps=100, samples=4, train_clips=20, stability_steps=0)
JUDGED = ("prediction", "video_metrics")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy.write_dataset(tmp_path_factory.mktemp("open") / "data")


@pytest.fixture(scope="module")
def measured(dataset):
    return {
        "clips": evaluate(toy_clips.clip_world(toy_clips.random_walk), dataset, CONFIG),
        "standing": evaluate(toy_clips.clip_world(toy_clips.standing), dataset, CONFIG),
        "frames": evaluate(toy_clips.OpenWorld(toy_clips.random_walk), dataset, CONFIG),
        "few": evaluate(toy_clips.clip_world(toy_clips.random_walk), dataset, replace(CONFIG, samples=1)),
    }


def figures(evaluation):
    return {f.name: f for s in evaluation.sections for f in s.metrics}


def test_each_kind_of_world_gets_its_sections(measured):
    names = {k: [s.name for s in e.sections] for k, e in measured.items()}
    assert names["clips"] == ["tokenizer", "code_likelihood", "samples", *JUDGED, "fvd", "open_loop", "likelihood"]
    assert names["frames"] == ["tokenizer", "samples", *JUDGED, "fvd", "open_loop", "likelihood", "one_step"]
    assert names["few"] == ["tokenizer", "code_likelihood", *JUDGED, "open_loop", "likelihood"]
    assert all(not e.videos.samples for k, e in measured.items() if k == "few")


def test_a_window_says_how_far_predictions_go(measured):
    """Eight frames together, two of them given: six steps. Frame by frame there is no such end."""
    assert {"gain_mean_h1", "gain_mean_h2", "gain_mean_h4"} <= set(figures(measured["clips"]))
    assert not [n for n in figures(measured["clips"]) if n.endswith(("_h8", "_h16"))]
    assert {"gain_mean_h16", "gain_h16"} <= set(figures(measured["frames"]))
    assert all(run.open_ended for run in measured["clips"].videos.rollouts)


def test_free_runs_are_bounded(measured, dataset):
    """Three whole clips of eight frames, however long a run was asked for."""
    lengths = {e.source: e.n_frames for e in dataset.episodes}
    steps = sum(min(24, lengths[s] - 2) for s in measured["clips"].clips)
    assert figures(measured["clips"])["open_loop_psnr"].n == steps
    assert figures(measured["frames"])["open_loop_psnr"].n == sum(lengths[s] - 2 for s in measured["clips"].clips)


def test_a_free_run_shorter_than_a_whole_clip_has_no_codes(dataset):
    world = toy_clips.clip_world(toy_clips.random_walk)
    found = figures(evaluate(world, dataset, replace(CONFIG, free_run_steps=5, samples=1, clips=2)))
    assert "open_loop_live_codes" not in found and found["open_loop_motion"].n == 10


def test_an_exact_tokenizer_of_whole_clips_is_exact(measured, dataset):
    """Frames after the last whole clip are left out, and the report says so."""
    found = figures(measured["clips"])
    assert found["tokenizer_psnr"].value == np.inf and found["tokenizer_tiles_right"].value == 1.0
    lengths = [e.n_frames for e in dataset.episodes if e.source in measured["clips"].clips]
    assert found["tokenizer_psnr"].n == sum(min(2, n // 8) * 8 for n in lengths)
    section = measured["clips"].sections[0]
    assert "8 frames together" in section.description and "left out" in section.description
    assert "8 frames" not in measured["frames"].sections[0].description


def test_codes_that_stay_are_counted_inside_whole_clips(measured, dataset):
    found = figures(measured["clips"])["codes_unchanged"]
    same = pairs = 0
    still = []
    for i in dataset.indices("test"):
        if dataset.episodes[i].source in measured["clips"].clips:
            boards = np.stack([toy.read(f) for f in dataset.read(i).frames]).reshape(-1, 16)
            kept = boards[: min(2, len(boards) // 8) * 8]
            still.append((kept[2:] == kept[:-2]).mean())
            for first in range(0, len(boards) - 7, 8)[:2]:
                window = boards[first : first + 8].reshape(4, 2, 16)
                same += (window[1:] == window[:-1]).all(1).sum()
                pairs += 3 * 16
    assert found.n == pairs and found.value == pytest.approx(same / pairs)
    assert found.baselines == {"8x8 patches whose pixels stay over 2 frames": pytest.approx(np.mean(still))}


def test_nats_are_those_of_held_out_clips_beside_training_clips(measured, dataset):
    found = figures(measured["clips"])["nll_per_code"]
    windows = sum(dataset.episodes[i].n_frames // 8 for i in dataset.indices("test"))
    assert (
        found.n == 64 * min(24, windows) and found.baselines[COPY_CODES] < found.baselines["every code equally likely"]
    )
    section = next(s for s in measured["clips"].sections if s.name == "code_likelihood")
    assert "fitted on 20 training clips" in section.description


def test_predictors_for_want_of_other_clips_are_fitted_on_these_and_that_is_said(dataset):
    world = toy_clips.clip_world(toy_clips.standing)
    evaluation = evaluate(world, dataset, replace(CONFIG, split="all", clips=30, samples=1))
    section = next(s for s in evaluation.sections if s.name == "code_likelihood")
    assert "these very clips" in section.description


def test_training_clips_may_come_from_elsewhere(dataset, tmp_path):
    """A fresh test recording has none of its own."""
    toy.write_dataset(tmp_path / "train", n=40)
    world = toy_clips.clip_world(toy_clips.standing)
    world.info.splits = {"train": ("toy-036", "toy-037")}  # 16 frames and 31: two whole clips and three
    config = replace(CONFIG, split="all", clips=30, samples=1, train_data=tmp_path / "train")
    evaluation = evaluate(world, dataset, config)
    section = next(s for s in evaluation.sections if s.name == "code_likelihood")
    assert "fitted on 5 training clips" in section.description


def test_a_standing_world_gains_nothing_and_never_differs(measured):
    found = figures(measured["standing"])
    assert found["gain_mean_h4"].value == 0 == found["gain_agent_h4"].value
    assert found["sample_diversity_h4"].value == np.inf
    assert found["psnr_h4"].value == pytest.approx(found["psnr_h4"].baselines[COPY])
    assert found["open_loop_motion"].value == np.inf > found["open_loop_motion"].baselines["recording"]


def test_the_tokenizers_share_in_the_error_is_that_of_whole_clips(measured):
    """The recorded future goes through the tokenizer with the context before it: as an exact tokenizer gives it."""
    assert figures(measured["clips"])["psnr_h4"].baselines["tokenizer alone"] == np.inf


def test_surprise_counts_the_frames_that_are_scored(measured):
    """Six of every eight: the two of the context are one latent frame, which is given."""
    found = figures(measured["clips"])["nll_per_frame"]
    assert found.n % 6 == 0 and found.value == pytest.approx(1.5)
    assert found.baselines["every code equally likely"] == pytest.approx(16 * np.log(64) / 2)


def test_the_same_seed_gives_the_same_figures(measured, dataset):
    again = evaluate(toy_clips.clip_world(toy_clips.random_walk), dataset, CONFIG)
    assert repr(again.sections) == repr(measured["clips"].sections)  # what is not known is NaN, which equals nothing
    other = evaluate(toy_clips.clip_world(toy_clips.random_walk), dataset, replace(CONFIG, seed=1))
    assert figures(other)["psnr_single_h4"].value != figures(again)["psnr_single_h4"].value


def test_recordings_must_hold_a_whole_clip(tmp_path):
    dataset = toy.write_dataset(tmp_path / "data", n_steps=6)
    with pytest.raises(UserError, match="no clip of split 'test' has 8 frames \\(8 frames coded together\\)"):
        evaluate(toy_clips.clip_world(toy_clips.standing), dataset, CONFIG)


def test_numbers_that_make_no_sense_are_refused():
    for wrong in ({"samples": 0}, {"samples": -1}, {"train_clips": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            EvalConfig(**wrong)


# ------------------------------------------------------------------ classes


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Recordings of two classes."""
    folder = tmp_path_factory.mktemp("classes") / "data"
    dataset = toy.write_dataset(folder)
    listed = [replace(e, class_id=i % 2) for i, e in enumerate(dataset.episodes)]
    write_info(folder, replace(dataset.info, classes=("cat", "dog")), listed)
    return Dataset.open(folder)


def test_classes_go_by_name(classes):
    """A world may have learned more classes, in another order, than these recordings have."""
    world = toy_clips.clip_world(toy_clips.standing)
    world.model.spec = replace(world.spec, classes=("dog", "ape", "cat"))
    for i in (0, 1):
        assert read_episode(world, classes, i).class_id == {0: 2, 1: 0}[classes.episodes[i].class_id]
    world.model.spec = replace(world.spec, classes=("dog", "ape"))
    with pytest.raises(UserError, match="has the class 'cat'; the world knows dog, ape"):
        choose_clips(world, classes, "test", 4, 0)


def test_classes_are_needed_where_the_world_wants_them(dataset):
    world = toy_clips.clip_world(toy_clips.standing)
    world.model.spec = replace(world.spec, classes=("dog",))
    with pytest.raises(UserError, match="wants the class of every clip"):
        choose_clips(world, dataset, "test", 4, 0)


def test_every_stream_is_told_its_class(classes, monkeypatch):
    told = []
    world = toy_clips.clip_world(toy_clips.standing)
    world.model.spec = replace(world.spec, classes=("cat", "dog"))
    reset = toy_clips.OpenSession.reset

    def listen(self, *args, **given):
        told.extend(given["class_id"].tolist())
        return reset(self, *args, **given)

    monkeypatch.setattr(toy_clips.OpenSession, "reset", listen)
    monkeypatch.setattr("reelworld.evaluate.samples.MAX_BATCH", 3)
    clips = choose_clips(world, classes, "test", 4, 0)
    starts = Starts.at(clips, [(c, 1) for c in range(4)], 2, 3).take(np.array([3, 0, 0, 2, 1]))
    roll(world, starts, 0)
    assert told == [clips[i].class_id for i in (3, 0, 0, 2, 1)] and len(set(told)) == 2


# ------------------------------------------------------------------ the report


@pytest.fixture(scope="module")
def written(tmp_path_factory, dataset):
    out = tmp_path_factory.mktemp("page") / "out"
    results = evaluate_to_folder(toy_clips.clip_world(toy_clips.random_walk), dataset, CONFIG, out, command="x")
    return out, json.loads((out / "results.json").read_text()), results


def test_the_page_shows_futures_first_and_long_runs_without_difference(written):
    page = (written[0] / "report.html").read_text()
    assert page.index('id="futures"') < page.index('id="look"') < page.index('id="code_likelihood"')
    assert "leaves the recorded future" in page and "black: none" not in page
    assert "not measured" in page and "--i3d" in page
    videos = {p.stem for p in (written[0] / "videos").glob("*.gif")}
    assert {"futures_0", "world_beside_recording_0"} <= videos
    assert page.count("<video") == len(videos) == len(list((written[0] / "videos").glob("*.mp4")))
    for title in ("NLL per code by latent frame", "PSNR of samples", "Agent in the right cell"):
        assert title in page
    assert "mean of 4 samples" in page and "single samples" in page


def test_the_headlines_are_those_of_open_futures(written):
    names = [f["name"] for f in headlines(written[1])]
    assert names[:5] == ["nll_per_code", "nll_over_best", "gain_mean_h4", "agent_h4", "gain_agent_h4"]
    acting = [s for s in written[1]["sections"] if s["name"] != "samples"]
    assert [f["name"] for f in headlines({**written[1], "sections": acting})] == [
        "tokenizer_tiles_right", "open_loop_frames_exact", "tokenizer_psnr", "gain_h1", "gain_h4", "open_loop_motion",
    ]  # fmt: skip
    smooth = [{**s, "metrics": [f for f in s["metrics"] if f["name"] != "tokenizer_tiles_right"]} for s in acting]
    assert "open_loop_frames_exact" not in [f["name"] for f in headlines({**written[1], "sections": smooth})]


def test_signs_and_units_are_written(written):
    results = json.loads(json.dumps(written[1]))
    by_name = {f["name"]: f for s in results["sections"] for f in s["metrics"]}
    by_name["nll_over_best"]["value"], by_name["gain_agent_h4"]["value"] = -0.25, 0.125
    by_name["fvd_missing"].update(name="fvd", n=64, value=1234.56, low=None, high=None)
    page = render_report(results)
    assert "&minus;0.25 nats" in page and "+12.5 points" in page and "1,234.6" in page


def test_the_grid_shows_recording_mean_and_samples(measured):
    futures = measured["clips"].videos.samples[0]
    grid = futures.frames()
    scale, strip, gap = 4, 20, 6
    side = 32 * scale
    assert grid.shape == (2 + 6, 2 * (side + strip), 3 * side + 2 * gap, 3)

    def panel(i):
        top, left = (i // 3) * (side + strip) + strip, (i % 3) * (side + gap)
        return grid[:, top : top + side : scale, left : left + side : scale]

    for i, frames in enumerate([futures.actual, np.rint(futures.samples.mean(0)), *futures.samples]):
        np.testing.assert_array_equal(panel(i)[:2], futures.context)
        np.testing.assert_array_equal(panel(i)[2:], frames)


@pytest.mark.parametrize("n_samples", [2, 3, 9])
def test_the_grid_holds_any_number_of_samples(measured, n_samples):
    futures = measured["clips"].videos.samples[0]
    some = np.resize(futures.samples, (n_samples, *futures.samples.shape[1:]))
    shown = replace(futures, samples=some).frames()
    assert shown.shape[2] == futures.frames().shape[2]


def test_futures_are_chosen_from_the_least_gain_to_the_most(measured):
    def gain(f):
        mean, still = f.samples.mean(0), f.context[-1:]
        return (((f.actual - still.astype(float)) ** 2) - ((f.actual - mean) ** 2)).mean()

    gains = [gain(f) for f in measured["clips"].videos.samples]
    assert len(gains) == 4 and gains == sorted(gains) and gains[0] < gains[-1]
