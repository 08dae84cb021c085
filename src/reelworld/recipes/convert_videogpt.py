"""VideoGPT's published checkpoints -> a world: names, shapes, hyper-parameters.

    reelworld import videogpt --vqvae bair_stride4x2x2.ckpt --prior bair_gpt.ckpt --out runs/bair

A prior's checkpoint holds its VQ-VAE too, below ``vqvae.``; the path of that VQ-VAE in its hyper-parameters is never
followed. What hyper-parameters do not say is read off the shapes, and both must agree.

Source: Yan et al. 2021 (arXiv:2104.10157), the authors' code and its checkpoints (PyTorch Lightning 1.3.3). The names
of tensors are in convert_videogpt_names.py.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelworld.recipes.convert_videogpt_names import published
from reelworld.types import UserError
from reelworld.worlds.inert_pickle import brief

if TYPE_CHECKING:
    from reelworld.dynamics.autoregressive import AutoregressivePrior, PriorConfig
    from reelworld.tokenizers.vqvae3d import VQVAE3D, VQVAE3DConfig
    from reelworld.worlds.foreign_checkpoint import ForeignCheckpoint
    from reelworld.worlds.foreign_model import ForeignModel
    from reelworld.worlds.world import World

    Shape = tuple[int, int, int]

__all__ = ["import_world", "load_prior", "load_vqvae", "published"]

LARGEST_CLIP = 1 << 18
"""Codes per clip; published priors have 4,096."""
FRAME_STRIDE = 4
"""Pixels per feature of the network that reads conditioning frames."""
MASK = r"attn_stack\.attn_nets\.\d+\.attn\.attn\.mask$"


# ------------------------------------------------------------------ what a checkpoint says


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _is_prior(checkpoint: ForeignCheckpoint) -> bool:
    return "fc_out.weight" in checkpoint.state_dict


def _is_vqvae(checkpoint: ForeignCheckpoint) -> bool:
    return "codebook.embeddings" in checkpoint.state_dict


def _holds_vqvae(checkpoint: ForeignCheckpoint) -> bool:
    return any(name.startswith("vqvae.") for name in checkpoint.state_dict)


def _latent(prior: ForeignModel) -> Shape:
    """Latent frames, rows and columns of a prior's clips: what it has positions for."""
    t, h, w = (prior.shape(f"attn_stack.pos_embd.emb.d_{i}", 2)[0] for i in range(3))
    if t * h * w > LARGEST_CLIP:
        raise prior.error(f"has positions for {_times((t, h, w))} codes per clip; at most {LARGEST_CLIP:,} are read.")
    return t, h, w


def _clip(model: ForeignModel) -> Shape:
    """Frames, rows and columns of the clips that a model says it was trained on."""
    side = model.number("resolution")
    return model.number("sequence_length"), side, side


# ------------------------------------------------------------------ parts


def load_vqvae(checkpoint: ForeignCheckpoint, latent: Shape | None = None) -> VQVAE3D:
    """Make the VQ-VAE of a checkpoint: its own, or the one inside a prior's.

    Args:
        checkpoint: Of a VQ-VAE or of a prior.
        latent: Latent frames, rows and columns of the clips it shall code; None takes the sizes that are said. A
            VQ-VAE has no positions, so that any size can be coded.

    Raises:
        UserError: If there is none in it, or its weights and its hyper-parameters contradict each other.
    """
    from reelworld.tokenizers.vqvae3d import VQVAE3D, VQVAE3DConfig
    from reelworld.worlds.foreign_model import ForeignModel

    is_inside = _is_prior(checkpoint)
    model = ForeignModel.of(checkpoint, "vqvae." if is_inside else "")
    n_codes, embedding_dim = model.shape("codebook.embeddings", 2)
    widths = {
        "n_codes": n_codes,
        "embedding_dim": embedding_dim,
        "n_hiddens": model.shape("encoder.conv_last.conv.weight", 5)[0],
        "n_res_layers": model.count(r"encoder\.res_stack\.(\d+)\.block\."),
    }
    if is_inside:
        downsample = _downsample_of_prior(ForeignModel.of(checkpoint))
    else:
        model.agree(**widths)
        found = model.triple("downsample")
        if found is None:
            raise model.error("does not say its downsample, which weights do not show; add it to its hyper-parameters.")
        downsample = found
    halvings, n_convs = max(s.bit_length() - 1 for s in downsample), model.count(r"encoder\.convs\.(\d+)\.")
    if halvings != n_convs:
        raise model.error(f"has {n_convs} strided convolutions; downsample {_times(downsample)} needs {halvings}.")
    frames, height, width = _multiplied(latent, downsample) if latent else _clip(model)
    sizes = {"clip_frames": frames, "height": height, "width": width}
    vqvae: VQVAE3D = model.fill(lambda: VQVAE3D(VQVAE3DConfig(downsample=downsample, **sizes, **widths)), published)
    # the published flag is not saved; a codebook that was never used counts nothing
    vqvae.codebook.has_started.copy_(vqvae.codebook.counts.any())
    return vqvae


def _multiplied(latent: Shape, downsample: Shape) -> Shape:
    t, h, w = (n * s for n, s in zip(latent, downsample, strict=True))
    return t, h, w


def _downsample_of_prior(prior: ForeignModel) -> Shape:
    """Divide the clip that a prior was trained on by its positions: its file does not say the VQ-VAE's strides."""
    said = prior.triple("downsample")
    if said is not None:
        return said
    clip, latent = _clip(prior), _latent(prior)
    t, h, w = (n // m for n, m in zip(clip, latent, strict=True))
    if _multiplied(latent, (t, h, w)) != clip or not t * h * w:
        raise prior.error(
            f"says clips of {_times(clip)} and has positions for {_times(latent)} codes, which do not divide them; "
            "the two do not belong together."
        )
    return t, h, w


def load_prior(checkpoint: ForeignCheckpoint, vqvae: VQVAE3D) -> AutoregressivePrior:
    """Make the prior of a checkpoint.

    Args:
        checkpoint: Of a prior, with or without its VQ-VAE.
        vqvae: The VQ-VAE whose codes it was trained on.

    Raises:
        UserError: If it holds none, does not fit the VQ-VAE, or contradicts its hyper-parameters.
    """
    from reelworld.dynamics.autoregressive import AutoregressivePrior
    from reelworld.worlds.foreign_model import ForeignModel

    model = ForeignModel.of(checkpoint).without(r"vqvae\.")
    fields = _prior_fields(model, vqvae.config)
    prior: AutoregressivePrior = model.without(MASK).fill(
        lambda: AutoregressivePrior(_prior_config(**fields)), published
    )
    prior.codebook.copy_(vqvae.codebook.vectors)
    return prior


def _prior_fields(model: ForeignModel, vqvae: VQVAE3DConfig) -> dict[str, Any]:
    hidden_dim, embedding_dim = model.shape("fc_in.weight", 2)
    n_codes, latent = model.shape("fc_out.weight", 2)[0], _latent(model)
    clip = _multiplied(latent, vqvae.downsample)
    made = (vqvae.clip_frames, vqvae.height, vqvae.width)
    if (n_codes, embedding_dim) != (vqvae.n_codes, vqvae.embedding_dim):
        raise model.error(
            f"does not fit the VQ-VAE: it was trained on {n_codes} codes of width {embedding_dim}, the VQ-VAE has "
            f"{vqvae.n_codes} of width {vqvae.embedding_dim}; give the VQ-VAE it was trained with."
        )
    if model.triple("latent") is None:
        if clip != made:
            raise model.error(
                f"does not fit the VQ-VAE: it has positions for {_times(latent)} codes, clips of {_times(clip)}; the "
                f"VQ-VAE codes clips of {_times(made)}. Give the VQ-VAE it was trained with."
            )
        model.agree(sequence_length=clip[0], resolution=clip[1])
    elif model.triple("latent") != latent:
        raise model.error(f"says latent {brief(model.said['latent'])}; it has positions for {_times(latent)} codes.")
    fields = {
        "layers": model.count(r"attn_stack\.attn_nets\.(\d+)\."),
        "hidden_dim": hidden_dim,
        **_class_fields(model),
        **_frame_fields(model, clip),
    }
    model.agree(layers=fields["layers"], hidden_dim=hidden_dim)
    return {
        "codes": (n_codes, embedding_dim),
        "latent": latent,
        "heads": model.number("heads"),
        "attention": _attention(model, prod(latent)),
        "dropout": model.share("dropout", 0.2),
        "attn_dropout": model.share("attn_dropout", 0.3),
        **fields,
    }


def _prior_config(codes: tuple[int, int], latent: Shape, **fields: Any) -> PriorConfig:
    from reelworld.dynamics.autoregressive import PriorConfig
    from reelworld.types import GridSpec

    grid = GridSpec(rows=latent[1], columns=latent[2], codebook_size=codes[0])
    return PriorConfig(grid=grid, latent_frames=latent[0], embedding_dim=codes[1], **fields)


def _class_fields(model: ForeignModel) -> dict[str, int]:
    n_classes = model.shape("norm.w.weight", 2)[1] if "norm.w.weight" in model.tensors else 0
    model.agree(class_cond=n_classes > 0)
    if n_classes:
        model.agree(class_cond_dim=n_classes)
    return {"n_classes": n_classes}


def _frame_fields(model: ForeignModel, clip: Shape) -> dict[str, int]:
    """Say how frames condition the prior, from the network that reads them and its positions."""
    if "cond_pos_embd.emb.d_0" not in model.tensors:
        model.agree(n_cond_frames=0)
        return {"cond_frames": 0, "cond_height": clip[1], "cond_width": clip[2]}
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
    return {"cond_frames": n_frames, "cond_height": clip[1], "cond_width": clip[2], **net}


def _attention(model: ForeignModel, n_tokens: int) -> str:
    """Say which attention it is; full attention keeps its mask in the file, which must be the causal one."""
    import torch

    masks = [name for name in model.tensors if re.match(MASK, name)]
    said = model.said.get("attn_type", "full" if masks else "nothing")
    if type(said) is not str or said not in ("full", "sparse"):
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


# ------------------------------------------------------------------ the world


def import_world(vqvae_path: Path | None, prior_path: Path) -> World:
    """Read a VQ-VAE and its prior and make a world of them.

    Args:
        vqvae_path: Checkpoint of the VQ-VAE; None takes the one in the prior's file. Where there are both they must
            be the same.
        prior_path: Checkpoint of the prior.

    Returns:
        A world that draws as learned (temperature 1). Its provenance names the files with their hashes, what was
        passed over, and what the files do not tell.

    Raises:
        UserError: If a file is no checkpoint, half of a pair is missing, or the two do not belong together.
    """
    from reelworld.worlds.fitting import check_parts
    from reelworld.worlds.foreign_checkpoint import read_checkpoint
    from reelworld.worlds.foreign_model import ForeignModel

    prior_file = read_checkpoint(prior_path)
    if not _is_prior(prior_file):
        what = "is a VQ-VAE" if _is_vqvae(prior_file) else "holds no VideoGPT model"
        raise UserError(f"{prior_path} {what}; --prior wants the checkpoint of a prior.")
    vqvae_file = prior_file if vqvae_path is None else read_checkpoint(vqvae_path)
    if vqvae_path is not None and not _is_vqvae(vqvae_file):
        what = "is a prior" if _is_prior(vqvae_file) else "holds no VideoGPT model"
        raise UserError(f"{vqvae_path} {what}; --vqvae wants the checkpoint of a VQ-VAE.")
    if vqvae_path is None and not _holds_vqvae(prior_file):
        raise UserError(
            f"{prior_path} is half of a pair: it holds no VQ-VAE; give the one it was trained with: --vqvae FILE."
        )
    if vqvae_path is not None and _holds_vqvae(prior_file):
        _check_same(vqvae_file, prior_file)
    prior_model = ForeignModel.of(prior_file)
    says_size = ForeignModel.of(vqvae_file).said.get("sequence_length") is not None
    size = None if says_size and prior_model.triple("latent") is None else _latent(prior_model)
    vqvae = load_vqvae(vqvae_file, size)
    world = _world(vqvae, load_prior(prior_file, vqvae), vqvae_file, prior_file)
    check_parts(world, str(prior_path))
    return world


def _check_same(vqvae: ForeignCheckpoint, prior: ForeignCheckpoint) -> None:
    """Refuse a VQ-VAE that is not the one in the prior's file."""
    import torch

    from reelworld.worlds.foreign_model import ForeignModel

    given, inside = vqvae.state_dict, ForeignModel.of(prior, "vqvae.").tensors
    differing = [
        name
        for name in given.keys() | inside.keys()
        if name not in given or name not in inside or not torch.equal(given[name], inside[name])
    ]
    if differing:
        raise UserError(
            f"{vqvae.path} is not the VQ-VAE that {prior.path} was trained with and holds: {len(differing)} of "
            f"{len(inside)} tensors differ, e.g. {brief(min(differing))}; leave out --vqvae to take the one inside."
        )


def _world(
    vqvae: VQVAE3D, prior: AutoregressivePrior, vqvae_file: ForeignCheckpoint, prior_file: ForeignCheckpoint
) -> World:
    import reelworld
    from reelworld.data.folder import DataInfo
    from reelworld.worlds.making import make_world
    from reelworld.worlds.parts import file_hash

    config = prior.config
    info = DataInfo(
        height=vqvae.config.height,
        width=vqvae.config.width,
        classes=tuple(f"class {i}" for i in range(config.n_classes)),
    )
    world = make_world(
        "videogpt",
        _recipe_fields(vqvae.config, config),
        {"tokenizer": vqvae, "dynamics": prior},
        info,
        actions={},
        context_frames=config.cond_frames,
    )
    files = {"prior": prior_file, "vqvae": vqvae_file}
    unknown = ["frames per second", "training data and splits", "clips to start from"]
    provenance = {
        "imported": {part: {"file": f.path.name, "sha256": file_hash(f.path)} for part, f in files.items()},
        "names_passed_over": sorted({*prior_file.inert, *vqvae_file.inert}),
        "unknown": [*unknown, "names of the classes"] if config.n_classes else unknown,
        "config": world.info.provenance["config"],
        "versions": {"reelworld": reelworld.__version__},
    }
    world.info = replace(world.info, name=prior_file.path.stem, provenance=provenance)
    return world


def _recipe_fields(vqvae: VQVAE3DConfig, prior: PriorConfig) -> dict[str, Any]:
    """Name what is known as the recipe does, so that recordings are read for this world as for a trained one."""
    same = ("n_codes", "embedding_dim", "n_hiddens", "n_res_layers", "downsample")
    both = ("hidden_dim", "heads", "layers", "attention", "dropout", "attn_dropout", "cond_frames")
    return {
        "sequence_length": vqvae.clip_frames,
        "fit": "crop",  # the published loader resizes the shorter side and cuts out the centre
        **{name: getattr(vqvae, name) for name in same},
        **{name: getattr(prior, name) for name in both},
        "class_cond": prior.n_classes > 0,
        **({"resnet_width": prior.resnet_width, "resnet_dim": prior.resnet_dim} if prior.cond_frames else {}),
    }
