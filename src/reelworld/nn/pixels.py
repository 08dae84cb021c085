"""Pixels between their two forms: uint8 on disk and screen, float in [-1, 1] inside models."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["patchify", "to_float", "to_uint8", "unpatchify"]


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
