"""The prior of VideoGPT's published checkpoints: its sizes and conditions, and whether it belongs to a VQ-VAE."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

from reelworld.systems.videogpt.convert_names import published
from reelworld.systems.videogpt.convert_shapes import Shape, latent_shape, multiplied, times
from reelworld.worlds.pickle_check import brief

if TYPE_CHECKING:
    from reelworld.systems.videogpt.prior import AutoregressivePrior, PriorConfig
    from reelworld.systems.videogpt.vqvae import VQVAE3D, VQVAE3DConfig
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.external_model import ExternalModel

__all__ = ["load_prior"]

FRAME_STRIDE = 4
"""Pixels per feature of the network that reads conditioning frames."""
MASK = r"attn_stack\.attn_nets\.\d+\.attn\.attn\.mask$"


def load_prior(checkpoint: ExternalCheckpoint, vqvae: VQVAE3D) -> AutoregressivePrior:
    """Make the prior of a checkpoint.

    Args:
        checkpoint: Of a prior, with or without its VQ-VAE.
        vqvae: The VQ-VAE whose codes it was trained on.

    Raises:
        UserError: If it holds none, does not fit the VQ-VAE, or contradicts its hyper-parameters.
    """
    from reelworld.systems.videogpt.prior import AutoregressivePrior
    from reelworld.worlds.external_model import ExternalModel

    model = ExternalModel.of(checkpoint).without(r"vqvae\.")
    fields = _prior_fields(model, vqvae.config)
    prior: AutoregressivePrior = model.without(MASK).fill(
        lambda: AutoregressivePrior(_prior_config(**fields)), published
    )
    prior.codebook.copy_(vqvae.codebook.vectors)
    return prior


def _prior_fields(model: ExternalModel, vqvae: VQVAE3DConfig) -> dict[str, Any]:
    hidden_dim, embedding_dim = model.shape("fc_in.weight", 2)
    n_codes, latent = model.shape("fc_out.weight", 2)[0], latent_shape(model)
    clip = multiplied(latent, vqvae.downsample)
    made = (vqvae.clip_frames, vqvae.height, vqvae.width)
    if (n_codes, embedding_dim) != (vqvae.n_codes, vqvae.embedding_dim):
        raise model.error(
            f"does not fit the VQ-VAE: it was trained on {n_codes} codes of width {embedding_dim}, the VQ-VAE has "
            f"{vqvae.n_codes} of width {vqvae.embedding_dim}; give the VQ-VAE it was trained with."
        )
    if model.triple("latent") is None:
        if clip != made:
            raise model.error(
                f"does not fit the VQ-VAE: it has positions for {times(latent)} codes, clips of {times(clip)}; the "
                f"VQ-VAE codes clips of {times(made)}. Give the VQ-VAE it was trained with."
            )
        model.agree(sequence_length=clip[0], resolution=clip[1])
    elif model.triple("latent") != latent:
        raise model.error(f"says latent {brief(model.said['latent'])}; it has positions for {times(latent)} codes.")
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
    from reelworld.systems.videogpt.prior import PriorConfig
    from reelworld.types import GridSpec

    grid = GridSpec(rows=latent[1], columns=latent[2], codebook_size=codes[0])
    return PriorConfig(grid=grid, latent_frames=latent[0], embedding_dim=codes[1], **fields)


def _class_fields(model: ExternalModel) -> dict[str, int]:
    n_classes = model.shape("norm.w.weight", 2)[1] if "norm.w.weight" in model.tensors else 0
    model.agree(class_cond=n_classes > 0)
    if n_classes:
        model.agree(class_cond_dim=n_classes)
    return {"n_classes": n_classes}


def _frame_fields(model: ExternalModel, clip: Shape) -> dict[str, int]:
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


def _attention(model: ExternalModel, n_tokens: int) -> str:
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
