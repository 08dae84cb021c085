"""VideoGPT against numbers that the published code made, at the tolerances its README proposes.

The set is read as a user would: its safetensors and config.json through the importer. Cases are what is there: any
``gpt*.safetensors``, any entry of io.safetensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.parity.golden import entries, family
from torch import Tensor

from reelworld.dynamics.autoregressive import AutoregressivePrior
from reelworld.generate.samplers import SamplerConfig, TokenSampler
from reelworld.nn.block_layout import strided_layout
from reelworld.nn.pixels import to_uint8
from reelworld.recipes.convert_videogpt import import_world
from reelworld.recipes.convert_videogpt_names import published
from reelworld.recipes.convert_videogpt_prior import load_prior
from reelworld.recipes.convert_videogpt_vqvae import load_vqvae
from reelworld.tokenizers.vqvae3d import VQVAE3D
from reelworld.types import Batch, Codes, Conditions
from reelworld.worlds.foreign_checkpoint import read_checkpoint
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
PRIORS = sorted(p.stem for p in FOLDER.glob("gpt*.safetensors"))


def with_entry(*endings: str) -> list[str]:
    """Priors for which the set has all of these."""
    return [name for name in PRIORS if all(f"{name}.{ending}" in ENTRIES for ending in endings)]


def gradients(prefix: str) -> list[str]:
    """Names of parameters whose gradient the set has."""
    return [e.removeprefix(prefix) for e in ENTRIES if e.startswith(prefix)]


needs_vqvae = pytest.mark.skipif(
    "vqvae.video" not in ENTRIES or not (FOLDER / "vqvae.safetensors").is_file(), reason="the set has no VQ-VAE"
)


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


@pytest.fixture
def vqvae() -> VQVAE3D:
    return load_vqvae(read_checkpoint(FOLDER / "vqvae.safetensors")).eval()


@needs_vqvae
def test_vqvae_in_evaluation(vqvae: VQVAE3D, io: dict[str, Tensor]) -> None:
    video = channels_last(io["vqvae.video"])
    with torch.no_grad():
        close(vqvae.features(video).permute(0, 4, 1, 2, 3), io["vqvae.z"], NUMBERS)
        codes = vqvae.encode(video)
        assert torch.equal(codes.video.view_as(io["vqvae.encodings"]), io["vqvae.encodings"])
        vectors = vqvae.codebook.lookup(codes.video).view(*io["vqvae.encodings"].shape, -1)
        close(vectors.permute(0, 4, 1, 2, 3), io["vqvae.embeddings"], NUMBERS)
        again = vqvae.decode(Codes.of(io["vqvae.encodings"].flatten(2)))
        close(again, channels_last(io["vqvae.recon"]).clamp(-1, 1), 2 * NUMBERS)
        losses = vqvae.loss(Batch(video=video)).mean()
    close(losses["reconstruction"], io["vqvae.recon_loss"], NUMBERS)
    close(losses["commitment"], io["vqvae.commitment_loss"], NUMBERS)
    close(losses["perplexity"], io["vqvae.perplexity"], NUMBERS)


@pytest.fixture
def trained_once(vqvae: VQVAE3D, io: dict[str, Tensor]) -> tuple[VQVAE3D, dict[str, float]]:
    """A VQ-VAE after one training-mode forward and backward, and its losses."""
    vqvae.train()
    losses = vqvae.loss(Batch(video=channels_last(io["vqvae.video"])), torch.Generator().manual_seed(0))
    terms = [total / count for name, (total, count) in losses.terms.items() if losses.weights.get(name, 1.0)]
    torch.stack(terms).sum().backward()
    return vqvae, losses.mean()


@needs_vqvae
@pytest.mark.skipif("vqvae_train.N" not in ENTRIES, reason="the set has no training step")
def test_one_training_step(trained_once: tuple[VQVAE3D, dict[str, float]], io: dict[str, Tensor]) -> None:
    model, losses = trained_once
    close(losses["reconstruction"], io["vqvae_train.recon_loss"], NUMBERS)
    close(losses["commitment"], io["vqvae_train.commitment_loss"], NUMBERS)
    close(losses["perplexity"], io["vqvae_train.perplexity"], NUMBERS)
    live = io["vqvae_train.live"].bool()
    assert torch.equal(model.codebook.counts >= 1, live)
    close(model.codebook.counts, io["vqvae_train.N"], NUMBERS)
    close(model.codebook.sums, io["vqvae_train.z_avg"], NUMBERS)
    close(model.codebook.vectors[live], io["vqvae_train.embeddings_live"], NUMBERS)
    state = published(model)
    close(state["encoder.res_stack.0.block.0.running_mean"], io["vqvae_train.bn_running_mean"], NUMBERS)
    close(state["encoder.res_stack.0.block.0.running_var"], io["vqvae_train.bn_running_var"], NUMBERS)


@needs_vqvae
@pytest.mark.skipif("vqvae_train.encodings" not in ENTRIES, reason="the set has no training step")
def test_codes_of_the_training_step(vqvae: VQVAE3D, io: dict[str, Tensor]) -> None:
    with torch.no_grad():
        features = vqvae.train().features(channels_last(io["vqvae.video"]))
        codes = vqvae.codebook.nearest(features)
    assert torch.equal(codes.view_as(io["vqvae_train.encodings"]), io["vqvae_train.encodings"])


@needs_vqvae
@pytest.mark.parametrize("name", gradients("vqvae_train.grad."))
def test_gradient_of_the_vqvae(
    name: str, trained_once: tuple[VQVAE3D, dict[str, float]], io: dict[str, Tensor]
) -> None:
    found = published(trained_once[0], lambda p: p.grad)[name]
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
    checkpoint = read_checkpoint(FOLDER / f"{name}.safetensors")
    tokenizer = load_vqvae(read_checkpoint(FOLDER / "vqvae.safetensors"))
    encodings = io.get(f"{name}.encodings", io.get("vqvae.encodings"))
    assert encodings is not None
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
        close(case.prior.nats(case.codes, case.conditions).mean(), io[f"{name}.loss"], NUMBERS)


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
    """A sampler that answers with given codes and keeps the logits it was shown."""

    steps = 1

    def __init__(self, codes_BL: Tensor) -> None:
        self.codes, self.logits = codes_BL, list[Tensor]()

    def __call__(self, logits: Tensor, generator: object) -> Tensor:
        self.logits.append(logits)
        return self.codes[:, len(self.logits) - 1]

    def confidence(self, logits: Tensor, ids: Tensor, generator: object) -> Tensor:
        raise NotImplementedError


def rollout(case: Case, sampler: TokenSampler | Forced) -> Tensor:
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


@pytest.mark.parametrize("name", with_entry("greedy_encodings"))
def test_greedy_rollout(name: str, io: dict[str, Tensor]) -> None:
    case = case_of(name)
    drawn = rollout(case, TokenSampler(SamplerConfig(temperature=0.0)))
    assert torch.equal(drawn.view_as(io[f"{name}.greedy_encodings"]), io[f"{name}.greedy_encodings"])


# ------------------------------------------------------------------ worlds


def imported(name: str) -> World:
    """Read a pair as `reelworld import` does."""
    own = FOLDER / "vqvae.safetensors"
    return import_world(own if own.is_file() else None, FOLDER / f"{name}.safetensors")


@pytest.mark.parametrize("name", PRIORS)
def test_an_imported_world_survives_its_folder(name: str, tmp_path: Path) -> None:
    world = imported(name)
    world.save(tmp_path / "world")
    again = World.load(tmp_path / "world")
    for part, other in zip(world.parts.values(), again.parts.values(), strict=True):
        before, after = part.state_dict(), other.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("name", [n for n in with_entry("greedy_encodings") if f"{n}.class_cond" not in ENTRIES])
def test_greedy_video_of_a_world(name: str, io: dict[str, Tensor]) -> None:
    """What a user sees: the greedy codes, decoded, behind the frames that were given."""
    world, frames = imported(name), io.get(f"{name}.frame_cond")
    encodings = io[f"{name}.greedy_encodings"]
    with torch.no_grad():
        expected = to_uint8(world.tokenizer.decode(Codes.of(encodings.flatten(2)))).numpy().astype(int)
    nothing = torch.zeros(len(encodings), 0, world.info.height, world.info.width, 3, dtype=torch.uint8)
    context = nothing if frames is None else to_uint8(channels_last(frames))
    n_given, n_frames = context.shape[1], world.tokenizer.config.clip_frames
    sampler = SamplerConfig(temperature=0.0)
    made = world.generate(context.numpy(), None, n_frames - n_given, seed=0, sampler=sampler)
    is_close = abs(made.astype(int) - expected[:, n_given:]) <= 1
    # frames of the set are floats: rounding them to pixels may move a greedy choice
    assert is_close.all() if frames is None else is_close.mean() > 0.9


# ------------------------------------------------------------------ block-sparse layouts


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.startswith("sparse_layout.")])
def test_sparse_layout(entry: str, io: dict[str, Tensor]) -> None:
    settings = json.loads((FOLDER / "config.json").read_text()).get("sparse", {})
    sizes = {"block": settings.get("block", 32), "n_local": settings.get("num_local_blocks", 4)}
    shape = tuple(int(n) for n in entry.removeprefix("sparse_layout.").split("x"))
    assert torch.equal(strided_layout(shape, **sizes), io[entry].bool())
