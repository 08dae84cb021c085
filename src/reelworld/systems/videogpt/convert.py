"""VideoGPT's published checkpoints -> a world.

    reelworld import videogpt --vqvae bair_stride4x2x2.ckpt --prior bair_gpt.ckpt --out runs/bair

A prior's checkpoint holds its VQ-VAE too, below ``vqvae.``; the path of that VQ-VAE in its hyper-parameters is never
followed. What hyper-parameters do not say is read off the shapes, and both must agree. Each of the two models has a
file of its own beside this one, and so have the names of tensors.

Source: Yan et al. 2021 (arXiv:2104.10157), the authors' code and its checkpoints (PyTorch Lightning 1.3.3).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelworld.systems.videogpt.convert_prior import load_prior
from reelworld.systems.videogpt.convert_shapes import holds_vqvae, is_prior, is_vqvae, latent_shape
from reelworld.systems.videogpt.convert_vqvae import load_vqvae
from reelworld.types import UserError
from reelworld.worlds.pickle_check import brief

if TYPE_CHECKING:
    from reelworld.systems.videogpt.prior import AutoregressivePrior, PriorConfig
    from reelworld.systems.videogpt.vqvae import VQVAE3D, VQVAE3DConfig
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.world import World

__all__ = ["import_world"]


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
    from reelworld.worlds.external_checkpoint import read_checkpoint
    from reelworld.worlds.external_model import ExternalModel
    from reelworld.worlds.validate import check_parts

    prior_file = read_checkpoint(prior_path)
    if not is_prior(prior_file):
        what = "is a VQ-VAE" if is_vqvae(prior_file) else "holds no VideoGPT model"
        raise UserError(f"{prior_path} {what}; --prior wants the checkpoint of a prior.")
    vqvae_file = prior_file if vqvae_path is None else read_checkpoint(vqvae_path)
    if vqvae_path is not None and not is_vqvae(vqvae_file):
        what = "is a prior" if is_prior(vqvae_file) else "holds no VideoGPT model"
        raise UserError(f"{vqvae_path} {what}; --vqvae wants the checkpoint of a VQ-VAE.")
    if vqvae_path is None and not holds_vqvae(prior_file):
        raise UserError(
            f"{prior_path} is half of a pair: it holds no VQ-VAE; give the one it was trained with: --vqvae FILE."
        )
    if vqvae_path is not None and holds_vqvae(prior_file):
        _check_same(vqvae_file, prior_file)
    prior_model = ExternalModel.of(prior_file)
    says_size = ExternalModel.of(vqvae_file).said.get("sequence_length") is not None
    size = None if says_size and prior_model.triple("latent") is None else latent_shape(prior_model)
    vqvae = load_vqvae(vqvae_file, size)
    world = _world(vqvae, load_prior(prior_file, vqvae), vqvae_file, prior_file)
    check_parts(world, str(prior_path))
    return world


def _check_same(vqvae: ExternalCheckpoint, prior: ExternalCheckpoint) -> None:
    """Refuse a VQ-VAE that is not the one in the prior's file."""
    import torch

    from reelworld.worlds.external_model import ExternalModel

    given, inside = vqvae.state_dict, ExternalModel.of(prior, "vqvae.").tensors
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
    vqvae: VQVAE3D, prior: AutoregressivePrior, vqvae_file: ExternalCheckpoint, prior_file: ExternalCheckpoint
) -> World:
    from reelworld.data.folder import DataInfo
    from reelworld.worlds.assemble import make_world, with_origin

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
    unknown = ["frames per second", "training data and splits", "clips to start from"]
    unknown += ["names of the classes"] if config.n_classes else []
    return with_origin(world, prior_file.path.stem, {"prior": prior_file, "vqvae": vqvae_file}, unknown)


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
