"""Published VideoGPT checkpoints become worlds: the same numbers, or one line that says what does not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.lightning_files import write_lightning
from tests.parity.golden import family
from tests.systems.videogpt.videogpt_files import (
    VARIANTS,
    make_parts,
    prior_args,
    prior_weights,
    published,
    vqvae_args,
    weights,
    write_pair,
)

from reelworld.nn.decoder import CrossAttention, SelfAttention
from reelworld.systems.videogpt.convert import import_world, load_vqvae, prior_names
from reelworld.types import Batch, Codes, Conditions, UserError
from reelworld.worlds.external_checkpoint import read_checkpoint
from reelworld.worlds.world import World

GOLDEN = family("videogpt")


def conditions(prior: Any, n: int) -> Conditions:
    config, rng = prior.config, torch.Generator().manual_seed(3)
    shape = (n, config.cond_frames, config.cond_height, config.cond_width, 3)
    return Conditions(
        context_video=torch.rand(shape, generator=rng) * 2 - 1 if config.cond_frames else None,
        class_id=torch.arange(n) % config.n_classes if config.n_classes else None,
    )


@torch.no_grad()
def assert_same_model(world: World, vqvae: Any, prior: Any) -> None:
    """The same encodings, pixels and logits, to the last bit."""
    for mine, theirs in ((world.parts["tokenizer"], vqvae), (world.parts["dynamics"], prior)):
        unread = (
            {}
            if mine is world.parts["tokenizer"] or prior.config.cond_frames
            else {"resnet_width": 64, "resnet_dim": 240}
        )
        assert mine.config == replace(theirs.config, **unread)
        own, other = mine.state_dict(), theirs.state_dict()
        assert own.keys() == other.keys()
        assert all(torch.equal(own[k], other[k]) for k in own)
    config = vqvae.config
    rng = torch.Generator().manual_seed(5)
    video = torch.rand(2, config.clip_frames, config.height, config.width, 3, generator=rng) * 2 - 1
    codes = vqvae.encode(video)
    assert torch.equal(world.parts["tokenizer"].encode(video).video, codes.video)
    assert torch.equal(world.parts["tokenizer"].decode(codes), vqvae.decode(codes))
    told = conditions(prior, 2)
    assert torch.equal(world.parts["dynamics"].logits(codes, told), prior.logits(codes, told))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pair_comes_back_exactly(variant: str, tmp_path: Path) -> None:
    parts = config, vqvae, prior = make_parts(**VARIANTS[variant])
    vqvae_path, prior_path = write_pair(tmp_path, parts)
    inside, both = import_world(None, prior_path), import_world(vqvae_path, prior_path)
    alone_path = write_lightning(
        tmp_path / "alone.ckpt", prior_weights(*parts, with_vqvae=False), prior_args(config), is_attribute_dict=True
    )
    for world in (inside, both, import_world(vqvae_path, alone_path)):
        assert_same_model(world, vqvae, prior)
    inside.save(tmp_path / "world")
    again = World.load(tmp_path / "world")
    assert again.info == inside.info
    assert_same_model(again, vqvae, prior)


def test_a_world_says_what_it_was_made_of_and_what_is_unknown(tmp_path: Path) -> None:
    vqvae_path, prior_path = write_pair(tmp_path, make_parts(**VARIANTS["frame-and-class"]))
    world = import_world(vqvae_path, prior_path)
    info = world.info
    for part, path in (("vqvae", vqvae_path), ("prior", prior_path)):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        assert info.provenance["imported"][part] == {"file": path.name, "sha256": sha256}
    assert "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint" in info.provenance["names_passed_over"]
    assert "names of the classes" in info.provenance["unknown"]
    assert (info.name, info.system, info.spec.fps, info.actions, info.splits) == ("gpt", "videogpt", 0.0, {}, {})
    assert (info.sampler.temperature, info.sampler.steps, info.sampler.top_k, info.sampler.top_p) == (1.0, 1, 0, 1.0)
    assert info.spec.context[1] == 1
    assert info.spec.classes == ("class 0", "class 1", "class 2")
    assert world.initial_contexts == []


def test_an_imported_world_makes_frames(tmp_path: Path) -> None:
    for variant, context in (("frame", 1), ("alone", 0)):
        _, prior_path = write_pair(tmp_path, make_parts(**VARIANTS[variant]))
        world = import_world(None, prior_path)
        given = np.random.default_rng(0).integers(0, 256, (2, context, 32, 32, 3)).astype(np.uint8)
        frames = world.generate(given, n_frames=9, seed=1)
        assert frames.shape == (2, 9, 32, 32, 3)
        assert frames.std() > 1


def test_training_goes_on_with_the_codebook_of_the_file(tmp_path: Path) -> None:
    """The published code starts its codebook anew on the first step after loading."""
    config, vqvae, prior = make_parts(**VARIANTS["alone"])
    vqvae.codebook.counts.fill_(1e6)  # one batch moves nothing
    vqvae.codebook.sums.copy_(vqvae.codebook.vectors * 1e6)
    prior.codebook.copy_(vqvae.codebook.vectors)
    vqvae_path, prior_path = write_pair(tmp_path, (config, vqvae, prior))
    tokenizer = import_world(vqvae_path, prior_path).parts["tokenizer"].train()
    tokenizer.loss(Batch(video=torch.rand(1, 8, 32, 32, 3)), torch.Generator())
    torch.testing.assert_close(tokenizer.codebook.vectors, vqvae.codebook.vectors, atol=1e-4, rtol=0)
    vqvae.codebook.counts.zero_()  # one that was never trained may start
    path = write_lightning(tmp_path / "new.ckpt", weights(vqvae), vqvae_args(config))
    assert not load_vqvae(read_checkpoint(path)).codebook.has_started


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_widths_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    config, vqvae, _ = make_parts()
    tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights(vqvae).items()}
    read = load_vqvae(read_checkpoint(write_lightning(tmp_path / "a.ckpt", tensors, vqvae_args(config))))
    found = published(read)
    assert all(torch.equal(found[k], tensors[k].to(found[k].dtype)) for k in tensors)
    assert {v.dtype for v in found.values()} == {torch.float32, torch.int64}


def test_what_is_not_said_is_read_off_the_shapes(tmp_path: Path) -> None:
    parts = config, vqvae, prior = make_parts(**VARIANTS["frame-and-class"])
    few = {name: getattr(config.dynamics, name) for name in ("heads", "dropout", "attn_dropout")}
    prior_path = write_lightning(tmp_path / "gpt.ckpt", prior_weights(*parts, with_vqvae=False), few)
    stride = {"downsample": config.tokenizer.downsample}
    vqvae_path = write_lightning(tmp_path / "vqvae.ckpt", weights(vqvae), stride)
    assert_same_model(import_world(vqvae_path, prior_path), vqvae, prior)


def test_safetensors_with_a_config_beside_them(tmp_path: Path) -> None:
    parts = config, vqvae, prior = make_parts(**VARIANTS["sparse"])
    safetensors.torch.save_file(
        {k: v.contiguous() for k, v in prior_weights(*parts, with_vqvae=False).items()}, tmp_path / "gpt_x.safetensors"
    )
    safetensors.torch.save_file({k: v.contiguous() for k, v in weights(vqvae).items()}, tmp_path / "vqvae.safetensors")
    said = {"vqvae": vqvae_args(config), "gpt_x": prior_args(config), "seed": 1}
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert_same_model(import_world(tmp_path / "vqvae.safetensors", tmp_path / "gpt_x.safetensors"), vqvae, prior)


def test_a_latent_shape_that_is_said_takes_the_place_of_the_clip(tmp_path: Path) -> None:
    """A VQ-VAE has no positions: it codes clips of the size that the prior was made for."""
    parts = config, vqvae, prior = make_parts(**VARIANTS["sparse"])
    wide = vqvae_args(config) | {"sequence_length": 16, "resolution": 64}
    vqvae_path = write_lightning(tmp_path / "vqvae.ckpt", weights(vqvae), wide)
    tensors, said = prior_weights(*parts, with_vqvae=False), prior_args(config)
    path = write_lightning(tmp_path / "gpt.ckpt", tensors, said | {"latent": (4, 4, 4), "sequence_length": 16})
    assert_same_model(import_world(vqvae_path, path), vqvae, prior)
    path = write_lightning(tmp_path / "gpt.ckpt", tensors, said | {"latent": (4, 4, 8)})
    assert "latent (4, 4, 8)" in refused(vqvae_path, path)


# ------------------------------------------------------------------ names


def test_queries_keys_and_values_are_those_of_the_published_form() -> None:
    """Attention by its formula from the published matrices, head by head."""
    torch.manual_seed(0)
    x, features = torch.randn(2, 5, 12), torch.randn(2, 7, 10)
    own, cross = SelfAttention(12, 3), CrossAttention(12, 10, 3)
    block = torch.nn.ModuleDict({"attention": own, "frames": cross})
    named = prior_names(12).published(torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([block])}))
    torch.testing.assert_close(own(x), attend(named, "attn", x, x, 3))
    assert named["attn_stack.attn_nets.0.enc_attn.w_vs.weight"].shape == (9, 10)
    torch.testing.assert_close(cross(x, cross.keys_values(features)), attend(named, "enc_attn", x, features, 3))


def attend(named: dict[str, torch.Tensor], kind: str, x: torch.Tensor, seen: torch.Tensor, heads: int) -> torch.Tensor:
    name = f"attn_stack.attn_nets.0.{kind}"
    q, k, v = (y @ named[f"{name}.{w}.weight"].T for y, w in ((x, "w_qs"), (seen, "w_ks"), (seen, "w_vs")))
    mixed = []
    for i in range(heads):
        qi, ki, vi = (y.chunk(heads, -1)[i] for y in (q, k, v))
        mixed.append((qi @ ki.mT / qi.shape[-1] ** 0.5).softmax(-1) @ vi)
    return torch.cat(mixed, -1) @ named[f"{name}.fc.weight"].T + named[f"{name}.fc.bias"]


@pytest.mark.parametrize(("axis", "reach"), [("w", (0, 0, 1)), ("h", (0, 1, 0)), ("t", (1, 0, 0))])
def test_axial_attention_reads_the_axis_it_is_named_after(axis: str, reach: tuple[int, int, int]) -> None:
    _, vqvae, _ = make_parts()
    named = published(vqvae)
    block = vqvae.encoder.residuals[0].block[8]
    for other in {"w", "h", "t"} - {axis}:  # the others say nothing
        for key in ("w_vs.weight", "fc.weight", "fc.bias"):
            named[f"encoder.res_stack.0.block.8.attn_{other}.{key}"].zero_()
    x = torch.randn(1, 8, 2, 2, 2)
    moved = x.clone()
    moved[0, :, 0, 0, 0] += 1
    is_moved = (block(moved) - block(x)).detach().abs().amax((0, 1)) > 1e-6
    expected = torch.zeros(2, 2, 2, dtype=torch.bool)
    expected[0, 0, 0] = expected[reach] = True
    assert torch.equal(is_moved, expected)


def test_published_names_give_gradients_too() -> None:
    _, _, prior = make_parts(**VARIANTS["frame-and-class"])
    codes = Codes.of(torch.zeros(1, 4, 16, dtype=torch.int64))
    (total, _), *_ = prior.loss(Batch(codes=codes, conditions=conditions(prior, 1))).terms.values()
    total.backward()
    grads = published(prior, lambda tensor: tensor.grad)
    assert grads.keys() == published(prior).keys()
    name = "attn_stack.attn_nets.0.attn.w_ks.weight"
    assert torch.equal(grads[name], prior.blocks[0].attention.qkv.weight.grad[24:48])
    _, vqvae, _ = make_parts()
    assert published(vqvae, lambda tensor: tensor.grad) == {}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("gpt*.safetensors")), ids=lambda path: path.stem)
def test_names_are_those_of_the_published_files(path: Path) -> None:
    """To the last one: masks are checked and left out, nothing else is."""
    own = GOLDEN / "vqvae.safetensors"
    stored = set(safetensors.torch.load_file(path))
    inside = {name.removeprefix("vqvae.") for name in stored if name.startswith("vqvae.")}
    others = {name for name in stored if name.startswith("vqvae.") or name.endswith(".attn.attn.mask")}
    world = import_world(own if own.is_file() else None, path)
    assert set(published(world.parts["dynamics"])) == stored - others
    assert set(published(world.parts["tokenizer"])) == (inside or set(safetensors.torch.load_file(own)))


# ------------------------------------------------------------------ what does not fit


def refused(vqvae_path: Path | None, prior_path: Path) -> str:
    with pytest.raises(UserError) as error:
        import_world(vqvae_path, prior_path)
    said = str(error.value)
    assert "\n" not in said and len(said) < 600
    assert str(prior_path.parent) in said  # it names the file
    return said


CONTRADICTIONS: dict[str, tuple[str, Any]] = {
    "hidden_dim": ("gpt", 48),
    "layers": ("gpt", 3),
    "heads": ("gpt", 5),
    "no-heads": ("gpt", 0),
    "attn_type": ("gpt", "sparse"),
    "attn_type-of-another-kind": ("gpt", 7),
    "attn_type-unknown": ("gpt", "linear"),
    "n_cond_frames": ("gpt", 2),
    "no-n_cond_frames": ("gpt", 0),
    "class_cond": ("gpt", False),
    "class_cond_dim": ("gpt", 4),
    "resnet_width": ("gpt", 64),
    "resnet_dim": ("gpt", 240),
    "sequence_length": ("gpt", 16),
    "resolution": ("gpt", 64),
    "dropout": ("gpt", 1.5),
    "attn_dropout": ("gpt", "0.3"),
    "latent": ("gpt", (4, 4)),
    "vqvae-downsample": ("vqvae", (2, 4, 8)),
    "vqvae-downsample-of-two": ("vqvae", (8, 8)),
    "vqvae-downsample-fewer": ("vqvae", (2, 4, 4)),
    "vqvae-downsample-odd": ("vqvae", (3, 8, 8)),
    "vqvae-downsample-text": ("vqvae", "(2, 8, 8)"),
    "vqvae-n_codes": ("vqvae", 64),
    "vqvae-embedding_dim": ("vqvae", 256),
    "vqvae-n_hiddens": ("vqvae", 240),
    "vqvae-n_res_layers": ("vqvae", 4),
    "vqvae-sequence_length": ("vqvae", 16),
    "vqvae-sequence_length-odd": ("vqvae", 7),
    "vqvae-sequence_length-text": ("vqvae", "8"),
    "vqvae-sequence_length-huge": ("vqvae", 1 << 40),
    "vqvae-resolution": ("vqvae", 64),
    "vqvae-resolution-odd": ("vqvae", 33),
}


@pytest.fixture(scope="module")
def told() -> Any:
    """Parts that are told all there is: frames and a class."""
    return make_parts(**VARIANTS["frame-and-class"])


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_one_line_that_names_them(case: str, told: Any, tmp_path: Path) -> None:
    config, vqvae, _ = told
    model, value = CONTRADICTIONS[case]
    field = case.removeprefix("vqvae-").removeprefix("no-").split("-")[0]
    said = {"vqvae": vqvae_args(config), "gpt": prior_args(config)}
    said[model][field] = value
    vqvae_path = write_lightning(tmp_path / "vqvae.ckpt", weights(vqvae), said["vqvae"])
    prior_path = write_lightning(tmp_path / "gpt.ckpt", prior_weights(*told, with_vqvae=False), said["gpt"])
    line = refused(vqvae_path, prior_path)
    words = {"sequence_length": ("sequence_length", "frames", "clips"), "resolution": ("resolution", "rows", "clips")}
    words["downsample"] = ("downsample", "clips")
    assert any(word in line for word in words.get(field, (field,))), line


def test_strides_and_clips_that_only_a_prior_can_contradict(tmp_path: Path) -> None:
    parts = config, _, _ = make_parts(**VARIANTS["frame"])
    tensors = prior_weights(*parts, with_vqvae=True)
    for field, value, said in (
        ("sequence_length", 9, "do not divide"),
        ("resolution", 64, "convolutions"),
        ("resolution", None, "nothing for resolution"),
        ("downsample", (2, 8, 16), "convolutions"),
    ):
        path = write_lightning(tmp_path / "gpt.ckpt", tensors, prior_args(config) | {field: value})
        assert said in refused(None, path)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"tokenizer__n_codes": 64}, "64"),
        ({"tokenizer__embedding_dim": 16}, "width 16"),
        ({"sequence_length": 16}, "clips of 16x32x32"),
        ({"tokenizer__downsample": (4, 8, 8)}, "clips of 16x32x32"),
    ],
)
def test_a_prior_that_does_not_fit_the_vqvae(other: dict[str, Any], said: str, tmp_path: Path) -> None:
    _, prior_path = write_pair(tmp_path, make_parts(**VARIANTS["alone"]), with_vqvae=False)
    (tmp_path / "other").mkdir()
    vqvae_path, _ = write_pair(tmp_path / "other", make_parts(**VARIANTS["alone"], **other))
    line = refused(vqvae_path, prior_path)
    assert "does not fit the VQ-VAE" in line
    assert said in line


def test_a_vqvae_that_is_not_the_one_inside(tmp_path: Path) -> None:
    parts = config, vqvae, _ = make_parts(**VARIANTS["alone"])
    vqvae_path, prior_path = write_pair(tmp_path, parts)
    other = weights(vqvae)
    other["encoder.conv_last.conv.bias"][0] += 1e-6
    write_lightning(vqvae_path, other, vqvae_args(config))
    line = refused(vqvae_path, prior_path)
    assert "1 of" in line and "encoder.conv_last.conv.bias" in line and "leave out --vqvae" in line


def test_halves_and_swapped_pairs(tmp_path: Path) -> None:
    parts = make_parts(**VARIANTS["alone"])
    vqvae_path, prior_path = write_pair(tmp_path, parts, with_vqvae=False)
    assert "half of a pair" in refused(None, prior_path)
    assert "is a VQ-VAE; --prior wants" in refused(None, vqvae_path)
    assert "is a VQ-VAE; --prior wants" in refused(prior_path, vqvae_path)
    assert "is a prior; --vqvae wants" in refused(prior_path, prior_path)
    other = write_lightning(tmp_path / "other.ckpt", {"weight": torch.ones(2)}, {})
    assert "holds no VideoGPT model" in refused(vqvae_path, other)
    assert "holds no VideoGPT model" in refused(other, prior_path)
    flat = tmp_path / "flat.ckpt"
    torch.save({"state_dict": prior_weights(*parts, with_vqvae=False), "hyper_parameters": {"args": 3}}, flat)
    assert "no Namespace" in refused(vqvae_path, flat)


Spoil = Callable[[dict[str, torch.Tensor]], Any]
FIRST = "attn_stack.attn_nets.0"
MASK = f"{FIRST}.attn.attn.mask"
SPOILT: dict[str, tuple[Spoil, str]] = {
    "missing": (lambda t: t.pop(f"{FIRST}.attn.fc.bias"), f"1 missing ('{FIRST}.attn.fc.bias')"),
    "surplus": (lambda t: t.update(extra=torch.zeros(1)), "1 surplus ('extra')"),
    "surplus-layer": (lambda t: t.update({"attn_stack.attn_nets.77.x": torch.zeros(1)}), "layers 2"),
    "shape": (lambda t: t.update({f"{FIRST}.fc_block.0.bias": torch.zeros(95)}), "(95,)"),
    "integers": (lambda t: t.update({"norm.g": torch.zeros(24, dtype=torch.int64)}), "torch.int64"),
    "one-axis": (lambda t: t.update({"fc_in.weight": torch.zeros(24)}), "2 axes"),
    "no-numbers": (lambda t: t.update({"fc_in.weight": torch.zeros(1 << 40, 0)}), "fc_in.weight"),
    "no-positions": (lambda t: t.pop("attn_stack.pos_embd.emb.d_1"), "lacks the tensor"),
    "endless-clip": (
        lambda t: t.update({f"attn_stack.pos_embd.emb.d_{i}": torch.zeros(10_000, 1) for i in range(3)}),
        "10000x10000x10000 codes per clip; at most 262,144",
    ),
    "other-mask": (lambda t: t[MASK].add_(1), "another mask"),
    "mask-of-another-length": (lambda t: t.update({MASK: torch.ones(4, 4).tril()}), "another mask"),
    "upper-mask": (lambda t: t.update({MASK: t[MASK].T.contiguous()}), "another mask"),
    "mask-of-no-layer": (lambda t: t.update({MASK.replace("0", "9"): t[MASK]}), "layers 2"),
}


@pytest.fixture(scope="module")
def alone() -> Any:
    """Parts that are told nothing."""
    return make_parts(**VARIANTS["alone"])


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_weights_are_one_line(case: str, alone: Any, tmp_path: Path) -> None:
    parts = config, _, _ = alone
    spoil, said = SPOILT[case]
    vqvae_path, prior_path = write_pair(tmp_path, parts, with_vqvae=False)
    tensors = prior_weights(*parts, with_vqvae=False)
    spoil(tensors)
    torch.save({"state_dict": tensors, "hyper_parameters": {"args": prior_args(config)}}, prior_path)
    assert said in refused(vqvae_path, prior_path)


def test_frames_that_condition_are_those_of_the_clips(told: Any, tmp_path: Path) -> None:
    vqvae_path, prior_path = write_pair(tmp_path, told, with_vqvae=False)
    tensors = prior_weights(*told, with_vqvae=False)
    tensors["cond_pos_embd.emb.d_1"] = tensors["cond_pos_embd.emb.d_1"][:4]
    write_lightning(prior_path, tensors, prior_args(told[0]))
    assert "conditioning frames of 16x32 pixels; its clips have 32x32" in refused(vqvae_path, prior_path)


def test_a_small_file_cannot_ask_for_a_large_model(tmp_path: Path) -> None:
    """A convolution 200,000 wide would need a terabyte; its file has a few numbers."""
    config, vqvae, _ = make_parts()
    tensors = weights(vqvae) | {"encoder.conv_last.conv.weight": torch.zeros(200_000, 1, 1, 1, 1)}
    path = write_lightning(tmp_path / "a.ckpt", tensors, vqvae_args(config) | {"n_hiddens": 200_000})
    with pytest.raises(UserError, match="do not belong together"):
        load_vqvae(read_checkpoint(path))
