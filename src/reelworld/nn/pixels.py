"""Pixels between their forms: uint8 on disk and screen, float in [-1, 1] inside models, patches of a grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reelworld.types import UserError


def to_float(pixels: Tensor) -> Tensor:
    """Turn uint8 pixels (any shape) into float32 in [-1, 1]."""
    return pixels.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(video: Tensor) -> Tensor:
    """Turn floats in [-1, 1] (any shape; values outside are clamped) into uint8 by rounding."""
    return video.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def patchify(video: Tensor, patch: int) -> Tensor:
    """Cut frames into patches without overlap: (..., H, W, C) -> (..., rows * columns, patch * patch * C)."""
    *lead, height, width, channels = video.shape
    rows, columns = height // patch, width // patch
    x = video.reshape(-1, rows, patch, columns, patch, channels).transpose(2, 3)
    return x.reshape(*lead, rows * columns, patch * patch * channels)


def unpatchify(patches: Tensor, patch: int, rows: int, columns: int) -> Tensor:
    """Undo ``patchify``: (..., rows * columns, patch * patch * C) -> (..., H, W, C)."""
    *lead, _, flat = patches.shape
    channels = flat // (patch * patch)
    x = patches.reshape(-1, rows, columns, patch, patch, channels).transpose(2, 3)
    return x.reshape(*lead, rows * patch, columns * patch, channels)


def check_divisible(height: int, width: int, patch: int) -> None:
    """Raise a UserError that names the nearest legal sizes unless both sides are multiples of the patch."""
    if height % patch == 0 == width % patch:
        return
    low = [max(patch, side // patch * patch) for side in (height, width)]
    high = [math.ceil(side / patch) * patch for side in (height, width)]
    raise UserError(
        f"frames are {height}x{width}; both sides must be multiples of the patch, {patch}: resize to "
        f"{low[0]}x{low[1]} or {high[0]}x{high[1]}."
    )


def rarity_weights(patches: Tensor, power: float) -> Tensor:
    """Weigh each patch by how rare it is in the batch: count ** -power, mean 1.

    Args:
        patches: Pixels in [-1, 1], (..., N, X).
        power: 0 weighs all patches alike, 1 weighs all distinct patches alike.

    Returns:
        Weights, (..., N). Patches are equal when all their uint8 pixels are (compared by a 64-bit hash).
    """
    if power == 0:
        return torch.ones(patches.shape[:-1], device=patches.device)
    levels = patches.float().add(1).mul(127.5).round().long()
    generator = torch.Generator().manual_seed(0)
    key = torch.randint(-(2**62), 2**62, (patches.shape[-1],), generator=generator).to(patches.device)
    hashes = (levels * key).sum(-1)  # int64 arithmetic wraps around, as needed for a hash
    _, inverse, counts = hashes.unique(return_inverse=True, return_counts=True)
    weights = counts.to(torch.float32).pow(-power)[inverse]
    out: Tensor = weights / weights.mean()
    return out
