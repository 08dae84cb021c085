"""iVideoGPT against numbers that the published code made, at the tolerances its README states.

The set is read as a user would: its folders through the importer. Sizes come from its configs, what is compared from
the names in io.safetensors; what the set lacks makes no test.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.parity.golden import family
from torch import Tensor

from reelworld.recipes.convert_ivideogpt import load_tokenizer
from reelworld.recipes.convert_ivideogpt_names import published_tokenizer
from reelworld.tokenizers.conditional_vqgan import ConditionalVQGAN
from reelworld.types import Batch, Codes, Losses
from reelworld.worlds.foreign_checkpoint import read_folder

FOLDER = family("ivideogpt")
IO = FOLDER / "io.safetensors"
PIXELS = {"rtol": 0.0, "atol": 1e-4}
"""Bar of pixels and of what is quantized."""
LOSS = {"rtol": 1e-5, "atol": 0.0}
GRADIENT = 1e-3
"""Greatest error of a gradient as a share of its greatest entry."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no golden set at {FOLDER}")


def entries() -> list[str]:
    """Names in io.safetensors."""
    if not IO.is_file():
        return []
    with safe_open(IO, "pt") as file:
        return sorted(file.keys())


ENTRIES = entries()


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip where the set lacks an entry."""
    return pytest.mark.skipif(not set(names) <= set(ENTRIES), reason=f"the set lacks one of {', '.join(names)}")


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
def tokenizer() -> ConditionalVQGAN:
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


@needs("pixels", "tokenizer_loss", "commit_loss", "dyn_commit_loss")
def test_tokenizer_losses(io: dict[str, Tensor]) -> None:
    means = {name: (s / n).detach().view(1) for name, (s, n) in tokenizer_losses().terms.items()}
    torch.testing.assert_close(means["context_commitment"], io["commit_loss"], **LOSS)
    torch.testing.assert_close(means["video_commitment"], io["dyn_commit_loss"], **LOSS)
    torch.testing.assert_close(torch.stack([*means.values()]).sum(0), io["tokenizer_loss"], **LOSS)


@needs("pixels")
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.startswith("grad/tokenizer/")])
def test_tokenizer_gradients(entry: str, io: dict[str, Tensor]) -> None:
    tokenizer_losses()
    found = published_tokenizer(tokenizer(), lambda p: p.grad)
    assert_gradient(found[entry.removeprefix("grad/tokenizer/")], io[entry])


def test_every_published_tensor_is_taken() -> None:
    weights = load_file(FOLDER / "tokenizer" / "diffusion_pytorch_model.safetensors")
    found = published_tokenizer(tokenizer())
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
