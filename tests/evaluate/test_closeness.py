"""Video metrics: both protocols on clips small enough for loops, and conditions for published numbers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.nn.test_perceptual import plain, weights
from tests.tiny import tiny_config, tiny_world

from evaluate import toy, toy_clips
from evaluate.test_fvd import I3D, by_eigenvalues, script
from reelworld.cli.main import main
from reelworld.evaluate.metrics import COPY
from reelworld.evaluate.protocol import EvalConfig, future_frames
from reelworld.evaluate.report.values import protocol_text
from reelworld.evaluate.results import MetricBuilder
from reelworld.evaluate.samples import Starts
from reelworld.evaluate.sections import fvd, video_metrics
from reelworld.evaluate.sections.video_metrics import (
    SECTION,
    TEXTS,
    ClipPairs,
    default_metrics,
    frame_scores,
    published_metrics,
    published_numbers,
)
from reelworld.nn.perceptual import load_lpips
from reelworld.systems import find_system
from reelworld.types import ActionSpec, ModelSpec, UserError
from reelworld.worlds.world import World

N, K, T, SIDE = 3, 3, 2, 16
SPEC = ModelSpec(height=64, width=64, context=(1, 1, None))


@pytest.fixture(scope="module")
def clips():
    """Noise of different strength around the truth; two starts are in one recording."""
    rng = np.random.default_rng(0)
    true = rng.integers(60, 196, (N, T, SIDE, SIDE, 3))
    strength = rng.integers(2, 50, (N, K, T, 1, 1, 1))
    noise = rng.uniform(-1, 1, (N, K, T, SIDE, SIDE, 3)) * strength
    made, copied = (true[:, None] + noise).astype(np.uint8), np.repeat(true[:, None, :1], T, 2).astype(np.uint8)
    return ClipPairs(clip=np.array([0, 0, 1]), actual=true.astype(np.uint8), predicted=made, copied=copied)


@pytest.fixture(scope="module")
def lpips(tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "lpips.safetensors"
    save_file(weights(), path)
    return path


def ssim(a, b):
    """Wang et al. 2004 (equation 13): an 11x11 Gaussian window of sigma 1.5, on all places where it fits."""
    g = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    window = (np.outer(g, g) / g.sum() ** 2)[..., None]
    p, q = (np.lib.stride_tricks.sliding_window_view(x.astype(float), (11, 11), (0, 1)) for x in (a, b))
    mean = lambda x: (x * window[..., 0]).sum((-2, -1))  # noqa: E731
    mp, mq = mean(p), mean(q)
    vp, vq, cov = mean(p * p) - mp**2, mean(q * q) - mq**2, mean(p * q) - mp * mq
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return ((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))).mean()


def mse(a, b):
    return ((a.astype(float) - b) ** 2).mean()


def looks(a, b):
    one, other = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in (a, b))
    return float(plain(weights(), one, other))


def by_loops(measure, clips, made):
    return np.array(
        [[[measure(x[t], c[t]) for t in range(T)] for x in xs] for c, xs in zip(clips.actual, made, strict=True)]
    )


def figures(pairs, protocol, network=None, tables=()):
    """Metrics of clips by name."""
    predicted, copied = (frame_scores(pairs.actual, x, network) for x in (pairs.predicted, pairs.copied))
    make = MetricBuilder(TEXTS, pairs.clip)
    if protocol == "default":
        return {m.name: m for m in default_metrics(make, predicted, copied)}
    sizes = (pairs.actual.shape[1], len(np.unique(pairs.clip)), pairs.predicted.shape[1])
    return {m.name: m for m in published_metrics(make, predicted, copied, tables, SPEC, sizes)}


def test_the_honest_protocol_by_loops(clips, lpips):
    found = figures(clips, "default", load_lpips(lpips))
    assert set(found) == {"clip_psnr", "clip_ssim", "clip_lpips"}
    for name, measure in (("ssim", ssim), ("lpips", looks)):
        figure = found[f"clip_{name}"]
        assert figure.value == pytest.approx(by_loops(measure, clips, clips.predicted).mean(), rel=1e-4)
        assert figure.baselines == {COPY: pytest.approx(by_loops(measure, clips, clips.copied).mean(), rel=1e-4)}
    psnr = found["clip_psnr"]
    assert psnr.value == pytest.approx(10 * math.log10(255**2 / by_loops(mse, clips, clips.predicted).mean()))
    assert psnr.baselines[COPY] == pytest.approx(10 * math.log10(255**2 / by_loops(mse, clips, clips.copied).mean()))
    assert psnr.n == N * K * T and psnr.n_clips == 2 and psnr.low <= psnr.value <= psnr.high
    assert found["clip_lpips"].better == "lower"


def decibels(a, b):
    return 10 * math.log10(1 / (mse(a, b) / 255**2 + 1e-8))


@pytest.mark.parametrize(
    ("name", "measure", "best"), [("psnr", decibels, max), ("ssim", ssim, max), ("lpips", looks, min)]
)
def test_the_published_protocol_by_loops(clips, lpips, name, measure, best):
    found = figures(clips, "published", load_lpips(lpips))
    each = by_loops(measure, clips, clips.predicted).mean(2)
    figure = found[f"best_{name}"]
    assert figure.value == pytest.approx(np.mean([best(row) for row in each]), rel=1e-4)
    assert figure.baselines == {COPY: pytest.approx(by_loops(measure, clips, clips.copied).mean(), rel=1e-4)}
    assert figure.n == N and str(K) in figure.label
    is_better = figure.value < each.mean() if best is min else figure.value > each.mean()
    assert is_better, "the best of several is better than their mean"


def test_of_one_sample_the_best_is_the_mean(clips):
    one = replace(clips, predicted=clips.predicted[:, :1])
    both = [figures(one, protocol) for protocol in ("default", "published")]
    assert both[0]["clip_ssim"].value == pytest.approx(both[1]["best_ssim"].value)


def starts_of(world, n=6, n_steps=20):
    recorded = [toy.episode(i, n_steps=n_steps) for i in range(n)]
    starts = Starts.at(recorded, [(c, 1) for c in range(n)], 2, 16)
    rng = np.random.default_rng(0)
    noise = rng.integers(-9, 10, (n, K, *starts.future.shape[1:]))
    return starts, np.clip(starts.future[:, None] + noise, 0, 255).astype(np.uint8)


def test_context_frames_raise_psnr_by_a_known_amount():
    """The toy's tokenizer is exact: two frames of 80 dB beside the fourteen others."""
    world = toy.ToyWorld(toy.late)
    assert future_frames(world.spec) == 14
    starts, samples = starts_of(world)
    future = starts.future[:, :14]
    alone = figures(ClipPairs(starts.clip, future, samples[:, :, :14], future[:, None]), "published")
    clips = ClipPairs.of(world, starts, samples, "published")
    assert clips.actual.shape[1] == clips.predicted.shape[2] == 16
    np.testing.assert_array_equal(clips.predicted[:, 2, :2], starts.context)
    with_context = figures(clips, "published")["best_psnr"]
    assert with_context.value == pytest.approx((14 * alone["best_psnr"].value + 2 * 80) / 16)
    copied = np.concatenate([starts.context, np.repeat(starts.context[:, -1:], 14, 1)], 1)
    np.testing.assert_array_equal(clips.copied[:, 0], copied)


def test_context_frames_count_as_the_tokenizer_rebuilds_them():
    world = toy.ToyWorld(toy.late, toy.BlurTokenizer())
    starts, samples = starts_of(world)
    clips = ClipPairs.of(world, starts, samples, "published")
    assert (clips.predicted[:, :, :2] != starts.context[:, None]).any() and (
        clips.actual[:, :2] == starts.context
    ).all()
    whole = toy_clips.clip_world(toy_clips.standing)  # coded together with what follows: given back as it was
    np.testing.assert_array_equal(ClipPairs.of(whole, starts, samples, "published").predicted[:, 0, :2], starts.context)


def test_the_honest_protocol_sees_future_frames_alone():
    world = toy.ToyWorld(toy.late)
    starts, samples = starts_of(world)
    clips = ClipPairs.of(world, starts, samples, "default")
    np.testing.assert_array_equal(clips.actual, starts.future[:, :14])
    np.testing.assert_array_equal(clips.predicted, samples[:, :, :14])


def test_starts_without_a_whole_clip_behind_them_do_not_count():
    world = toy.ToyWorld(toy.late)
    recorded = [toy.episode(i, n_steps=10) for i in range(3)]
    found, _ = toy.measured(SECTION, toy.evaluation_of(world, recorded))
    figure = found["clips_missing"]
    assert figure.n == 0 and "16 frames" in figure.description and list(found) == ["clips_missing"]


def test_published_clips_say_which_weights_are_missing():
    world = toy.ToyWorld(toy.late)
    config = EvalConfig(protocol="published")
    found, section = toy.measured(SECTION, toy.evaluation_of(world, [toy.episode(i) for i in range(3)], config))
    assert found["lpips_missing"].n == 0 and "--lpips" in found["lpips_missing"].description
    assert "As papers count" in section.description


# ------------------------------------------------------------------ published numbers


TABLES = find_system("ivideogpt").published()


def world_like(size=64, context=1, actions=(), has_goal=False):
    specs = {name: ActionSpec(kind="discrete", n=2) for name in actions}
    return ModelSpec(height=size, width=size, context=(1, context, None), actions=specs, goal=has_goal)


def test_published_numbers_stand_beside_256_clips_and_100_samples_only():
    name = "iVideoGPT on BAIR, published"
    assert published_numbers(TABLES, world_like(), "best_psnr", 16, 256, 100)[name] == 20.4
    assert published_numbers(TABLES, world_like(actions=["action"]), "fvd_published", 16, 256, 100)[name] == 60.8
    robot = world_like(context=2, actions=["action"])
    robonet = published_numbers(TABLES, robot, "best_lpips", 12, 256, 100)
    assert robonet["FitVid on RoboNet, published"] == 0.024
    for n_clips, n_samples in ((255, 100), (256, 99), (8, 4), (2048, 100)):
        assert not published_numbers(TABLES, world_like(), "best_psnr", 16, n_clips, n_samples)
    assert not published_numbers(TABLES, robot, "best_lpips", 16, 256, 100)  # predicts further than the papers did
    assert not published_numbers(TABLES, world_like(has_goal=True), "best_psnr", 16, 256, 100)  # has seen the end
    for other in (world_like(size=32), world_like(context=3), world_like(size=256, context=2)):
        assert not published_numbers(TABLES, other, "best_psnr", 16, 256, 100)
    assert not published_numbers(TABLES, world_like(), "clip_psnr", 16, 256, 100)


def test_published_numbers_reach_the_figures(clips, monkeypatch):
    def beside(protocol, **changes):
        found = figures(clips, protocol, tables=[{**table, **changes} for table in TABLES])
        return {name for f in found.values() for name in f.baselines} - {COPY}

    assert not beside("published") and not beside("default")
    monkeypatch.setattr(video_metrics, "PUBLISHED_CLIPS", 2)
    monkeypatch.setattr(video_metrics, "PUBLISHED_SAMPLES", K)
    assert not beside("published") and not beside("published", frames=1 + T)
    assert "MAGVIT on BAIR, published" in beside("published", frames=T) and not beside("default", frames=T)


# ------------------------------------------------------------------ the verb


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robot")
    dataset = toy.write_dataset(folder / "data")
    world = tiny_world("ivideogpt", dataset.info, seed=0)
    splits = {s: tuple(dataset.episodes[i].source for i in dataset.indices(s)) for s in ("train", "val", "test")}
    world.info = replace(world.info, splits=splits)
    world.save(folder / "world")
    return folder, dataset


FEW = "--clips 4 --samples 2 --free-run-steps 4 --control-starts 4 --inverse-steps 0 --stability-steps 0 --tiles no"


@pytest.mark.parametrize("protocol", ["default", pytest.param("published", marks=pytest.mark.slow)])
def test_eval_with_either_protocol(robot, lpips, tmp_path, capsys, monkeypatch, protocol):
    monkeypatch.setattr(fvd, "MIN_CLIPS", 4)
    seen = []
    collect = video_metrics.clip_pairs
    monkeypatch.setattr(video_metrics, "clip_pairs", lambda e: (seen.append(collect(e)), seen[-1])[1])
    network = script(I3D(), tmp_path / "i3d_torchscript.pt")
    folder, dataset = robot
    words = ["eval", str(folder / "world"), "--data", str(folder / "data"), *FEW.split(), "--protocol", protocol]
    words += ["--i3d", str(network), "--lpips", str(lpips), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    clips, _ = seen
    said, page = capsys.readouterr().out, (tmp_path / "out/report.html").read_text()
    headline = f"{len(clips.actual)} clips x 2 samples, {protocol} protocol"
    assert f"\n{headline}\n" in said
    assert f"evaluation, {headline}</title>" in page and f'<span class="protocol">{headline}</span></h1>' in page
    results = json.loads((tmp_path / "out/results.json").read_text())
    found = {f["name"]: f for s in results["sections"] for f in s["metrics"]}
    detect = fvd.load_detector(network)
    world, spec = World.load(folder / "world"), tiny_config("ivideogpt")
    sets = [clips.predicted[:, 0], clips.predicted[:, 1]]
    if protocol == "default":
        assert clips.actual.shape[1] == spec.clip_frames - spec.context_frames
        expected = np.mean([by_eigenvalues(detect(x), detect(clips.actual)) for x in sets])
        assert found["fvd"]["value"] == pytest.approx(expected, rel=1e-4)
        assert {"clip_psnr", "clip_ssim", "clip_lpips"} <= set(found)
        return
    firsts = {dataset.read(i).frames[:12].tobytes() for i in dataset.indices("test")}
    assert all(clip.tobytes() in firsts for clip in clips.actual), "clips begin with an episode's first frame"
    shown = torch.from_numpy(clips.actual).float() / 127.5 - 1
    with torch.inference_mode():
        rebuilt = world.model.reconstruct(shown)[:, :2]
    np.testing.assert_allclose(clips.predicted[:, 1, :2], (rebuilt.numpy() + 1) * 127.5, atol=0.51)
    made, true = np.concatenate([detect(x) for x in sets]), detect(clips.actual)
    assert found["fvd_published"]["value"] == pytest.approx(with_biased_spread(made, true), rel=1e-4)
    assert COPY in found["fvd_published"]["baselines"] and {"best_psnr", "best_ssim", "best_lpips"} <= set(found)
    assert not [name for f in found.values() for name in f["baselines"] if "published" in name]


def with_biased_spread(a, b):
    first, second = (np.cov(x, rowvar=False, bias=True) for x in (a, b))
    roots = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocol", "paper"], "paper"),
        (["--lpips", "none.safetensors"], "none.safetensors does not exist"),
        (["--samples", "0"], "samples is 0; it must be at least 1"),
    ],
)
def test_bad_input_is_one_line(robot, tmp_path, capsys, words, said):
    folder, _ = robot
    call = ["eval", str(folder / "world"), "--data", str(folder / "data"), "--out", str(tmp_path / "out"), *words]
    assert main(call) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_results_from_before_protocols_have_a_title_without_one():
    assert protocol_text({"sections": [{"name": "prediction", "metrics": []}]}) == ""


def test_a_negative_number_of_samples_is_refused():
    with pytest.raises(UserError, match="samples is -1"):
        EvalConfig(samples=-1)
