"""Validation metrics during training; the full protocol is in ``evaluate``.

Shapes: B clips, T frames, N tokens per frame
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from reelworld.data.clip_index import ClipIndex, evenly_spaced
from reelworld.data.dataset import Dataset
from reelworld.data.foreground import compare_foreground, median_picture
from reelworld.data.loader import to_batch
from reelworld.models.parts import AnyClipPrior, AnyDynamics, Tokenizer
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.train.precompute_codes import encode_batch
from reelworld.types import Batch

__all__ = [
    "clip_check",
    "coded_check",
    "dynamics_check",
    "loss_check",
    "prior_check",
    "some_clips",
    "tokenizer_check",
]


def tokenizer_check(tokenizer: Tokenizer, dataset: Dataset, n_frames: int = 128) -> Callable[[], dict[str, float]]:
    """Prepare a check of the reconstruction of validation frames.

    ``val_psnr`` is over whole frames (dB), ``val_kept`` and ``val_foreground_psnr`` over the pixels that differ from
    their median picture: the fraction of that difference that is kept, and the PSNR there. ``val_codes_used`` counts
    codes.
    """
    windows = ClipIndex(dataset, "val", 1)
    frames = np.stack([windows[i]["frames"] for i in evenly_spaced(len(windows), n_frames)])
    median = median_picture(frames[:, 0])

    @torch.inference_mode()
    def check() -> dict[str, float]:
        device = next(tokenizer.parameters()).device
        video = to_float(torch.from_numpy(frames).to(device))
        codes = tokenizer.encode(video)
        decoded = tokenizer.decode(codes)
        error = (decoded - video).square().mean((1, 2, 3, 4)).clamp_min(1e-10)
        seen = compare_foreground(frames[:, 0], to_uint8(decoded)[:, 0].cpu().numpy(), median)
        return {
            "val_psnr": float((10 * torch.log10(4 / error)).mean()),
            "val_kept": seen.kept_mass,
            "val_foreground_psnr": seen.psnr,
            "val_codes_used": float(codes.video.unique().numel()),
        }

    return check


def dynamics_check(dynamics: AnyDynamics, windows: ClipIndex, n_clips: int = 64) -> Callable[[], dict[str, float]]:
    """Prepare a check of one-pass prediction on validation clips of codes.

    ``val_exact`` is the fraction of next frames whose likeliest codes are all right, ``val_exact_copy`` that of a
    copy of the current frame, ``val_nats`` the negative log-likelihood per frame in nats.
    """
    return _step_check(dynamics, lambda: some_clips(windows, n_clips))


def coded_check(
    tokenizer: Tokenizer, dynamics: AnyDynamics, windows: ClipIndex, n_clips: int = 32
) -> Callable[[], dict[str, float]]:
    """Prepare the same check on validation clips of pixels, encoded with the tokenizer's current weights."""
    batch = some_clips(windows, n_clips)
    return _step_check(dynamics, lambda: encode_batch(batch, tokenizer))


def loss_check(
    tokenizer: Tokenizer, module: Any, windows: ClipIndex, n_clips: int = 32
) -> Callable[[], dict[str, float]]:
    """Prepare a check of a module's training loss, on validation clips of pixels that the tokenizer encodes.

    Every term of its loss is reported as ``val_`` and the term's name, a mean in the unit of the term.
    """
    batch = some_clips(windows, n_clips)

    @torch.inference_mode()
    def check() -> dict[str, float]:
        losses = module.loss(encode_batch(batch, tokenizer))
        return {f"val_{name}": value for name, value in losses.mean().items()}

    return check


def _step_check(dynamics: AnyDynamics, some: Callable[[], Batch]) -> Callable[[], dict[str, float]]:
    @torch.inference_mode()
    def check() -> dict[str, float]:
        here = some().to(next(dynamics.parameters()).device)
        assert here.codes is not None
        judged = dynamics.score(here.codes, here.conditions)
        assert judged.correct is not None
        codes_BTN = here.codes.video[:, -1 - judged.nll.shape[1] :]
        is_still_BT = (codes_BTN[:, 1:] == codes_BTN[:, :-1]).all(-1)
        return {
            "val_nats": float(judged.nll.mean()),
            "val_exact": float(judged.correct.float().mean()),
            "val_exact_copy": float(is_still_BT.float().mean()),
        }

    return check


def clip_check(tokenizer: Tokenizer, windows: ClipIndex, n_clips: int = 32) -> Callable[[], dict[str, float]]:
    """Prepare a check of the reconstruction of whole validation clips: PSNR (dB) and codes in use."""
    batch = some_clips(windows, n_clips)

    @torch.inference_mode()
    def check() -> dict[str, float]:
        video = batch.to(next(tokenizer.parameters()).device).video
        assert video is not None
        codes = tokenizer.encode(video)
        error = (tokenizer.decode(codes) - video).square().mean((1, 2, 3, 4)).clamp_min(1e-10)
        return {
            "val_psnr": float((10 * torch.log10(4 / error)).mean()),
            "val_codes_used": float(codes.video.unique().numel()),
        }

    return check


def prior_check(
    tokenizer: Tokenizer, prior: AnyClipPrior, windows: ClipIndex, n_clips: int = 32
) -> Callable[[], dict[str, float]]:
    """Prepare a check of the negative log-likelihood of the codes of whole validation clips, in nats per code.

    Baselines: the nats under the code frequencies of the same clips, and the fraction of codes equal to those of the
    previous latent frame.
    """
    batch = some_clips(windows, n_clips)

    @torch.inference_mode()
    def check() -> dict[str, float]:
        here = encode_batch(batch, tokenizer, prior.cond_frames)
        assert here.codes is not None
        nats = prior.nll(here.codes, here.conditions)
        codes_BPN = here.codes.video
        shares = codes_BPN.flatten().bincount().float() / codes_BPN.numel()
        return {
            "val_nats": float(nats.mean()),
            "val_nats_unigram": float(-(shares * shares.clamp_min(1e-12).log()).sum()),
            "val_copied": float((codes_BPN[:, 1:] == codes_BPN[:, :-1]).float().mean()),
        }

    return check


def some_clips(windows: ClipIndex, n_clips: int) -> Batch:
    """Read clips spread over the windows."""
    rows = [windows[i] for i in evenly_spaced(len(windows), n_clips)]
    return to_batch({k: torch.from_numpy(np.stack([row[k] for row in rows])) for k in rows[0]})
