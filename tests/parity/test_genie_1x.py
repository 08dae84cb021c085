"""1xgpt's STMaskGIT against numbers that the published code made, at the tolerances its README proposes.

The set is read as a user would: its folder through the importer. Sizes come from its config and its tensors, the
number of passes from meta.json; what the set lacks makes no test.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.parity.golden import entries, family, known, needed
from torch import Tensor

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.genie.convert import NAMES, import_world, load_dynamics
from reelworld.systems.genie.maskgit import MaskGIT
from reelworld.systems.genie.masking import MaskedInput
from reelworld.types import Batch, Codes, Conditions
from reelworld.worlds.external_checkpoint import read_folder
from reelworld.worlds.world import World

FOLDER = family("genie_1x")
IO = FOLDER / "io.safetensors"
NUMBERS = {"rtol": 1e-4, "atol": 1e-4}
"""Bar of activations and logits."""
LOSS = {"rtol": 0.0, "atol": 1e-4}
GRADIENTS = {"rtol": 1e-3, "atol": 1e-5}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no golden set at {FOLDER}")

ENTRIES = entries(IO)
META = json.loads(path.read_text()) if (path := FOLDER / "meta.json").is_file() else {}


def needs(*names: str) -> pytest.MarkDecorator:
    """Make no test where the set lacks an entry."""
    return needed(names, [*ENTRIES, *META])


def words(name: str) -> list[str]:
    """Cut a name into its words."""
    return re.split(r"[._]", name)


def parameter(entry: str) -> str:
    """Return the published parameter that the name of a gradient shortens: its words in order; "" if none.

    ``grad.layer0.temporal_qkv`` is of ``decoder.layers.0.temporal_attn.qkv.weight``.
    """
    said = words(re.sub(r"layer(\d)", r"layers.\1", entry.removeprefix("grad.")))
    with safe_open(WEIGHTS, "pt") as weights, safe_open(IO, "pt") as io:
        shape = io.get_slice(entry).get_shape()
        names = [name for name in weights.keys() if weights.get_slice(name).get_shape() == shape]  # noqa: SIM118
    fits = [name for name in names if (rest := iter(words(name))) and all(word in rest for word in said)]
    return min(fits, key=lambda name: (len(words(name)), not name.endswith("weight")), default="")


WEIGHTS = next(FOLDER.glob("*state_dict*.safetensors"), FOLDER / "model.safetensors")
GRADIENTS_OF = {e: name for e in ENTRIES if e.startswith("grad.") and (name := parameter(e))}
ACTIVATIONS = [e for e in ENTRIES if re.fullmatch(r"act\.(token_embed|layer\d+_out|decoder_out)", e)]
known(
    FOLDER,
    ENTRIES,
    {"input_ids", "labels", "logits", "loss", "acc", "grad_norm_total", "sample.prompt", "sample.step1"}
    | {"sample.step1_factored_logits", "sample.step1_min_margin", "sample.greedy_conf", "sample.rollout"}
    | {*GRADIENTS_OF, *ACTIVATIONS},
)


def test_the_set_holds_numbers() -> None:
    assert ENTRIES, f"{FOLDER} holds no io.safetensors, or nothing is in it"


@dataclass
class Case:
    """The set, in our words."""

    model: MaskGIT
    io: dict[str, Tensor]

    def frames(self, name: str) -> Tensor:
        """Ids of whole windows, (B, T, S)."""
        return self.io[name].unflatten(1, (-1, self.model.config.grid.n_tokens))

    @property
    def shown(self) -> MaskedInput:
        """What the model was shown."""
        ids = self.frames("input_ids")
        hidden = ids == self.model.config.grid.codebook_size
        return MaskedInput(ids.masked_fill(hidden, 0), hidden)

    def channels_last(self, name: str) -> Tensor:
        """Published logits (B, V, T, H, W) as ours, (B, T, S, V)."""
        return self.io[name].permute(0, 2, 3, 4, 1).flatten(2, 3)

    def prompt(self) -> Tensor:
        """Codes that are given, (B, P, S): those of the frames before the first that is masked."""
        frames = self.frames("sample.prompt")
        is_masked_T = (frames == self.model.config.grid.codebook_size).any(2).any(0)
        return frames[:, : int(is_masked_T.float().argmax())]


@cache
def case_of() -> Case:
    """Read the set; the model's gradients are those of its loss."""
    model, io = load_dynamics(read_folder(FOLDER)).eval(), load_file(IO)
    case = Case(model, io)
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


@needs("input_ids", "labels")
@pytest.mark.parametrize(("entry", "term"), [p for p in (("loss", "codes"), ("acc", "accuracy")) if p[0] in ENTRIES])
@torch.no_grad()
def test_loss_and_accuracy(entry: str, term: str, case: Case) -> None:
    total, count = loss_terms(case)[term]
    torch.testing.assert_close((total / count).view(1), case.io[entry].view(1), **LOSS)


@needs("input_ids")
@pytest.mark.parametrize("entry", ACTIVATIONS)
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
@pytest.mark.parametrize("entry", GRADIENTS_OF)
def test_gradients(entry: str, case: Case) -> None:
    found, wanted = NAMES.published(case.model, lambda p: p.grad)[GRADIENTS_OF[entry]], case.io[entry]
    # small entries beside great ones are rounded like these
    scale = max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(found, wanted, rtol=GRADIENTS["rtol"], atol=GRADIENTS["atol"] * scale)


@needs("input_ids", "labels", "grad_norm_total")
def test_norm_of_all_gradients(case: Case) -> None:
    found = NAMES.published(case.model, lambda p: p.grad)
    assert found.keys() == load_file(WEIGHTS).keys()
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


@needs("sample.prompt", "sample.greedy_conf", "maskgit_steps")
@torch.no_grad()
def test_several_passes_by_confidence(case: Case) -> None:
    codes, _ = drawn(case, 1, META["maskgit_steps"])
    assert torch.equal(codes.view_as(case.io["sample.greedy_conf"]), case.io["sample.greedy_conf"])


@needs("sample.prompt", "sample.rollout")
@torch.no_grad()
def test_rollout(case: Case) -> None:
    wanted, prompt = case.frames("sample.rollout"), case.prompt()
    codes, _ = drawn(case, wanted.shape[1] - prompt.shape[1])
    assert torch.equal(torch.cat([prompt, codes], 1), wanted)


# ------------------------------------------------------------------ the world


GREEDY = SamplerConfig(temperature=0.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """What a user has: an imported world, from its folder."""
    import_world(FOLDER).save(tmp_path / "world")
    return World.load(tmp_path / "world")


def test_an_imported_world_survives_its_folder(world: World) -> None:
    before, after = import_world(FOLDER).parts["dynamics"].state_dict(), world.parts["dynamics"].state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


@needs("sample.prompt", "sample.rollout")
def test_a_rollout_of_a_world(case: Case, world: World) -> None:
    """In batches and alone."""
    prompt = case.prompt().numpy()
    wanted = case.frames("sample.rollout")[:, prompt.shape[1] :].numpy()
    assert (world.generate_codes(prompt, n_frames=wanted.shape[1], sampler=GREEDY) == wanted).all()
    assert (world.generate_codes(prompt[:1], n_frames=wanted.shape[1], sampler=GREEDY) == wanted[:1]).all()


@needs("sample.prompt", "sample.greedy_conf", "maskgit_steps")
def test_several_passes_of_a_world(case: Case, world: World) -> None:
    passes = replace(GREEDY, steps=META["maskgit_steps"])
    made = world.generate_codes(case.prompt().numpy(), n_frames=1, sampler=passes)[:, 0]
    assert (made == case.io["sample.greedy_conf"].flatten(1).numpy()).all()
