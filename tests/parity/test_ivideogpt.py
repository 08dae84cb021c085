"""iVideoGPT against numbers that the published code made, at the tolerances its README states.

The set is read as a user would: its folders through the importer. Sizes come from its configs, what is compared from
the names in io.safetensors; what the set lacks makes no test.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from safetensors.torch import load_file
from tests.parity.golden import entries, family, known, needed
from torch import Tensor

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
from reelworld.systems.ivideogpt.convert import TOKENIZER_NAMES, load_tokenizer, load_transformer, transformer_names
from reelworld.systems.ivideogpt.token_layout import TokenLayout
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
from reelworld.types import Batch, Codes, Conditions, Losses
from reelworld.worlds.external_checkpoint import read_folder

FOLDER = family("ivideogpt")
IO = FOLDER / "io.safetensors"
PIXELS = {"rtol": 0.0, "atol": 1e-4}
"""Bar of pixels and of what is quantized."""
LOGITS = {"rtol": 0.0, "atol": 2e-4}
REWARDS = {"rtol": 0.0, "atol": 1e-4}
LOSS = {"rtol": 1e-5, "atol": 0.0}
GRADIENT = 1e-3
"""Greatest error of a gradient as a share of its greatest entry."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no golden set at {FOLDER}")

ENTRIES = entries(IO)
TRANSFORMERS = [f for f in ("transformer", "transformer_act") if (FOLDER / f).is_dir()]
FOLDERS = [*TRANSFORMERS, *(["tokenizer"] if (FOLDER / "tokenizer").is_dir() else [])]


def needs(*names: str) -> pytest.MarkDecorator:
    """Make no test where the set lacks an entry or a folder."""
    return needed(names, [*ENTRIES, *FOLDERS])


def test_the_set_holds_numbers() -> None:
    assert ENTRIES, f"{FOLDER} holds no io.safetensors, or nothing is in it"


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    """Inputs and expected outputs."""
    return load_file(IO)


def assert_gradient(found: Tensor, wanted: Tensor) -> None:
    """Compare with the first rows that are given, relative to the greatest entry."""
    error = (found[: len(wanted)] - wanted).abs().max() / wanted.abs().max()
    assert error <= GRADIENT, float(error)


# ------------------------------------------------------------------ tokenizer


@cache
def tokenizer() -> ContextVQGAN:
    """Read the tokenizer."""
    return load_tokenizer(read_folder(FOLDER / "tokenizer"))


def video(io: dict[str, Tensor]) -> Tensor:
    """The clips as ours, (B, T, H, W, 3) in [-1, 1]."""
    return io["pixels"].permute(0, 1, 3, 4, 2) * 2 - 1


def channels_first(pixels: Tensor) -> Tensor:
    """Our pixels as published, (B, T, 3, H, W)."""
    return pixels.permute(0, 1, 4, 2, 3)


@cache
def tokenizer_losses() -> Losses:
    """Our losses on the clips, and the gradients of their sum."""
    model = tokenizer()
    model.zero_grad()
    losses = model.loss(Batch(video=video(load_file(IO))))
    total = sum(s / n for s, n in losses.terms.values())
    assert isinstance(total, Tensor)
    total.backward()  # type: ignore[no-untyped-call]
    return losses


@needs("pixels", "context_indices", "dynamics_indices")
@torch.no_grad()
def test_codes(io: dict[str, Tensor]) -> None:
    codes = tokenizer().encode(video(io))
    known = tokenizer().config.context_frames
    assert torch.equal(codes.grids["context"][:, :known], io["context_indices"].long())
    assert torch.equal(codes.video[:, known:], io["dynamics_indices"].long())


@needs("pixels", "pre_quant_context", "pre_quant_dynamics")
@torch.no_grad()
def test_what_is_quantized(io: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = tokenizer(), []
    for book in (model.context_codebook, model.frame_codebook):
        monkeypatch.setattr(book, "nearest", lambda rows, nearest=book.nearest: (seen.append(rows), nearest(rows))[1])
    model.encode(video(io))
    context, frames = (rows.flatten(0, 1) for rows in seen)
    torch.testing.assert_close(context.mT.reshape(io["pre_quant_context"].shape), io["pre_quant_context"], **PIXELS)
    torch.testing.assert_close(frames, io["pre_quant_dynamics"], **PIXELS)


def codes_of(io: dict[str, Tensor]) -> Codes:
    """The published codes in our two grids."""
    context, later = io["context_indices"].long(), io["dynamics_indices"].long()
    return Codes(
        {
            "context": torch.cat([context, context.new_zeros(len(context), later.shape[1], context.shape[2])], 1),
            "video": torch.cat([later.new_zeros(len(later), context.shape[1], later.shape[2]), later], 1),
        }
    )


@needs("context_indices", "dynamics_indices", "reconstruction")
@torch.no_grad()
def test_reconstruction(io: dict[str, Tensor]) -> None:
    found = channels_first(tokenizer().pixels(codes_of(io)))
    torch.testing.assert_close(found, io["reconstruction"], **PIXELS)


@needs("pixels")
@pytest.mark.parametrize("entry", [e for e in ("commit_loss", "dyn_commit_loss", "tokenizer_loss") if e in ENTRIES])
def test_tokenizer_losses(entry: str, io: dict[str, Tensor]) -> None:
    means = {name: (s / n).detach().view(1) for name, (s, n) in tokenizer_losses().terms.items()}
    named = {"commit_loss": means["context_commitment"], "dyn_commit_loss": means["video_commitment"]}
    torch.testing.assert_close(named.get(entry, torch.stack([*means.values()]).sum(0)), io[entry], **LOSS)


@needs("pixels")
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.startswith("grad/tokenizer/")])
def test_tokenizer_gradients(entry: str, io: dict[str, Tensor]) -> None:
    tokenizer_losses()
    found = TOKENIZER_NAMES.published(tokenizer(), lambda p: p.grad)
    assert_gradient(found[entry.removeprefix("grad/tokenizer/")], io[entry])


@needs("tokenizer")
def test_every_published_tensor_is_taken() -> None:
    weights = load_file(FOLDER / "tokenizer" / "diffusion_pytorch_model.safetensors")
    found = TOKENIZER_NAMES.published(tokenizer())
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


# ------------------------------------------------------------------ transformer

GREEDY = TokenSampler(SamplerConfig(temperature=0.0))


@cache
def transformer(folder: str) -> IVideoGPTTransformer:
    """Read a transformer: "transformer" knows no actions, "transformer_act" does."""
    frames = load_file(IO)["pixels"].shape[1] if "pixels" in ENTRIES else 0
    return load_transformer(read_folder(FOLDER / folder), tokenizer().config, frames)


def layout() -> TokenLayout:
    """Where tokens lie."""
    grids = tokenizer().config.grids()
    return TokenLayout.of(grids["context"], grids["video"], tokenizer().config.context_frames)


def told(io: dict[str, Tensor]) -> Conditions:
    """The actions."""
    return Conditions(actions={"action": io["actions"]})


@needs("input_ids", "labels")
def test_labels(io: dict[str, Tensor]) -> None:
    assert torch.equal(layout().labels(io["input_ids"].long()), io["labels"].long())


@needs("context_indices", "dynamics_indices", "input_ids")
def test_layout(io: dict[str, Tensor]) -> None:
    ids = layout().pack(codes_of(io))
    assert torch.equal(ids, io["input_ids"].long())
    again = layout().unpack(ids)
    assert all(torch.equal(again.grids[name], grid) for name, grid in codes_of(io).grids.items())


@needs("transformer", "input_ids", "logits")
@torch.no_grad()
def test_logits(io: dict[str, Tensor]) -> None:
    found = transformer("transformer").logits(io["input_ids"][: len(io["logits"])].long(), Conditions())
    torch.testing.assert_close(found, io["logits"], **LOGITS)


@needs("transformer_act", "input_ids", "actions", "logits_action")
@torch.no_grad()
def test_logits_with_actions(io: dict[str, Tensor]) -> None:
    found = transformer("transformer_act").logits(io["input_ids"].long(), told(io))
    torch.testing.assert_close(found[:, layout().prelude :], io["logits_action"], **LOGITS)


@needs("transformer_act", "input_ids", "actions", "reward_pred")
@torch.no_grad()
def test_rewards(io: dict[str, Tensor]) -> None:
    judged = transformer("transformer_act").score(layout().unpack(io["input_ids"].long()), told(io))
    torch.testing.assert_close(judged.reward[..., None], io["reward_pred"], **REWARDS)


@needs("transformer", "input_ids", "ce_loss")
@torch.no_grad()
def test_cross_entropy(io: dict[str, Tensor]) -> None:
    total, count = transformer("transformer").loss(Batch(codes=layout().unpack(io["input_ids"].long()))).terms["codes"]
    torch.testing.assert_close((total / count).view(1), io["ce_loss"], **LOSS)


@cache
def transformer_losses() -> Losses:
    """Our losses with actions and rewards, and the gradients of their sum."""
    io, model = load_file(IO), transformer("transformer_act")
    codes, first = layout().unpack(io["input_ids"].long()), layout().context_frames
    rewards = None
    if "reward_target" in io:
        rewards = torch.zeros(codes.video.shape[:2])
        rewards[:, first - 1 : -1] = io["reward_target"].squeeze(-1)  # ours belong to the step that leads to a frame
    model.zero_grad()
    losses = model.loss(Batch(codes=codes, conditions=told(io), rewards=rewards))
    total = sum(losses.weights.get(k, 1.0) * s / n for k, (s, n) in losses.terms.items())
    assert isinstance(total, Tensor)
    total.backward()  # type: ignore[no-untyped-call]
    return losses


@needs("transformer_act", "input_ids", "actions")
@pytest.mark.parametrize("entry", [e for e in ("ce_loss_action", "transformer_loss") if e in ENTRIES])
def test_losses_with_actions(entry: str, io: dict[str, Tensor]) -> None:
    means = {name: (s / n).detach().view(1) for name, (s, n) in transformer_losses().terms.items()}
    # a set without rewards learns from codes alone
    found = means["codes"] if entry == "ce_loss_action" else means["codes"] + means.get("reward", 0.0)
    torch.testing.assert_close(found, io[entry], **LOSS)


@needs("transformer_act", "input_ids", "actions")
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.startswith("grad/transformer/")])
def test_transformer_gradients(entry: str, io: dict[str, Tensor]) -> None:
    transformer_losses()
    found = transformer_names(has_heads=True).published(transformer("transformer_act"), lambda p: p.grad)
    assert_gradient(found[entry.removeprefix("grad/transformer/")], io[entry])


@pytest.mark.parametrize("folder", TRANSFORMERS)
def test_every_published_tensor_of_a_transformer_is_taken(folder: str) -> None:
    weights, found = (
        load_file(FOLDER / folder / "model.safetensors"),
        transformer_names("act" in folder).published(transformer(folder)),
    )
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


# ------------------------------------------------------------------ drawing


def continued(io: dict[str, Tensor], folder: str, conditions: Conditions) -> Tensor:
    """The likeliest ids behind the context."""
    prompt = io["input_ids"][:, : layout().prelude].long()
    n_frames = layout().frames(io["input_ids"].shape[1]) - layout().context_frames
    return transformer(folder).free_ids(prompt, n_frames, conditions, GREEDY, None)


@needs("transformer", "input_ids", "generated")
def test_greedy_ids(io: dict[str, Tensor]) -> None:
    assert torch.equal(continued(io, "transformer", Conditions()), io["generated"].long())


@needs("transformer_act", "input_ids", "actions", "generated_action")
def test_greedy_ids_with_actions(io: dict[str, Tensor]) -> None:
    assert torch.equal(continued(io, "transformer_act", told(io)), io["generated_action"].long())


@needs("transformer_act", "generated_action", "actions", "generated_action_reward")
@torch.no_grad()
def test_rewards_of_what_was_drawn(io: dict[str, Tensor]) -> None:
    """Teacher forced on the very ids, of which some are no codes of later frames."""
    model = transformer("transformer_act")
    features = model.features(io["generated_action"].long(), told(io))[:, layout().prelude :]
    assert model.reward is not None
    found = model.reward(features.unflatten(1, (-1, layout().stride))[:, :, -1])
    torch.testing.assert_close(found, io["generated_action_reward"], **REWARDS)


@pytest.mark.parametrize("entry", [e for e in ("generated", "generated_action") if f"{e}_future" in ENTRIES])
@torch.no_grad()
def test_what_was_drawn_as_pixels(entry: str, io: dict[str, Tensor]) -> None:
    found = channels_first(tokenizer().pixels(layout().unpack(io[entry].long())))[:, layout().context_frames :]
    torch.testing.assert_close(found, io[f"{entry}_future"], **PIXELS)


READ = {
    "pixels", "actions", "input_ids", "labels", "context_indices", "dynamics_indices", "pre_quant_context",
    "pre_quant_dynamics", "reconstruction", "commit_loss", "dyn_commit_loss", "tokenizer_loss", "logits",
    "logits_action", "ce_loss", "ce_loss_action", "transformer_loss", "reward_pred", "reward_target", "generated",
    "generated_action", "generated_future", "generated_action_future", "generated_action_reward",
}  # fmt: skip
known(FOLDER, [e for e in ENTRIES if not e.startswith("grad/")], READ)
