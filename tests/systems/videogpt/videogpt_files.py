"""VideoGPT parts with random weights, and checkpoints of them as the published code would write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.lightning_files import write_lightning
from tests.tiny import tiny_config
from torch import Tensor

from reelworld.data.episodes import DataInfo
from reelworld.systems.videogpt.config import Config
from reelworld.systems.videogpt.convert import VQVAE_NAMES, prior_names
from reelworld.systems.videogpt.model import build
from reelworld.systems.videogpt.vqvae import VQVAE3D

SIDE = 32
VARIANTS: dict[str, dict[str, Any]] = {
    "alone": {"dynamics__cond_frames": 0},
    "frame": {},
    "two-frames": {"dynamics__cond_frames": 2, "dynamics__resnet_dim": 12},
    "class": {"dynamics__cond_frames": 0, "class_cond": True},
    "frame-and-class": {"class_cond": True},
    "sparse": {"dynamics__cond_frames": 0, "dynamics__attention": "sparse"},
    "sparse-frame": {"dynamics__attention": "sparse"},
    "time-only": {
        "dynamics__cond_frames": 0,
        "tokenizer__downsample": (4, 2, 2),
        "sequence_length": 4,
        "dynamics__layers": 1,
    },
}
"""Fields that differ from the tiny preset."""


def make_parts(seed: int = 0, **fields: Any) -> tuple[Config, Any, Any]:
    """Build a VQ-VAE and a prior in which every number is random, also those that start as zeros or ones."""
    config = tiny_config("videogpt", **fields)
    classes = ("a", "b", "c") if config.class_cond else ()
    built = build(config, DataInfo(height=SIDE, width=SIDE, classes=classes)).parts
    rng = torch.Generator().manual_seed(seed)
    for part in built.values():
        for name, tensor in part.eval().state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                tensor.data.copy_(0.2 * torch.randn(tensor.shape, generator=rng))
            if name.endswith(("running_var", "counts")):
                tensor.data.abs_().add_(0.5)
    vqvae, prior = built["tokenizer"], built["dynamics"]
    vqvae.codebook.has_started.fill_(True)
    prior.codebook.copy_(vqvae.codebook.vectors)
    return config, vqvae, prior


def vqvae_args(config: Config) -> dict[str, Any]:
    """Hyper-parameters of a VQ-VAE as the published script saves them, with those of the data and the trainer."""
    same = ("n_codes", "embedding_dim", "n_hiddens", "n_res_layers")
    own = {name: getattr(config.tokenizer, name) for name in same} | {"sequence_length": config.sequence_length}
    return {
        **own,
        "downsample": list(config.tokenizer.downsample),
        "resolution": SIDE,
        "batch_size": 32,
        "max_epochs": None,
    }


def prior_args(config: Config) -> dict[str, Any]:
    """The same of a prior: the constants of its frame network are not in it, the VQ-VAE is a path."""
    same = ("hidden_dim", "heads", "layers", "dropout", "attn_dropout")
    return {
        **{name: getattr(config.dynamics, name) for name in same},
        "sequence_length": config.sequence_length,
        "attn_type": config.dynamics.attention,
        "n_cond_frames": config.dynamics.cond_frames,
        "class_cond": config.class_cond,
        "class_cond_dim": 3 if config.class_cond else None,
        "resolution": SIDE,
        "vqvae": "/lost/vqvae.ckpt",
        "max_steps": 200_000,
    }


def published(part: Any, read: Callable[[Tensor], Tensor | None] = lambda tensor: tensor) -> dict[str, Tensor]:
    """Give a part's tensors their published names."""
    names = VQVAE_NAMES if isinstance(part, VQVAE3D) else prior_names(part.config.hidden_dim)
    return names.published(part, read)


def weights(part: Any) -> dict[str, torch.Tensor]:
    """A part's tensors under their published names."""
    return {name: tensor.clone() for name, tensor in published(part).items()}


def prior_weights(config: Config, vqvae: Any, prior: Any, *, with_vqvae: bool) -> dict[str, torch.Tensor]:
    """Tensors that the published prior saves: its weights, its masks, and its VQ-VAE."""
    tensors = weights(prior)
    if config.dynamics.attention == "full":
        mask = torch.ones(prior.config.n_tokens, prior.config.n_tokens).tril()
        tensors |= {f"attn_stack.attn_nets.{i}.attn.attn.mask": mask.clone() for i in range(config.dynamics.layers)}
    return tensors | ({f"vqvae.{k}": v for k, v in weights(vqvae).items()} if with_vqvae else {})


def write_pair(
    folder: Path, parts: tuple[Config, Any, Any], *, with_vqvae: bool = True, is_attribute_dict: bool = False
) -> tuple[Path, Path]:
    """Write ``vqvae.ckpt`` and ``gpt.ckpt``; return their paths."""
    config, vqvae, _ = parts
    paths = folder / "vqvae.ckpt", folder / "gpt.ckpt"
    kind = {"is_attribute_dict": is_attribute_dict}
    write_lightning(paths[0], weights(vqvae), vqvae_args(config), **kind)
    write_lightning(paths[1], prior_weights(*parts, with_vqvae=with_vqvae), prior_args(config), **kind)
    return paths
