"""Distances between frames on 8-bit pixels, and statistics with bootstrap intervals over clips.

Every statistic is a function of totals that are summed over clips (hits and trials, squared error and frames), so that
thousands of resamples are one matrix product. Clips are resampled, not frames: frames of one episode are correlated and
would make intervals far too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from reelworld.nn.perceptual import LPIPS
from reelworld.nn.pixels import to_float

CHUNK_FRAMES = 64
N_RESAMPLES = 2000
LEVEL = 0.95
COPY = "copy of the last frame seen"
FROZEN = "first frame of the clip"

Interval = tuple[float, float, float]
"""Value, lower and upper end; the ends are NaN for fewer than two clips."""


# ---------------------------------------------------------------------- frames


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


def db(mean_squared_error: np.ndarray | float) -> np.ndarray:
    """Turn the mean squared error of pixels in 0..255 into PSNR in dB; 0 becomes infinity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(255.0**2 / np.asarray(mean_squared_error, np.float64))


def psnr(frames: np.ndarray, other: np.ndarray) -> float:
    """Return the PSNR of clips in dB, uint8 (..., H, W, 3) twice: squared errors are averaged over frames first."""
    return float(db(squared_error(frames, other).mean()))


def exact_frames(frames: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return True for each frame whose pixels are all the same, bool (...)."""
    out: np.ndarray = (frames == other).all((-3, -2, -1))
    return out


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
    out: np.ndarray = patches.max((1, 2))
    return out


def ssim(frames: np.ndarray, other: np.ndarray, border: int = 0) -> np.ndarray:
    """Return the structural similarity per frame (torchmetrics, 11x11 Gaussian window).

    Args:
        frames: uint8, (T, H, W, 3).
        other: uint8, same shape.
        border: Rows and columns to leave out at each side; 5 keeps the positions of whole windows, as papers do.

    Returns:
        float64, (T,).
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

    def batch(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float()

    values = []
    for i in range(0, len(frames), CHUNK_FRAMES):
        rows = slice(i, i + CHUNK_FRAMES)
        _, image = structural_similarity_index_measure(
            batch(frames[rows]), batch(other[rows]), data_range=255.0, reduction="none", return_full_image=True
        )
        inner = image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]
        values.append(inner.flatten(1).mean(1))
    return torch.cat(values).double().numpy()


@torch.inference_mode()
def lpips(frames: np.ndarray, other: np.ndarray, network: LPIPS) -> np.ndarray:
    """Return LPIPS per frame, uint8 (T, H, W, 3) twice -> float64 (T,)."""
    values = []
    for i in range(0, len(frames), CHUNK_FRAMES):
        pair = (torch.from_numpy(np.ascontiguousarray(x[i : i + CHUNK_FRAMES])) for x in (frames, other))
        one, two = (to_float(x.to(network.shift.device)).permute(0, 3, 1, 2) for x in pair)
        values.append(network(one, two).double().cpu().numpy())
    return np.concatenate(values)


def patch_means(frames: np.ndarray, size: int = 8) -> np.ndarray:
    """Replace every aligned patch by its mean colour: the output of a tokenizer without any detail."""
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
    """Return True for each aligned patch whose pixels are all the same, bool (T, rows, columns)."""
    rows, columns = frames.shape[1] // size, frames.shape[2] // size
    same = (frames == other)[:, : rows * size, : columns * size]
    out: np.ndarray = same.reshape(len(frames), rows, size, columns, size, 3).all((2, 4, 5))
    return out


def _difference(frames: np.ndarray, other: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) - other.astype(np.float32)


# ---------------------------------------------------------------------- statistics


def bootstrap(
    totals: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Compute a statistic of column totals and its percentile interval over clips.

    Args:
        totals: float, (clips, K); row c is the contribution of clip c to each of K totals.
        statistic: Maps totals (..., K) to values (...).
        seed: Of the resampling.
        n_resamples: Fewer for statistics that are slow to compute.
    """
    totals = np.asarray(totals, np.float64)
    n_clips = len(totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(totals.sum(0)))
        if n_clips < 2:
            return value, math.nan, math.nan
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(n_clips, np.full(n_clips, 1 / n_clips), n_resamples)
        values = statistic(draws @ totals)
    values = values[~np.isnan(values)]
    if not len(values):
        return value, math.nan, math.nan
    # linear interpolation between two infinities is NaN; order statistics are not
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return value, float(low), float(high)


def fraction_interval(hits: np.ndarray, trials: np.ndarray, seed: int = 0) -> Interval:
    """Compute a fraction and its interval from hits and trials per clip, (clips,) each.

    If all trials agree, resampling gives an interval of zero width. The interval then ends at the exact binomial
    (Clopper-Pearson) bound for that many trials.
    """
    totals = np.stack([np.asarray(x, np.float64) for x in (hits, trials)], -1)
    totals = totals[totals[:, 1] > 0]
    value, low, high = bootstrap(totals, ratio, seed)
    n = int(totals[:, 1].sum())
    if n and value in (0.0, 1.0):
        bound = ((1 - LEVEL) / 2) ** (1 / n)
        low, high = (bound, 1.0) if value == 1.0 else (0.0, 1 - bound)
    return value, low, high


def per_clip(values: np.ndarray, clip: np.ndarray, n_clips: int) -> np.ndarray:
    """Add up values (n,) or (n, ...) by the clip they belong to, clip (n,) -> float64 (n_clips,)."""
    flat = np.asarray(values, np.float64).reshape(len(clip), -1).sum(1)
    return np.bincount(clip, flat, minlength=n_clips)


def ratio(totals: np.ndarray) -> np.ndarray:
    """Divide the first column of totals (..., 2) by the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out: np.ndarray = totals[..., 0] / totals[..., 1]
        return out


def entropy(fractions: np.ndarray) -> np.ndarray:
    """Return the entropy of distributions (..., K) in nats, (...)."""
    logs = np.log(fractions, out=np.zeros_like(fractions), where=fractions > 0)
    result: np.ndarray = -(fractions * logs).sum(-1)
    return result


def perplexity(counts: np.ndarray) -> np.ndarray:
    """Return the perplexity of counts (..., K): the number of codes if all were used equally often, (...)."""
    out: np.ndarray = np.exp(entropy(counts / counts.sum(-1, keepdims=True)))
    return out
