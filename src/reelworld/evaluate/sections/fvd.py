"""Frechet video distance between the world's clips and recorded ones, and its detector.

The features are those of a network for actions in video (I3D) that is not part of this project: a TorchScript file,
called as ``detector(video, rescale=True, resize=True, return_features=True)`` with video float (B, 3, T, H, W) in
0..255, returning (B, 400). Loading a TorchScript file runs code from it, so it is loaded only if the user names one.

Source: Unterthiner et al. 2018 (arXiv:1812.01717); the calling format and the file are those of StyleGAN-V (Skorokhodov
et al. 2022, arXiv:2112.14683). Differs: all sets have the same number of clips unless the published protocol is asked
for, and the trace of the root is a sum of singular values, which needs no root of a matrix and bears fewer clips than
features.

Shapes: n clips, K samples of each, T frames, H W pixel rows and columns, D features
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from reelworld.evaluate.results import Metric, MetricBuilder
from reelworld.evaluate.samples import Detector
from reelworld.types import UserError

N_FEATURES = 400
MIN_CLIPS = 16
USUAL_CLIPS = 2048
BATCH = 4


def load_detector(path: Path, device: torch.device | str = "cpu", n_frames: int = 16) -> Detector:
    """Load an I3D network. This runs code from the file.

    Args:
        path: A TorchScript file in StyleGAN-V's calling format.
        device: Device of the network.
        n_frames: Length of the clips it will be given; it is tried on two black ones.

    Raises:
        UserError: If the file is missing, is no TorchScript, or cannot be called this way.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; --i3d wants the TorchScript file of an I3D network (i3d_torchscript.pt).")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have another format
            network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError):
        raise UserError(f"{path} is no TorchScript file, or a damaged one; --i3d wants i3d_torchscript.pt.") from None

    @torch.inference_mode()
    def detect(videos: np.ndarray) -> np.ndarray:
        parts = []
        for i in range(0, len(videos), BATCH):
            clip = torch.from_numpy(np.ascontiguousarray(videos[i : i + BATCH])).to(device)
            video = clip.permute(0, 4, 1, 2, 3).float()
            parts.append(network(video, rescale=True, resize=True, return_features=True).double().cpu().numpy())
        return np.concatenate(parts)

    _try(detect, path, n_frames)
    return detect


def _try(detect: Detector, path: Path, n_frames: int) -> None:
    """Refuse a network that cannot be called with clips of this length, before anything else is measured."""
    expected = f"wanted detector(video, rescale=True, resize=True, return_features=True) -> (n, {N_FEATURES})"
    try:
        features = detect(np.zeros((2, n_frames, 64, 64, 3), np.uint8))
    except Exception as error:  # noqa: BLE001 (code from the file may raise anything)
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(f"{path} cannot read clips of {n_frames} frames ({reason[:120]}); {expected}.") from None
    if features.shape != (2, N_FEATURES) or not np.isfinite(features).all():
        raise UserError(f"{path} gives features of shape {features.shape} for two clips; {expected}, finite.")


def check_enough(n_clips: int) -> None:
    """Refuse numbers of clips that are too small for the distance."""
    if n_clips < MIN_CLIPS:
        raise UserError(
            f"FVD over {n_clips} clips says nothing; give --clips {MIN_CLIPS} or more and as many recordings, "
            "or leave out --i3d."
        )


def frechet_distance(features: np.ndarray, others: np.ndarray, is_biased: bool = False) -> float:
    """Return the Frechet distance between the normal distributions fitted to two sets of features.

    With centred features X and Y over the root of n - 1, the trace of the root of the product of the covariances is the
    sum of the singular values of X Y^T; their triangular factors have the same ones and are never larger than D.

    Args:
        features: float, (n, D), n at least 2.
        others: float, (m, D), m at least 2.
        is_biased: Divide by n, as the published protocol does, instead of n - 1.
    """
    (mean, factor), (other_mean, other_factor) = _fit(features, is_biased), _fit(others, is_biased)
    shared = np.linalg.svd(factor @ other_factor.T, compute_uv=False).sum()
    apart = ((mean - other_mean) ** 2).sum() + (factor**2).sum() + (other_factor**2).sum() - 2 * shared
    return max(0.0, float(apart))


def _fit(features: np.ndarray, is_biased: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (D,) and a factor R with R^T R the covariance, float64."""
    x = np.asarray(features, np.float64)
    mean = x.mean(0)
    _, factor = np.linalg.qr((x - mean) / math.sqrt(len(x) - (not is_biased)))
    return mean, factor


def fvd_metric(
    make: MetricBuilder,
    detect: Detector,
    actual: np.ndarray,
    predicted: np.ndarray,
    others: Mapping[str, np.ndarray],
    is_published: bool,
    published: Mapping[str, float],
) -> Metric:
    """Compare clips of the world with recorded ones.

    Args:
        make: Builder with the texts.
        detect: Computes features.
        actual: Recorded clips, uint8 (n, T, H, W, 3).
        predicted: The world's, from the same first frames, uint8 (n, K, T, H, W, 3).
        others: Name -> clips, uint8 (n, T, H, W, 3), that the recorded ones are compared with in the same way.
        is_published: All samples are one set. Otherwise those of one number are, and the mean over numbers is taken.
        published: Numbers of others.
    """
    features, n_samples = detect(actual), predicted.shape[1]
    made = [detect(predicted[:, k]) for k in range(n_samples)]
    sets = [np.concatenate(made)] if is_published else made
    distance = float(np.mean([frechet_distance(some, features, is_published) for some in sets]))
    beside = {k: frechet_distance(detect(some), features, is_published) for k, some in others.items() if len(some) > 1}
    n = len(features)
    return make.build(
        "fvd_published" if is_published else "fvd",
        (distance, math.nan, math.nan),
        "distance",
        n,
        "recorded clips",
        {**beside, **published},
        n_clips=n,
        many=str(n),
        k=str(n_samples),
        usual=f"{USUAL_CLIPS:,}",
    )
