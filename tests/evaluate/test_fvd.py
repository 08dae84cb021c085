"""Frechet video distance against algebra, and a network in the published calling format with random weights."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluate import toy, toy_clips
from reelworld.evaluate.metrics import COPY
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.run import evaluate
from reelworld.evaluate.sections import fvd
from reelworld.evaluate.sections.fvd import check_enough, frechet_distance, load_detector
from reelworld.types import UserError


class I3D(torch.nn.Module):
    """As the published network is called; its features see channels, order in time, and range."""

    def __init__(self, n_features: int = 400, least_frames: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(n_features, 3 * 4 * 8 * 8, generator=generator))
        self.least_frames = least_frames

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        if x.shape[2] < self.least_frames:
            raise RuntimeError("input image smaller than kernel size")
        if rescale:
            x = x / 255 * 2 - 1
        if resize:
            x = torch.nn.functional.adaptive_avg_pool3d(x, [4, 8, 8])
        features = x.flatten(1) @ self.weight.t()
        return features if return_features else features.softmax(1)


class Odd(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return script(I3D(), tmp_path_factory.mktemp("i3d") / "i3d_torchscript.pt")


def by_eigenvalues(a, b):
    """The textbook form: the root of the product has the roots of its eigenvalues on its diagonal."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots


@pytest.mark.parametrize(("n", "m", "d"), [(50, 60, 6), (200, 30, 12), (9, 7, 20), (2, 2, 5)])
def test_the_distance_is_the_textbooks(n, m, d):
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3
    b = rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) * 2
    assert frechet_distance(a, b) == pytest.approx(by_eigenvalues(a, b), rel=1e-5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


def test_the_distance_of_known_normal_distributions():
    """Independent axes: the sum of squared differences of means and of spreads."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T  # exactly white
    spread, shift = np.array([1.0, 2.0, 0.5, 0.0]), np.array([0.0, 1.0, -2.0, 3.0])
    assert frechet_distance(x, x * spread + shift) == pytest.approx(((1 - spread) ** 2).sum() + (shift**2).sum())


def test_equal_sets_are_at_no_distance_and_it_never_falls_below():
    x = np.random.default_rng(0).normal(size=(40, 400)).astype(np.float32) * 100 + 1000
    assert 0 <= frechet_distance(x, x) < 1e-6
    assert 0 <= frechet_distance(x, x[::-1].copy()) < 1e-6


def test_few_clips_are_too_far_apart():
    """Why the number of clips stands beside the distance."""
    rng = np.random.default_rng(0)
    distances = [frechet_distance(rng.normal(size=(n, 50)), rng.normal(size=(n, 50))) for n in (16, 64, 512)]
    assert distances[0] > 2 * distances[1] > 4 * distances[2] > 0


def test_the_network_gets_what_it_was_made_for(network):
    """float (B, 3, T, H, W) in 0..255, rescaled and resized inside, features; in batches as one by one."""
    videos = np.random.default_rng(0).integers(0, 256, (9, 10, 20, 24, 3), dtype=np.uint8)
    features = load_detector(network)(videos)
    pixels = torch.from_numpy(videos).permute(0, 4, 1, 2, 3).double() / 255 * 2 - 1
    expected = (
        torch.nn.functional.adaptive_avg_pool3d(pixels, [4, 8, 8]).flatten(1) @ I3D().weight.detach().double().t()
    )
    assert features.shape == (9, 400) and features.dtype == np.float64
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "is no file"),
        (lambda p: p.mkdir(), "is no file"),
        (lambda p: p.write_bytes(b"hello"), "no TorchScript file"),
        (lambda p: p.write_bytes(b""), "no TorchScript file"),
        (lambda p: torch.save({"weight": torch.zeros(2)}, p), "no TorchScript file"),
        (lambda p: script(Odd(), p), "rescale=True, resize=True, return_features=True"),
        (lambda p: script(I3D(n_features=1024), p), "(2, 1024)"),
        (lambda p: script(I3D(least_frames=20), p), "cannot read clips of 16 frames"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, make, said):
    make(tmp_path / "x.pt")
    with pytest.raises(UserError) as error:
        load_detector(tmp_path / "x.pt")
    assert said in str(error.value) and "\n" not in str(error.value) and "x.pt" in str(error.value)


def test_too_few_clips_are_refused_in_one_line():
    check_enough(16)
    with pytest.raises(UserError, match="FVD over 15 clips says nothing; give --clips 16"):
        check_enough(15)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy.write_dataset(tmp_path_factory.mktemp("fvd") / "data", n=60)


def test_the_report_says_what_is_missing(dataset):
    evaluation = evaluate(toy_clips.clip_world(toy_clips.random_walk), dataset, EvalConfig(clips=3))
    (figure,) = next(s for s in evaluation.sections if s.name == "fvd").metrics
    assert figure.n == 0 and np.isnan(figure.value) and not figure.baselines
    assert "--i3d" in figure.description and "i3d_torchscript.pt" in figure.description


@pytest.mark.parametrize("kind", ["open", "acting"])
def test_fvd_by_hand(dataset, network, monkeypatch, kind):
    """Future frames of the world against held-out ones, each sample for itself, beside training clips and copies."""
    monkeypatch.setattr(fvd, "MIN_CLIPS", 8)
    seen = []
    detect = load_detector(network)
    monkeypatch.setattr("reelworld.evaluate.run.load_detector", lambda *_: lambda v: (seen.append(v), detect(v))[1])
    world = toy_clips.clip_world(toy_clips.random_walk) if kind == "open" else toy.ToyWorld(toy.late)
    config = EvalConfig(
        clips=10, single_steps=10, free_run_steps=4, control_starts=10, inverse_steps=0, stability_steps=0, i3d=network
    )
    config = replace(config, samples=2 if kind == "open" else 1)
    evaluation = evaluate(world, dataset, config)
    (figure,) = next(s for s in evaluation.sections if s.name == "fvd").metrics
    recorded, *made, train, copied = seen
    assert len(made) == config.samples
    length = 6 if kind == "open" else 14  # windows of 8 and 16 frames, two of them given
    assert all(v.shape == (len(recorded), length, 32, 32, 3) for v in (recorded, *made, copied))
    held_out = np.concatenate([dataset.read(i).frames for i in dataset.indices("test")])
    held_out = {f.tobytes() for f in held_out}
    assert all(f.tobytes() in held_out for clip in recorded for f in clip)
    assert (copied == copied[:, :1]).all() and (copied != recorded).any()
    assert all((clips != recorded).any() and (clips != copied).any() for clips in made)
    expected = np.mean([by_eigenvalues(detect(clips), detect(recorded)) for clips in made])
    assert figure.value == pytest.approx(expected, rel=1e-4)
    assert figure.n == len(recorded) and str(len(recorded)) in figure.description
    name = f"{len(train)} training clips"
    assert figure.baselines == {
        name: pytest.approx(by_eigenvalues(detect(train), detect(recorded)), rel=1e-4),
        COPY: pytest.approx(by_eigenvalues(detect(copied), detect(recorded)), rel=1e-4),
    }
    assert np.isnan(figure.low)


def test_too_few_clips_are_refused_before_anything_is_measured(dataset, network, monkeypatch):
    monkeypatch.setattr("reelworld.evaluate.run.measure_section", lambda *_: pytest.fail("measured"))
    with pytest.raises(UserError, match="FVD over"):
        evaluate(toy_clips.clip_world(toy_clips.random_walk), dataset, EvalConfig(clips=2, i3d=network))
