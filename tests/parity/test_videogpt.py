"""VideoGPT against numbers that the published code made, at the tolerances its README proposes.

The set is read as a user would: its safetensors and config.json through the importer. Cases are what is there: any
``gpt*.safetensors`` that config.json knows, any entry of io.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.parity.golden import entries, family, known
from tests.systems.videogpt.videogpt_files import published
from torch import Tensor

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.systems.videogpt.block_sparse_layout import strided_layout
from reelworld.systems.videogpt.convert import import_world, load_prior, load_vqvae
from reelworld.systems.videogpt.prior import AutoregressivePrior
from reelworld.systems.videogpt.vqvae import VQVAE3D
from reelworld.types import Batch, Codes, Conditions
from reelworld.worlds.external_checkpoint import read_checkpoint
from reelworld.worlds.world import World

FOLDER = family("videogpt")
IO = FOLDER / "io.safetensors"
NUMBERS = 5e-5
"""Bar of activations, logits and losses."""
GRADIENTS = 1e-4
STEM_GRADIENT = 5e-4
"""The network that reads frames amplifies rounding in its first layer."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no golden set at {FOLDER}")

ENTRIES = entries(IO)
CONFIG = json.loads(path.read_text()) if (path := FOLDER / "config.json").is_file() else {}
OWN = FOLDER / "vqvae.safetensors"
"""The VQ-VAE of all priors; without it, a prior's file holds its own."""


def holds_vqvae(prior: Path) -> bool:
    return any(name.startswith("vqvae.") for name in entries(prior))


FILES = {path.stem: path for path in sorted(FOLDER.glob("gpt*.safetensors"))}
PRIORS = [name for name, path in FILES.items() if name in CONFIG and (OWN.is_file() or holds_vqvae(path))]
known(FOLDER, FILES, PRIORS)


def with_entry(*endings: str) -> list[str]:
    """Priors for which the set has all of these."""
    return [name for name in PRIORS if all(f"{name}.{ending}" in ENTRIES for ending in endings)]


def gradients(prefix: str) -> list[str]:
    """Names of parameters whose gradient the set has."""
    return [e.removeprefix(prefix) for e in ENTRIES if e.startswith(prefix)]


def of_vqvae(prefix: str, *endings: str) -> list[str]:
    """Those results of the VQ-VAE that the set has."""
    is_there = "vqvae.video" in ENTRIES and OWN.is_file()
    return [ending for ending in endings if is_there and prefix + ending in ENTRIES]


EVALUATION = of_vqvae(
    "vqvae.", "z", "encodings", "embeddings", "recon", "recon_loss", "commitment_loss", "perplexity", "nearest_margin"
)
TRAINING = of_vqvae(
    "vqvae_train.", "recon_loss", "commitment_loss", "perplexity", "encodings", "N", "z_avg", "live", "embeddings_live",
    "bn_running_mean", "bn_running_var",
)  # fmt: skip
OF_PRIORS = (
    "logits", "loss", "frame_features", "greedy_encodings", "greedy_margin", "encodings", "frame_cond", "class_cond",
    "cached_max_abs_diff",  # of the peer; that ours agree is what test_cached_logits compares
)  # fmt: skip
known(
    FOLDER,
    [e for e in ENTRIES if ".grad." not in e and not e.startswith("sparse_layout.")],
    {f"vqvae.{e}" for e in ("video", *EVALUATION)}
    | {f"vqvae_train.{e}" for e in TRAINING}
    | {f"{prior}.{e}" for prior in PRIORS for e in OF_PRIORS},
)


def test_the_set_holds_numbers() -> None:
    assert ENTRIES, f"{FOLDER} holds no io.safetensors, or nothing is in it"


@cache
def numbers() -> dict[str, Tensor]:
    """Everything in io.safetensors."""
    return load_file(IO)


@pytest.fixture
def io() -> dict[str, Tensor]:
    return numbers()


def channels_last(video_BCTHW: Tensor) -> Tensor:
    """Published video, in [-0.5, 0.5], as ours."""
    return video_BCTHW.permute(0, 2, 3, 4, 1) * 2


def close(ours: Tensor | float, theirs: Tensor, bar: float) -> None:
    ours = torch.as_tensor(ours).detach().float()
    torch.testing.assert_close(ours.view_as(theirs), theirs.float(), rtol=0, atol=bar)


# ------------------------------------------------------------------ the VQ-VAE


def same(ours: Tensor | float, theirs: Tensor, bar: float = NUMBERS) -> None:
    """Compare: numbers at the bar, codes and answers exactly."""
    if theirs.is_floating_point():
        close(ours, theirs, bar)
    else:
        assert torch.equal(torch.as_tensor(ours).view_as(theirs).to(theirs.dtype), theirs)


def read_vqvae() -> tuple[VQVAE3D, Tensor]:
    """Read the VQ-VAE for the clips of the set, whose sides may differ; and these."""
    checkpoint, video = read_checkpoint(OWN), channels_last(numbers()["vqvae.video"])
    t, h, w = (n // s for n, s in zip(video.shape[1:4], load_vqvae(checkpoint).config.downsample, strict=True))
    return load_vqvae(checkpoint, (t, h, w)).eval(), video


def channels_first(grid: Tensor) -> Tensor:
    """Vectors on a grid, (B, P, R, C, D), as published."""
    return grid.permute(0, 4, 1, 2, 3)


@cache
@torch.no_grad()
def evaluated() -> dict[str, Tensor | float]:
    """What we make of the clips; the reconstruction in [-1, 1]."""
    vqvae, video = read_vqvae()
    features, codes = vqvae.features(video), vqvae.encode(video)
    losses = vqvae.loss(Batch(video=video)).mean()
    distances = (features.flatten(0, -2)[:, None] - vqvae.codebook.vectors).square().sum(-1)
    best = distances.topk(min(2, distances.shape[1]), largest=False).values
    vectors = vqvae.codebook.lookup(codes.video).view_as(features)
    return {
        "z": channels_first(features),
        "encodings": codes.video,
        "embeddings": channels_first(vectors),
        "recon": channels_first(vqvae.decode(codes)),
        "recon_loss": losses["reconstruction"],
        "commitment_loss": losses["commitment"],
        "perplexity": losses["perplexity"],
        "nearest_margin": (best[:, -1] - best[:, 0]).min(),
    }


@pytest.mark.parametrize("entry", EVALUATION)
def test_vqvae_in_evaluation(entry: str, io: dict[str, Tensor]) -> None:
    theirs = io[f"vqvae.{entry}"]
    if entry == "recon":  # ours is in [-1, 1] at the border
        same(evaluated()[entry], (theirs * 2).clamp(-1, 1), 2 * NUMBERS)
    else:
        same(evaluated()[entry], theirs)


@cache
def trained_once() -> tuple[VQVAE3D, dict[str, Tensor | float]]:
    """A VQ-VAE after one training-mode forward and backward, and what they left behind."""
    vqvae, video = read_vqvae()
    with torch.no_grad():  # statistics of the batch, moved before they are used again
        codes = vqvae.codebook.nearest(vqvae.train().features(video))
    vqvae = read_vqvae()[0].train()
    losses = vqvae.loss(Batch(video=video), torch.Generator().manual_seed(0))
    terms = [total / count for name, (total, count) in losses.terms.items() if losses.weights.get(name, 1.0)]
    torch.stack(terms).sum().backward()
    means, state, book = losses.mean(), published(vqvae), vqvae.codebook
    live = book.counts >= 1
    return vqvae, {
        "recon_loss": means["reconstruction"],
        "commitment_loss": means["commitment"],
        "perplexity": means["perplexity"],
        "encodings": codes,
        "N": book.counts,
        "z_avg": book.sums,
        "live": live,
        "embeddings_live": book.vectors[live],  # dead codes are drawn anew
        "bn_running_mean": state.get("encoder.res_stack.0.block.0.running_mean", live),
        "bn_running_var": state.get("encoder.res_stack.0.block.0.running_var", live),
    }


@pytest.mark.parametrize("entry", TRAINING)
def test_one_training_step(entry: str, io: dict[str, Tensor]) -> None:
    same(trained_once()[1][entry], io[f"vqvae_train.{entry}"])


@pytest.mark.parametrize("name", gradients("vqvae_train.grad.") if TRAINING else [])
def test_gradient_of_the_vqvae(name: str, io: dict[str, Tensor]) -> None:
    found = published(trained_once()[0], lambda p: p.grad)[name]
    close(found, io[f"vqvae_train.grad.{name}"], GRADIENTS)


# ------------------------------------------------------------------ the priors


@dataclass
class Case:
    """One prior of the set with what was fed to it."""

    name: str
    prior: AutoregressivePrior
    codes: Codes
    conditions: Conditions
    shape: torch.Size
    """Of the published encodings: clips, latent frames, rows, columns."""


@cache
def case_of(name: str) -> Case:
    """Read a prior, in evaluation mode: no dropout."""
    io = numbers()
    checkpoint = read_checkpoint(FILES[name])
    tokenizer = load_vqvae(read_checkpoint(OWN) if OWN.is_file() else checkpoint)
    encodings = next(io[e] for e in (f"{name}.encodings", "vqvae.encodings", f"{name}.greedy_encodings") if e in io)
    frames, one_hot = io.get(f"{name}.frame_cond"), io.get(f"{name}.class_cond")
    conditions = Conditions(
        context_video=None if frames is None else channels_last(frames),
        class_id=None if one_hot is None else one_hot.argmax(1),
    )
    prior = load_prior(checkpoint, tokenizer).eval()
    return Case(name, prior, Codes.of(encodings.flatten(2)), conditions, encodings.shape)


@pytest.mark.parametrize("name", with_entry("logits"))
def test_teacher_forced_logits(name: str, io: dict[str, Tensor]) -> None:
    case = case_of(name)
    with torch.no_grad():
        logits = case.prior.logits(case.codes, case.conditions)
    close(logits, io[f"{name}.logits"], NUMBERS)


@pytest.mark.parametrize("name", with_entry("loss"))
def test_loss(name: str, io: dict[str, Tensor]) -> None:
    case = case_of(name)
    loss = case.prior.loss(Batch(codes=case.codes, conditions=case.conditions)).mean()["nats"]
    close(loss, io[f"{name}.loss"], NUMBERS)
    with torch.no_grad():
        close(case.prior.nll(case.codes, case.conditions).mean(), io[f"{name}.loss"], NUMBERS)


@pytest.mark.parametrize("name", with_entry("frame_cond", "frame_features"))
def test_features_of_conditioning_frames(name: str, io: dict[str, Tensor]) -> None:
    case = case_of(name)
    assert case.conditions.context_video is not None
    with torch.no_grad():
        close(case.prior.features(case.conditions.context_video), io[f"{name}.frame_features"], NUMBERS)


@cache
def gradients_of(name: str) -> dict[str, Tensor]:
    """Gradients of the loss, under the published names."""
    case = case_of(name)
    total, count = case.prior.loss(Batch(codes=case.codes, conditions=case.conditions)).terms["nats"]
    (total / count).backward()
    return published(case.prior, lambda p: p.grad)


@pytest.mark.parametrize(
    ("name", "parameter"), [(name, parameter) for name in PRIORS for parameter in gradients(f"{name}.grad.")]
)
def test_gradient_of_a_prior(name: str, parameter: str, io: dict[str, Tensor]) -> None:
    found = gradients_of(name)[parameter]
    close(found, io[f"{name}.grad.{parameter}"], STEM_GRADIENT if "resnet.stem" in parameter else GRADIENTS)


class Forced:
    """Answers with given codes and keeps the logits it was shown."""

    def __init__(self, codes_BL: Tensor) -> None:
        self.codes, self.logits = codes_BL, list[Tensor]()

    def __call__(self, logits: Tensor, generator: object) -> Tensor:
        self.logits.append(logits)
        return self.codes[:, len(self.logits) - 1]


def rollout(case: Case, sampler: Callable[[Tensor, Any], Tensor]) -> Tensor:
    """Draw whole clips through the cache, (B, P, N)."""
    state = case.prior.prefill(case.codes[slice(0)], case.conditions)
    frames = []
    for _ in range(case.shape[1]):
        codes, state = case.prior.step(state, Conditions(), sampler, None)
        frames.append(codes.video)
    return torch.cat(frames, 1)


@pytest.mark.parametrize("name", with_entry("logits"))
def test_cached_logits(name: str, io: dict[str, Tensor]) -> None:
    case = case_of(name)
    sampler = Forced(case.codes.video.flatten(1))
    rollout(case, sampler)
    close(torch.stack(sampler.logits, 1), io[f"{name}.logits"], NUMBERS)


class Greedy(TokenSampler):
    """Draws the likeliest codes and keeps the smallest gap to the next ones."""

    def __init__(self) -> None:
        super().__init__(SamplerConfig(temperature=0.0))
        self.margin = torch.tensor(torch.inf)

    def __call__(self, logits: Tensor, generator: object) -> Tensor:
        best = logits.topk(2).values
        self.margin = torch.minimum(self.margin, (best[:, 0] - best[:, 1]).min())
        return super().__call__(logits, generator)


@pytest.mark.parametrize("name", with_entry("greedy_encodings"))
def test_greedy_rollout(name: str, io: dict[str, Tensor]) -> None:
    case, sampler = case_of(name), Greedy()
    drawn = rollout(case, sampler)
    assert torch.equal(drawn.view_as(io[f"{name}.greedy_encodings"]), io[f"{name}.greedy_encodings"])
    if (margin := io.get(f"{name}.greedy_margin")) is not None:
        close(sampler.margin, margin, 2 * NUMBERS)


# ------------------------------------------------------------------ worlds


def imported(name: str) -> World:
    """Read a pair as `reelworld import` does."""
    return import_world(OWN if OWN.is_file() else None, FILES[name])


@pytest.mark.parametrize("name", PRIORS)
def test_an_imported_world_survives_its_folder(name: str, tmp_path: Path) -> None:
    world = imported(name)
    world.save(tmp_path / "world")
    again = World.load(tmp_path / "world")
    for part, other in zip(world.parts.values(), again.parts.values(), strict=True):
        before, after = part.state_dict(), other.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)


def draws_whole_clips(name: str) -> bool:
    """Say whether a world of this prior draws all codes of its clips, as the set does.

    Classes cannot be asked of a world, and given frames that fill a latent frame are coded, not drawn.
    """
    frames, stride = numbers().get(f"{name}.frame_cond"), CONFIG.get("vqvae", {}).get("downsample", [1])[0]
    return f"{name}.class_cond" not in ENTRIES and (frames is None or frames.shape[2] < stride)


@pytest.mark.parametrize("name", [n for n in with_entry("greedy_encodings") if draws_whole_clips(n)])
def test_greedy_video_of_a_world(name: str, io: dict[str, Tensor]) -> None:
    """What a user sees: the greedy codes, decoded, behind the frames that were given."""
    world, encodings = imported(name), io[f"{name}.greedy_encodings"].flatten(2)
    context = torch.zeros(len(encodings), 0, world.spec.height, world.spec.width, 3, dtype=torch.uint8)
    if (frames := io.get(f"{name}.frame_cond")) is not None:
        # frames of the set are floats; a world's are pixels, and rounding may move a greedy choice: drawn again
        context = to_uint8(channels_last(frames))
        rounded = Conditions(context_video=to_float(context))
        encodings = rollout(replace(case_of(name), conditions=rounded), Greedy())
    with torch.no_grad():
        expected = to_uint8(world.parts["tokenizer"].decode(Codes.of(encodings))).numpy().astype(int)
    n_given, n_frames = context.shape[1], world.parts["tokenizer"].config.clip_frames
    sampler = SamplerConfig(temperature=0.0)
    made = world.generate(context.numpy(), None, n_frames - n_given, seed=0, sampler=sampler)
    assert (abs(made.astype(int) - expected[:, n_given:]) <= 1).all()


# ------------------------------------------------------------------ block-sparse layouts


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.startswith("sparse_layout.")])
def test_sparse_layout(entry: str, io: dict[str, Tensor]) -> None:
    settings = CONFIG.get("sparse", {})
    sizes = {"block": settings.get("block", 32), "n_local": settings.get("num_local_blocks", 4)}
    shape = tuple(int(n) for n in entry.removeprefix("sparse_layout.").split("x"))
    assert torch.equal(strided_layout(shape, **sizes), io[entry].bool())
