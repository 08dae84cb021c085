"""Distances between two clips; all on uint8 frames, as a person would see them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from reelworld.nn.pixels import to_float

if TYPE_CHECKING:
    from reelworld.nn.perceptual import LPIPS

__all__ = [
    "exact_frames",
    "inner_ssim",
    "lpips",
    "patch_means",
    "patches_equal",
    "squared_error",
    "ssim",
    "worst_patch_error",
]


CHUNK_FRAMES = 64


def squared_error(frames: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the mean squared error per frame, in grey levels squared.

    Args:
        frames: uint8, (..., H, W, 3).
        other: uint8, same shape.

    Returns:
        float64, (...).
    """
    lead, size = frames.shape[:-3], math.prod(frames.shape[-3:])
    flat, flat_other = frames.reshape(-1, size), other.reshape(-1, size)
    errors = np.empty(len(flat), np.float64)
    for i in range(0, len(flat), CHUNK_FRAMES):  # a chunk stays in the processor's cache
        difference = _difference(flat[i : i + CHUNK_FRAMES], flat_other[i : i + CHUNK_FRAMES])
        errors[i : i + CHUNK_FRAMES] = np.einsum("nk,nk->n", difference, difference) / size
    return errors.reshape(lead)


def exact_frames(frames: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return, per frame, whether every pixel is the same; bool (...)."""
    return (frames == other).all((-3, -2, -1))


def worst_patch_error(frames: np.ndarray, other: np.ndarray, size: int = 8) -> np.ndarray:
    """Return the largest mean squared error of any aligned patch, per frame.

    Args:
        frames: uint8, (T, H, W, 3); rows and columns that do not fill a patch are left out.
        other: uint8, same shape.
        size: Side of a patch in pixels.

    Returns:
        float64, (T,).
    """
    rows, columns = frames.shape[1] // size, frames.shape[2] // size
    error = _difference(frames, other)[:, : rows * size, : columns * size] ** 2
    patches = error.reshape(len(frames), rows, size, columns, size, 3).mean((2, 4, 5), dtype=np.float64)
    return patches.max((1, 2))


def ssim(frames: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the structural similarity per frame (torchmetrics, 11x11 Gaussian window); float64 (T,)."""
    return _ssim(frames, other, 0)


def inner_ssim(frames: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the same of the places where whole windows fit, as papers do; both sides 11 or more, float64 (T,)."""
    return _ssim(frames, other, 5)


def _ssim(frames: np.ndarray, other: np.ndarray, border: int) -> np.ndarray:
    from torchmetrics.functional.image import structural_similarity_index_measure

    def batch(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float()

    values = []
    for i in range(0, len(frames), CHUNK_FRAMES):
        rows = slice(i, i + CHUNK_FRAMES)
        _, places = structural_similarity_index_measure(
            batch(frames[rows]), batch(other[rows]), data_range=255.0, reduction="none", return_full_image=True
        )
        inner = places[..., border : places.shape[-2] - border, border : places.shape[-1] - border]
        values.append(inner.flatten(1).mean(1))
    return torch.cat(values).double().numpy()


@torch.inference_mode()
def lpips(frames: np.ndarray, other: np.ndarray, network: LPIPS) -> np.ndarray:
    """Return how different frames look, each by LPIPS; uint8 (T, H, W, 3) twice -> float64 (T,)."""
    values = []
    for i in range(0, len(frames), CHUNK_FRAMES):
        pair = (torch.from_numpy(np.ascontiguousarray(x[i : i + CHUNK_FRAMES])) for x in (frames, other))
        one, wanted = (to_float(x.to(network.shift.device)).permute(0, 3, 1, 2) for x in pair)
        values.append(network(one, wanted).double().cpu().numpy())
    return np.concatenate(values)


def patch_means(frames: np.ndarray, size: int = 8) -> np.ndarray:
    """Replace every aligned patch by its mean colour: what a tokenizer without any detail would give."""
    n, height, width = frames.shape[:3]
    rows, columns = height // size, width // size
    inner = frames[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, 3)
    blocks = inner.mean((2, 4), keepdims=True, dtype=np.float32).round().astype(np.uint8)
    result = frames.copy()
    result[:, : rows * size, : columns * size] = np.broadcast_to(blocks, inner.shape).reshape(
        n, rows * size, columns * size, 3
    )
    return result


def patches_equal(frames: np.ndarray, other: np.ndarray, size: int = 8) -> np.ndarray:
    """Return, per aligned patch, whether all its pixels are the same; bool (T, rows, columns)."""
    rows, columns = frames.shape[1] // size, frames.shape[2] // size
    same = (frames == other)[:, : rows * size, : columns * size]
    return same.reshape(len(frames), rows, size, columns, size, 3).all((2, 4, 5))


def _difference(frames: np.ndarray, other: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) - other.astype(np.float32)
