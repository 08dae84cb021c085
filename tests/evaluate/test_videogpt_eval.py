"""``reelworld eval`` on an untrained VideoGPT world, as a user calls it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tiny import tiny_world

from evaluate import toy
from evaluate.test_fvd import I3D, script
from reelworld.cli.main import main
from reelworld.data.dataset import Dataset, write_info
from reelworld.evaluate.sections import fvd
from reelworld.evaluate.sections.likelihood import WholeClips, encode_clips, world_nll
from reelworld.types import Codes, Conditions
from reelworld.worlds.world import World

FEW = ["--clips", "3", "--samples", "2", "--train-clips", "12", "--threads", "1"]


def save_world(folder, dataset, **changes):
    world = tiny_world("videogpt", dataset.info, seed=0, **changes)
    with torch.no_grad():  # the published head begins at zero, where everything is equally likely
        world.model.dynamics.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    splits = {s: tuple(dataset.episodes[i].source for i in dataset.indices(s)) for s in ("train", "val", "test")}
    world.info = replace(world.info, splits=splits)
    world.save(folder / "world")
    return world


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videogpt")
    dataset = toy.write_dataset(folder / "data")
    save_world(folder / "run", dataset)
    return folder, dataset


def test_eval_says_in_short_words_how_good_it_is(made, capsys):
    folder, _ = made
    assert main(["eval", str(folder / "run"), "--data", str(folder / "data"), *FEW]) == 0
    out = capsys.readouterr().out
    for words in (
        "NLL per code",
        "Mean of 2 samples: gain over the last frame, 4 steps",
        "Agent in the right cell, 4 steps",
    ):
        assert words in out
    for beside in (
        "copy of the latent frame before: ",
        "how often each code occurs: ",
        "copy of the last frame seen: ",
    ):
        assert f"\n    {beside}" in out
    assert "&" not in out
    results = json.loads((folder / "run/eval/results.json").read_text())
    assert results["config"]["samples"] == 2 and results["world"]["n_actions"] == 0
    assert [s["name"] for s in results["sections"]][:3] == ["tokenizer", "code_likelihood", "samples"]
    figures = {f["name"]: f for s in results["sections"] for f in s["metrics"]}
    assert figures["nll_per_code"]["baselines"]["every code equally likely"] == pytest.approx(math.log(32))
    assert figures["fvd_missing"]["value"] is None


def test_nats_are_the_cross_entropy_of_every_code_given_those_before(made):
    """Worked out code by code: what comes after a code does not change how likely it was."""
    folder, dataset = made
    world = World.load(folder / "run")
    whole = WholeClips.cut([dataset.read(i) for i in dataset.indices("test")], 8, 2)
    codes = encode_clips(world, whole.frames)
    nats = world_nll(world, whole)
    shown = torch.from_numpy(whole.frames[:, :1]) / 127.5 - 1
    flat = torch.from_numpy(codes).flatten(1)
    rng = np.random.default_rng(0)
    for i in range(0, flat.shape[1], 7):
        mixed = flat.clone()
        mixed[:, i:] = torch.from_numpy(rng.integers(0, 32, mixed[:, i:].shape))
        with torch.inference_mode():
            logits = world.model.dynamics.logits(Codes.of(mixed.view(codes.shape)), Conditions(context_video=shown))
        expected = -logits.flatten(1, 2)[:, i].log_softmax(-1).gather(1, flat[:, i : i + 1])[:, 0]
        np.testing.assert_allclose(nats.reshape(2, -1)[:, i], expected, atol=1e-4)
    assert nats.std() > 0.01


def test_worlds_of_classes_are_told_the_class(tmp_path, capsys):
    dataset = toy.write_dataset(tmp_path / "data")
    listed = [replace(e, class_id=i % 2) for i, e in enumerate(dataset.episodes)]
    write_info(tmp_path / "data", replace(dataset.info, classes=("cat", "dog")), listed)
    save_world(tmp_path / "run", Dataset.open(tmp_path / "data"), class_cond=True)
    assert main(["eval", str(tmp_path / "run"), "--data", str(tmp_path / "data"), *FEW]) == 0
    assert "NLL per code" in capsys.readouterr().out


def test_fvd_is_a_headline_when_the_network_is_named(made, tmp_path, capsys, monkeypatch):
    folder, _ = made
    monkeypatch.setattr(fvd, "MIN_CLIPS", 4)
    network = script(I3D(), tmp_path / "i3d_torchscript.pt")
    words = ["--out", str(tmp_path / "out"), "--i3d", str(network)]
    assert main(["eval", str(folder / "run"), "--data", str(folder / "data"), *FEW, *words]) == 0
    out = capsys.readouterr().out
    assert "Frechet video distance" in out and "training clips: " in out and "not measured" not in out
    results = json.loads((tmp_path / "out/results.json").read_text())
    figures = {f["name"]: f for s in results["sections"] for f in s["metrics"]}
    assert figures["fvd"]["value"] > 0 and figures["fvd"]["low"] is None and "fvd_missing" not in figures
    assert results["config"]["i3d"] == str(network)
    assert "Frechet video distance" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--i3d", "{}/none.pt"], "none.pt is no file"),
        (["--i3d", "{}/data/dataset.json"], "is no TorchScript file"),
        (["--samples", "0"], "samples is 0; it must be at least 1"),
        (["--train-clips", "0"], "train_clips is 0; it must be at least 1"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(made, tmp_path, capsys, words, said):
    folder, _ = made
    given = [w.format(folder) for w in words]
    out = tmp_path / "out"
    assert main(["eval", str(folder / "run"), "--data", str(folder / "data"), "--out", str(out), *given]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not out.exists()


def test_a_world_that_begins_from_nothing_predicts_from_one_latent_frame(tmp_path, capsys):
    dataset = toy.write_dataset(tmp_path / "data")
    world = save_world(tmp_path / "run", dataset, dynamics__cond_frames=0)
    spec = world.info.spec
    world.info = replace(world.info, spec=replace(spec, context=(0, 0, spec.context[2])))
    world.save(tmp_path / "run" / "world")
    assert main(["eval", str(tmp_path / "run"), "--data", str(tmp_path / "data"), *FEW]) == 0
    assert "copy of the last frame seen: " in capsys.readouterr().out
    results = json.loads((tmp_path / "run/eval/results.json").read_text())
    assert results["world"]["context_frames"] == world.spec.time_stride == 2
