"""What a published checkpoint of VideoGPT holds, and how large its clips and their codes are.

A shape here is frames, rows and columns of a clip, or of its codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.external_model import ExternalModel

__all__ = ["Shape", "clip_shape", "holds_vqvae", "is_prior", "is_vqvae", "latent_shape", "multiplied", "times"]

Shape = tuple[int, int, int]

LARGEST_CLIP = 1 << 18
"""Codes per clip; published priors have 4,096."""


def times(shape: Shape) -> str:
    """Write it as in an error: 4x16x16."""
    return "x".join(map(str, shape))


def is_prior(checkpoint: ExternalCheckpoint) -> bool:
    """Say whether a checkpoint is of a prior."""
    return "fc_out.weight" in checkpoint.state_dict


def is_vqvae(checkpoint: ExternalCheckpoint) -> bool:
    """Say whether a checkpoint is of a VQ-VAE alone."""
    return "codebook.embeddings" in checkpoint.state_dict


def holds_vqvae(checkpoint: ExternalCheckpoint) -> bool:
    """Say whether a prior's checkpoint has its VQ-VAE in it."""
    return any(name.startswith("vqvae.") for name in checkpoint.state_dict)


def latent_shape(prior: ExternalModel) -> Shape:
    """Read the latent frames, rows and columns of a prior's clips: what it has positions for."""
    t, h, w = (prior.shape(f"attn_stack.pos_embd.emb.d_{i}", 2)[0] for i in range(3))
    if t * h * w > LARGEST_CLIP:
        raise prior.error(f"has positions for {times((t, h, w))} codes per clip; at most {LARGEST_CLIP:,} are read.")
    return t, h, w


def clip_shape(model: ExternalModel) -> Shape:
    """Read the frames, rows and columns of the clips that a model says it was trained on."""
    side = model.number("resolution")
    return model.number("sequence_length"), side, side


def multiplied(latent: Shape, downsample: Shape) -> Shape:
    """Say how large the clips are whose codes have these shapes, at these frames, rows and columns per code."""
    t, h, w = (n * s for n, s in zip(latent, downsample, strict=True))
    return t, h, w
