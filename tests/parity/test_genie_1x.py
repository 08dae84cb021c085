"""1xgpt's STMaskGIT against numbers that the published code made, at the tolerances its README proposes.

The set is read as a user would: its folder through the importer. Sizes come from its config and its tensors, the
number of passes and of prompt frames from meta.json; what the set lacks makes no test.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.parity.golden import entries, family, needed
from torch import Tensor

from reelworld.dynamics.maskgit import MaskGIT
from reelworld.dynamics.masking import Shown
from reelworld.generate.samplers import SamplerConfig, TokenSampler
from reelworld.recipes.convert_genie_1x import import_world
from reelworld.recipes.convert_genie_1x_dynamics import load_dynamics
from reelworld.recipes.convert_genie_1x_names import published
from reelworld.types import Batch, Codes, Conditions
from reelworld.worlds.foreign_checkpoint import read_folder
from reelworld.worlds.world import World

FOLDER = family("genie_1x")
IO = FOLDER / "io.safetensors"
NUMBERS = {"rtol": 1e-4, "atol": 1e-4}
"""Bar of activations and logits."""
LOSS = {"rtol": 0.0, "atol": 1e-4}
GRADIENTS = {"rtol": 1e-3, "atol": 1e-5}
GRADIENT = r"grad\.(?:layer(?P<layer>\d+)\.(?P<part>\w+)_(?P<matrix>qkv|proj)|(?P<name>\w+))"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no golden set at {FOLDER}")

ENTRIES = entries(IO)


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip where the set lacks an entry."""
    return needed(names, ENTRIES)


@dataclass
class Case:
    """The set, in our words."""

    model: MaskGIT
    io: dict[str, Tensor]
    prompt_frames: int
    steps: int

    def frames(self, name: str) -> Tensor:
        """Ids of whole windows, (B, T, S)."""
        return self.io[name].unflatten(1, (-1, self.model.config.grid.n_tokens))

    @property
    def shown(self) -> Shown:
        """What the model was shown."""
        ids = self.frames("input_ids")
        hidden = ids == self.model.config.grid.codebook_size
        return Shown(ids.masked_fill(hidden, 0), hidden)

    def channels_last(self, name: str) -> Tensor:
        """Published logits (B, V, T, H, W) as ours, (B, T, S, V)."""
        return self.io[name].permute(0, 2, 3, 4, 1).flatten(2, 3)

    def prompt(self) -> Tensor:
        """Codes that are given, (B, P, S)."""
        given = self.frames("sample.prompt")[:, : self.prompt_frames]
        assert given.max() < self.model.config.grid.codebook_size
        return given


@cache
def case_of() -> Case:
    """Read the set; the model's gradients are those of its loss."""
    model, io = load_dynamics(read_folder(FOLDER)).eval(), load_file(IO)
    meta = json.loads((FOLDER / "meta.json").read_text())
    case = Case(model, io, meta["prompt_frames"], meta["maskgit_steps"])
    if {"input_ids", "labels"} <= set(ENTRIES):
        total, count = loss_terms(case)["codes"]
        (total / count).backward()
    return case


def loss_terms(case: Case) -> dict[str, tuple[Tensor, Tensor]]:
    batch = Batch(codes=Codes.of(case.frames("labels")))
    return dict(case.model.loss(batch, shown=case.shown).terms)


@pytest.fixture
def case() -> Case:
    return case_of()


# ------------------------------------------------------------------ one forward and backward


@needs("input_ids", "logits")
@torch.no_grad()
def test_logits(case: Case) -> None:
    found = case.model.logits(Codes.of(case.shown.codes), Conditions(), case.shown.hidden)
    torch.testing.assert_close(found, case.channels_last("logits"), **NUMBERS)


@needs("input_ids", "labels", "loss")
@torch.no_grad()
def test_loss_and_accuracy(case: Case) -> None:
    terms = {name: (total / count).view(1) for name, (total, count) in loss_terms(case).items()}
    torch.testing.assert_close(terms["codes"], case.io["loss"], **LOSS)
    if "acc" in case.io:
        torch.testing.assert_close(terms["accuracy"], case.io["acc"], **LOSS)


@needs("input_ids")
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.startswith("act.")])
@torch.no_grad()
def test_activations(entry: str, case: Case) -> None:
    blocks, name = case.model.transformer.blocks, entry.removeprefix("act.")
    layer = re.fullmatch(r"layer(\d+)_out", name)
    modules = {"token_embed": case.model.embed, "decoder_out": case.model.transformer}
    module = blocks[int(layer[1])] if layer else modules[name]
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, inputs, out: seen.append(out if isinstance(out, Tensor) else out[0]))
    case.model.logits(Codes.of(case.shown.codes), Conditions(), case.shown.hidden)
    hook.remove()
    torch.testing.assert_close(seen[0], case.io[entry], **NUMBERS)


@needs("input_ids", "labels")
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.startswith("grad.")])
def test_gradients(entry: str, case: Case) -> None:
    found, said = published(case.model, lambda p: p.grad), re.fullmatch(GRADIENT, entry)
    assert said, entry
    if said["layer"]:
        name = f"decoder.layers.{said['layer']}.{said['part']}_attn.{said['matrix']}.weight"
    else:
        name = {"mask_token_embed": "token_embed.mask_token_embed"}.get(said["name"], said["name"])
    torch.testing.assert_close(found[name], case.io[entry], **GRADIENTS)


@needs("input_ids", "labels", "grad_norm_total")
def test_norm_of_all_gradients(case: Case) -> None:
    weights = load_file(next(FOLDER.glob("*state_dict*.safetensors"), FOLDER / "model.safetensors"))
    found = published(case.model, lambda p: p.grad)
    assert found.keys() == weights.keys()
    total = math.sqrt(sum(float(g.double().square().sum()) for g in found.values()))
    torch.testing.assert_close(torch.tensor([total]), case.io["grad_norm_total"].view(1), **GRADIENTS)


# ------------------------------------------------------------------ drawing


class Noting(TokenSampler):
    """A sampler that keeps the logits it was shown."""

    def __init__(self, config: SamplerConfig) -> None:
        super().__init__(config)
        self.logits: list[Tensor] = []

    def __call__(self, logits: Tensor, generator: object) -> Tensor:
        self.logits.append(logits)
        return super().__call__(logits, generator)


def drawn(case: Case, n_frames: int, steps: int = 1) -> tuple[Tensor, list[Tensor]]:
    """Draw the likeliest frames after the prompt, through the cache: codes (B, n, S), and all logits that were seen."""
    sampler, frames = Noting(SamplerConfig(steps=steps, temperature=0.0)), []
    state = case.model.prefill(Codes.of(case.prompt()), Conditions())
    for _ in range(n_frames):
        codes, state = case.model.step(state, Conditions(), sampler, None)
        frames.append(codes.video)
    return torch.cat(frames, 1), sampler.logits


@needs("sample.prompt", "sample.step1")
@torch.no_grad()
def test_one_pass(case: Case) -> None:
    codes, logits = drawn(case, 1)
    assert torch.equal(codes.view_as(case.io["sample.step1"]), case.io["sample.step1"])
    parts = torch.stack([part[:, 0] for part in logits], -1)  # (B, S, size, factors)
    if "sample.step1_factored_logits" in case.io:
        wanted = case.io["sample.step1_factored_logits"].flatten(3).permute(0, 3, 1, 2)
        torch.testing.assert_close(parts, wanted, **NUMBERS)
    if "sample.step1_min_margin" in case.io:
        best = parts.topk(2, dim=2).values
        margin = (best[:, :, 0] - best[:, :, 1]).min().view(1)
        torch.testing.assert_close(margin, case.io["sample.step1_min_margin"], rtol=0, atol=2e-4)


@needs("sample.prompt", "sample.greedy_conf")
@torch.no_grad()
def test_several_passes_by_confidence(case: Case) -> None:
    codes, _ = drawn(case, 1, case.steps)
    assert torch.equal(codes.view_as(case.io["sample.greedy_conf"]), case.io["sample.greedy_conf"])


@needs("sample.prompt", "sample.rollout")
@torch.no_grad()
def test_rollout(case: Case) -> None:
    wanted = case.frames("sample.rollout")
    codes, _ = drawn(case, wanted.shape[1] - case.prompt_frames)
    assert torch.equal(torch.cat([case.prompt(), codes], 1), wanted)


# ------------------------------------------------------------------ the world


@needs("sample.prompt", "sample.rollout", "sample.greedy_conf")
def test_an_imported_world_draws_them_from_its_folder(case: Case, tmp_path: Path) -> None:
    """What a user sees, in batches and alone."""
    import_world(FOLDER).save(tmp_path / "world")
    world, prompt = World.load(tmp_path / "world"), case.prompt().numpy()
    wanted = case.frames("sample.rollout")[:, case.prompt_frames :].numpy()
    greedy = SamplerConfig(temperature=0.0)
    assert (world.generate_codes(prompt, n_frames=wanted.shape[1], sampler=greedy) == wanted).all()
    assert (world.generate_codes(prompt[:1], n_frames=wanted.shape[1], sampler=greedy) == wanted[:1]).all()
    passes = SamplerConfig(steps=case.steps, temperature=0.0)
    made = world.generate_codes(prompt, n_frames=1, sampler=passes)[:, 0]
    assert (made == case.io["sample.greedy_conf"].flatten(1).numpy()).all()
    before, after = import_world(FOLDER).dynamics.state_dict(), world.dynamics.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
