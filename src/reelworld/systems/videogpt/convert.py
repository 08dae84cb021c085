"""VideoGPT's published checkpoints -> a world.

    reelworld import videogpt --vqvae bair_stride4x2x2.ckpt --prior bair_gpt.ckpt --out runs/bair

A prior's checkpoint contains its VQ-VAE too, under ``vqvae.``; the path of that VQ-VAE in its hyper-parameters is never
followed. Sizes that are not in the hyper-parameters are read from the shapes, and both must agree.

Source: Yan et al. 2021 (arXiv:2104.10157), the authors' code and its checkpoints (PyTorch Lightning 1.3.3), whose names
of tensors and fields these are.

A shape here is frames, rows and columns of a clip, or of its codes.
"""

from __future__ import annotations

import re
from dataclasses import fields
from math import prod
from pathlib import Path
from typing import Any

import torch

from reelworld.data.episodes import DataInfo
from reelworld.systems.videogpt.config import DynamicsConfig, TokenizerConfig
from reelworld.systems.videogpt.prior import AutoregressivePrior, PriorConfig
from reelworld.systems.videogpt.vqvae import VQVAE3D, VQVAE3DConfig
from reelworld.types import GridSpec, UserError
from reelworld.worlds.assemble import make_world, with_origin
from reelworld.worlds.external_checkpoint import ExternalCheckpoint, read_checkpoint
from reelworld.worlds.external_model import ExternalModel
from reelworld.worlds.importer import describe_file, describe_size
from reelworld.worlds.pickle_check import brief
from reelworld.worlds.state_dict_adapter import Row, StateDictAdapter, transposed
from reelworld.worlds.world import World

Shape = tuple[int, int, int]

LARGEST_CLIP = 1 << 18
"""Codes per clip; published priors have 4,096."""
FRAME_STRIDE = 4
"""Pixels per feature of the network that reads conditioning frames."""
MASK = r"attn_stack\.attn_nets\.\d+\.attn\.attn\.mask$"
"""Names of the masks of full attention, which the published prior saves and ours computes."""

# ------------------------------------------------------------------ names

QKV = ("w_qs.weight", "w_ks.weight", "w_vs.weight")
VQVAE_NAMES = StateDictAdapter(
    Row("encoder.convs.{i}.conv.{key}", "encoder.down.{i}.{key}"),
    Row("encoder.conv_last.conv.{key}", "encoder.last.{key}"),
    Row("decoder.convts.{i}.convt.{key}", "decoder.up.{i}.{key}"),
    Row("pre_vq_conv.conv.{key}", "before.{key}"),
    Row("post_vq_conv.conv.{key}", "after.{key}"),
    *(
        row
        for axis, ours in (("w", "columns"), ("h", "rows"), ("t", "frames"))
        for row in (
            Row(
                tuple(f"{{coder}}.res_stack.{{i}}.block.8.attn_{axis}.{name}" for name in QKV),
                f"{{coder}}.residuals.{{i}}.block.8.{ours}.qkv.weight",
            ),
            Row(
                f"{{coder}}.res_stack.{{i}}.block.8.attn_{axis}.fc.{{key}}",
                f"{{coder}}.residuals.{{i}}.block.8.{ours}.out.{{key}}",
            ),
        )
    ),
    *(
        Row(f"{{coder}}.res_stack.{{i}}.block.{j}.conv.{{key}}", f"{{coder}}.residuals.{{i}}.block.{j}.{{key}}")
        for j in (2, 5)
    ),
    Row("{coder}.res_stack.{rest}", "{coder}.residuals.{rest}"),
    Row("codebook.embeddings", "codebook.vectors"),
    Row("codebook.N", "codebook.counts"),
    Row("codebook.z_avg", "codebook.sums"),
    Row((), "codebook.has_started"),
)


def prior_names(width: int) -> StateDictAdapter:
    """Return the table of a prior of this width."""
    layer, ours = "attn_stack.attn_nets.{i}", "blocks.{i}"
    norms = {f"{layer}.pre_attn_norm": f"{ours}.norm_attention", f"{layer}.pre_enc_norm": f"{ours}.norm_frames"}
    norms |= {f"{layer}.pre_fc_norm": f"{ours}.norm_mlp", "norm": "norm"}
    return StateDictAdapter(
        Row("fc_in.weight", "embed.weight"),
        Row("attn_stack.right_shift.sos", "start"),
        Row("attn_stack.pos_embd.emb.d_{i}", "positions.tables.{i}"),
        Row(tuple(f"{layer}.attn.{name}" for name in QKV), f"{ours}.attention.qkv.weight"),
        Row(f"{layer}.attn.fc.{{key}}", f"{ours}.attention.out.{{key}}"),
        Row(f"{layer}.enc_attn.w_qs.{{key}}", f"{ours}.frames.query.{{key}}"),
        Row(
            (f"{layer}.enc_attn.w_ks.weight", f"{layer}.enc_attn.w_vs.weight"),
            f"{ours}.frames.key_value.weight",
            lambda tensor: (tensor[:width], tensor[width:]),
        ),
        Row(f"{layer}.enc_attn.fc.{{key}}", f"{ours}.frames.out.{{key}}"),
        Row(f"{layer}.fc_block.{{rest}}", f"{ours}.mlp.{{rest}}"),
        *(
            row
            for name, mine in norms.items()
            for row in (
                Row(f"{name}.w.weight", f"{mine}.gain.weight", transposed),  # of norms with a gain per class
                Row(f"{name}.wb.weight", f"{mine}.bias.weight", transposed),
                Row(f"{name}.g", f"{mine}.gain"),
                Row(f"{name}.b", f"{mine}.bias"),
            )
        ),
        Row("fc_out.weight", "head.weight"),
        Row("cond_pos_embd.emb.d_{i}", "frame_positions.tables.{i}"),
        Row("resnet.stem.0.{key}", "frame_net.stem.0.{key}"),
        Row("resnet.stem.1.norm.norm.{key}", "frame_net.stem.1.{key}"),
        *(
            row
            for block, j in (("start_block", "0"), ("blocks.{j-1}", "{j}"))
            for row in (
                Row(f"resnet.group{{i+1}}.{block}.conv{{k}}.{{key}}", f"frame_net.groups.{{i}}.{j}.conv{{k}}.{{key}}"),
                Row(
                    f"resnet.group{{i+1}}.{block}.bnr{{k}}.norm.norm.{{key}}",
                    f"frame_net.groups.{{i}}.{j}.norm{{k}}.{{key}}",
                ),
            )
        ),
        Row("resnet.group{i+1}.start_block.proj_conv.{key}", "frame_net.groups.{i}.0.shortcut.0.{key}"),
        Row("resnet.group{i+1}.start_block.proj_bnr.norm.norm.{key}", "frame_net.groups.{i}.0.shortcut.1.{key}"),
        Row((), "codebook"),
    )


# ------------------------------------------------------------------ the world


def import_world(vqvae_path: Path | None, prior_path: Path) -> World:
    """Read a VQ-VAE and its prior and make a world of them.

    Args:
        vqvae_path: Checkpoint of the VQ-VAE; None takes the one in the prior's file. If there are both they must be
            the same.
        prior_path: Checkpoint of the prior.

    Returns:
        A world that draws as learned (temperature 1). Its provenance names the files with their hashes, the names that
        were passed over, and the facts that the files do not hold.

    Raises:
        UserError: If a file is no checkpoint, half of a pair is missing, or the two do not belong together.
    """
    vqvae_file, prior_file = _read_pair(vqvae_path, prior_path)
    prior_model = ExternalModel.of(prior_file)
    gives_size = ExternalModel.of(vqvae_file).hyper_parameters.get("sequence_length") is not None
    size = None if gives_size and prior_model.triple("latent") is None else _latent_shape(prior_model)
    vqvae = load_vqvae(vqvae_file, size)
    prior = load_prior(prior_file, vqvae)
    shape, config = vqvae.config, prior.config
    classes = tuple(f"class {i}" for i in range(config.n_classes))
    world = make_world(
        "videogpt",
        _system_config(shape, config),
        {"tokenizer": vqvae, "dynamics": prior},
        DataInfo(height=shape.height, width=shape.width),
        actions={},
        context_frames=config.cond_frames,
        classes=classes,
    )
    unknown = ["frames per second", "training data and splits", "clips to start from"]
    unknown += ["names of the classes"] if config.n_classes else []
    return with_origin(world, prior_file.path.stem, {"prior": prior_file, "vqvae": vqvae_file}, unknown)


def describe(world: World) -> dict[str, str]:
    """Describe an imported world as rows of a table."""
    tokenizer, dynamics = world.parts["tokenizer"], world.parts["dynamics"]
    assert isinstance(tokenizer, VQVAE3D) and isinstance(dynamics, AutoregressivePrior)
    vqvae, prior = tokenizer.config, dynamics.config
    files = world.info.provenance["imported"]
    condition = f"the first {prior.cond_frames} frame(s) as pixels" if prior.cond_frames else ""
    classes = f"one of {prior.n_classes} classes (their names are unknown)" if prior.n_classes else ""
    frames, rows, columns = vqvae.downsample
    return {
        "prior": describe_file(world.info, "prior"),
        "VQ-VAE": "the one in the prior's file"
        if files["vqvae"] == files["prior"]
        else describe_file(world.info, "vqvae"),
        "clips": f"{vqvae.clip_frames} frames of {vqvae.height}x{vqvae.width} pixels; frame rate unknown",
        "codes": f"{prior.latent_frames}x{prior.grid.rows}x{prior.grid.columns} per clip, one for {frames} "
        f"frame(s) of {rows}x{columns} pixels; {vqvae.n_codes:,} codes of width {vqvae.embedding_dim}",
        "VQ-VAE model": f"{vqvae.n_hiddens} wide, {vqvae.n_res_layers} residual layers, {describe_size(tokenizer)}",
        "prior model": f"{prior.hidden_dim} wide, {prior.heads} heads, {prior.layers} layers, {prior.attention} "
        f"attention, {describe_size(dynamics)}",
        "conditioned on": " and ".join(filter(None, (condition, classes))) or "nothing (it begins from nothing)",
    }


def _read_pair(vqvae_path: Path | None, prior_path: Path) -> tuple[ExternalCheckpoint, ExternalCheckpoint]:
    """Read the files of both models, one file for both without a path of the VQ-VAE; refuse half of a pair."""
    prior = read_checkpoint(prior_path)
    if not _is_prior(prior):
        what = "is a VQ-VAE" if _is_vqvae(prior) else "holds no VideoGPT model"
        raise UserError(f"{prior_path} {what}; --prior wants the checkpoint of a prior.")
    vqvae = prior if vqvae_path is None else read_checkpoint(vqvae_path)
    if vqvae_path is not None and not _is_vqvae(vqvae):
        what = "is a prior" if _is_prior(vqvae) else "holds no VideoGPT model"
        raise UserError(f"{vqvae_path} {what}; --vqvae wants the checkpoint of a VQ-VAE.")
    inside = ExternalModel.of(prior, "vqvae.").tensors
    if vqvae_path is None and not inside:
        raise UserError(
            f"{prior_path} is half of a pair: it holds no VQ-VAE; give the one it was trained with: --vqvae FILE."
        )
    given = vqvae.state_dict
    differing = [
        name
        for name in given.keys() | inside.keys()
        if name not in given or name not in inside or not torch.equal(given[name], inside[name])
    ]
    if vqvae_path is not None and inside and differing:
        raise UserError(
            f"{vqvae_path} is not the VQ-VAE that {prior_path} was trained with and holds: {len(differing)} of "
            f"{len(inside)} tensors differ, e.g. {brief(min(differing))}; leave out --vqvae to take the one inside."
        )
    return vqvae, prior


def _is_prior(checkpoint: ExternalCheckpoint) -> bool:
    return "fc_out.weight" in checkpoint.state_dict


def _is_vqvae(checkpoint: ExternalCheckpoint) -> bool:
    return "codebook.embeddings" in checkpoint.state_dict


def _system_config(vqvae: VQVAE3DConfig, prior: PriorConfig) -> dict[str, object]:
    """Name the sizes as the system's config does, so that recordings are read for this world as for a trained one."""
    shown = {field.name: getattr(prior, field.name) for field in fields(DynamicsConfig)}
    if not prior.cond_frames:
        shown = {name: value for name, value in shown.items() if not name.startswith("resnet_")}
    return {
        "sequence_length": vqvae.clip_frames,
        "fit": "crop",  # the published loader resizes the shorter side and cuts out the centre
        "class_cond": prior.n_classes > 0,
        "tokenizer": {field.name: getattr(vqvae, field.name) for field in fields(TokenizerConfig)},
        "dynamics": shown,
    }


# ------------------------------------------------------------------ shapes


def _times(shape: Shape) -> str:
    """Write a shape as in an error: 4x16x16."""
    return "x".join(map(str, shape))


def _latent_shape(prior: ExternalModel) -> Shape:
    """Return the shape of the codes that a prior has positions for."""
    t, h, w = (prior.shape(f"attn_stack.pos_embd.emb.d_{i}", 2)[0] for i in range(3))
    if t * h * w > LARGEST_CLIP:
        raise prior.error(f"has positions for {_times((t, h, w))} codes per clip; at most {LARGEST_CLIP:,} are read.")
    return t, h, w


def _clip_shape(model: ExternalModel) -> Shape:
    """Return the shape of the clips that a model was trained on, by its hyper-parameters."""
    side = model.number("resolution")
    return model.number("sequence_length"), side, side


def _clip_of(latent: Shape, downsample: Shape) -> Shape:
    """Return the shape of the clips whose codes have this shape, at these frames, rows and columns per code."""
    t, h, w = (n * s for n, s in zip(latent, downsample, strict=True))
    return t, h, w


# ------------------------------------------------------------------ the VQ-VAE


def load_vqvae(checkpoint: ExternalCheckpoint, latent: Shape | None = None) -> VQVAE3D:
    """Make the VQ-VAE of a checkpoint: its own, or the one inside a prior's.

    Args:
        checkpoint: Of a VQ-VAE or of a prior.
        latent: Shape of the codes of its clips; None takes the sizes of the hyper-parameters. A VQ-VAE has no
            positions, so that any size can be coded.

    Raises:
        UserError: If there is none in it, or its weights and its hyper-parameters contradict each other.
    """
    is_inside = _is_prior(checkpoint)
    model = ExternalModel.of(checkpoint, "vqvae." if is_inside else "")
    n_codes, embedding_dim = model.shape("codebook.embeddings", 2)
    widths = {
        "n_codes": n_codes,
        "embedding_dim": embedding_dim,
        "n_hiddens": model.shape("encoder.conv_last.conv.weight", 5)[0],
        "n_res_layers": model.count(r"encoder\.res_stack\.(\d+)\.block\."),
    }
    if is_inside:
        downsample = _downsample_of_prior(ExternalModel.of(checkpoint))
    else:
        model.agree(**widths)
        found = model.triple("downsample")
        if found is None:
            raise model.error("does not say its downsample, which weights do not show; add it to its hyper-parameters.")
        downsample = found
    halvings, n_convs = max(s.bit_length() - 1 for s in downsample), model.count(r"encoder\.convs\.(\d+)\.")
    if halvings != n_convs:
        raise model.error(f"has {n_convs} strided convolutions; downsample {_times(downsample)} needs {halvings}.")
    frames, height, width = _clip_of(latent, downsample) if latent else _clip_shape(model)
    sizes = {"clip_frames": frames, "height": height, "width": width, **widths}
    vqvae = model.fill(lambda: VQVAE3D(VQVAE3DConfig(downsample=downsample, **sizes)), VQVAE_NAMES.published)
    # the published flag is not saved; a codebook that was never used counts nothing
    vqvae.codebook.has_started.copy_(vqvae.codebook.counts.any())
    return vqvae


def _downsample_of_prior(prior: ExternalModel) -> Shape:
    """Divide the clip that a prior was trained on by its positions: its file does not hold the VQ-VAE's strides."""
    said = prior.triple("downsample")
    if said is not None:
        return said
    clip, latent = _clip_shape(prior), _latent_shape(prior)
    t, h, w = (n // m for n, m in zip(clip, latent, strict=True))
    if _clip_of(latent, (t, h, w)) != clip or not t * h * w:
        raise prior.error(
            f"says clips of {_times(clip)} and has positions for {_times(latent)} codes, which do not divide them; "
            "the two do not belong together."
        )
    return t, h, w


# ------------------------------------------------------------------ the prior


def load_prior(checkpoint: ExternalCheckpoint, vqvae: VQVAE3D) -> AutoregressivePrior:
    """Make the prior of a checkpoint.

    Args:
        checkpoint: Of a prior, with or without its VQ-VAE.
        vqvae: The VQ-VAE whose codes it was trained on.

    Raises:
        UserError: If it holds none, does not fit the VQ-VAE, or contradicts its hyper-parameters.
    """
    model = ExternalModel.of(checkpoint).without(r"vqvae\.")
    hidden_dim, embedding_dim = model.shape("fc_in.weight", 2)
    n_codes, latent = model.shape("fc_out.weight", 2)[0], _latent_shape(model)
    _check_fit(model, vqvae.config, n_codes, embedding_dim, latent)
    fields: dict[str, Any] = {
        "layers": model.count(r"attn_stack\.attn_nets\.(\d+)\."),
        "hidden_dim": hidden_dim,
        **_conditions(model, _clip_of(latent, vqvae.config.downsample)),
    }
    model.agree(layers=fields["layers"], hidden_dim=hidden_dim)
    fields |= {
        "heads": model.number("heads"),
        "attention": _attention(model, prod(latent)),
        "dropout": model.fraction("dropout", 0.2),
        "attn_dropout": model.fraction("attn_dropout", 0.3),
    }

    def build() -> AutoregressivePrior:
        grid = GridSpec(rows=latent[1], columns=latent[2], codebook_size=n_codes)
        return AutoregressivePrior(
            PriorConfig(grid=grid, latent_frames=latent[0], embedding_dim=embedding_dim, **fields)
        )

    prior = model.without(MASK).fill(build, prior_names(hidden_dim).published)
    prior.codebook.copy_(vqvae.codebook.vectors)
    return prior


def _check_fit(model: ExternalModel, vqvae: VQVAE3DConfig, n_codes: int, width: int, latent: Shape) -> None:
    """Refuse a prior that was trained on codes or clips of another VQ-VAE."""
    if (n_codes, width) != (vqvae.n_codes, vqvae.embedding_dim):
        raise model.error(
            f"does not fit the VQ-VAE: it was trained on {n_codes} codes of width {width}, the VQ-VAE has "
            f"{vqvae.n_codes} of width {vqvae.embedding_dim}; give the VQ-VAE it was trained with."
        )
    if model.triple("latent") is None:
        clip, coded = _clip_of(latent, vqvae.downsample), (vqvae.clip_frames, vqvae.height, vqvae.width)
        if clip != coded:
            raise model.error(
                f"does not fit the VQ-VAE: it has positions for {_times(latent)} codes, clips of {_times(clip)}; the "
                f"VQ-VAE codes clips of {_times(coded)}. Give the VQ-VAE it was trained with."
            )
        model.agree(sequence_length=clip[0], resolution=clip[1])
    elif model.triple("latent") != latent:
        said = brief(model.hyper_parameters["latent"])
        raise model.error(f"says latent {said}; it has positions for {_times(latent)} codes.")


def _conditions(model: ExternalModel, clip: Shape) -> dict[str, int]:
    """Read the classes and the conditioning frames of a prior from the tensors that read them."""
    n_classes = model.shape("norm.w.weight", 2)[1] if "norm.w.weight" in model.tensors else 0
    model.agree(class_cond=n_classes > 0, **({"class_cond_dim": n_classes} if n_classes else {}))
    fields = {"n_classes": n_classes, "cond_height": clip[1], "cond_width": clip[2]}
    if "cond_pos_embd.emb.d_0" not in model.tensors:
        model.agree(n_cond_frames=0)
        return {**fields, "cond_frames": 0}
    n_frames, rows, columns = (model.shape(f"cond_pos_embd.emb.d_{i}", 2)[0] for i in range(3))
    if (rows * FRAME_STRIDE, columns * FRAME_STRIDE) != clip[1:]:
        raise model.error(
            f"reads conditioning frames of {rows * FRAME_STRIDE}x{columns * FRAME_STRIDE} pixels; its clips have "
            f"{clip[1]}x{clip[2]}: the two do not belong together."
        )
    net = {
        "resnet_width": model.shape("resnet.stem.0.weight", 5)[0],
        "resnet_dim": model.shape("resnet.group4.start_block.conv1.weight", 5)[0],
    }
    model.agree(n_cond_frames=n_frames, **net)
    return {**fields, "cond_frames": n_frames, **net}


def _attention(model: ExternalModel, n_tokens: int) -> str:
    """Return the kind of attention; full attention keeps its mask in the file, which must be the causal one."""
    masks = [name for name in model.tensors if re.match(MASK, name)]
    said = model.hyper_parameters.get("attn_type", "full" if masks else "nothing")
    if not isinstance(said, str) or said not in ("full", "sparse"):
        raise model.error(f"says attn_type {brief(said)}; wanted 'full' or 'sparse'.")
    if masks and said == "sparse":
        raise model.error(
            "says attn_type sparse and holds the masks of full attention; the two do not belong together."
        )
    for name in masks:
        mask = model.tensors[name]
        if mask.shape != (n_tokens, n_tokens) or not torch.equal(mask, torch.ones_like(mask).tril()):
            raise model.error(f"has another mask than that of causal attention over {n_tokens} codes in {name}.")
    return said
