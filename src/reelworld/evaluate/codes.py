"""Nats per code of whole held-out clips, exactly, beside predictors that count codes or copy them.

For worlds whose tokenizer codes whole clips. Clips are coded as in training, all their frames together, and the
dynamics read the true codes before each one. The predictors beside them are fitted on training clips.

Source: the measure is the training loss of VideoGPT's prior (Yan et al. 2021, arXiv:2104.10157, section 3.2) on
held-out clips. Differs: the paper reports no baselines; nats stand for codes, not for pixels or frames.

Shapes: W windows, T frames, P latent frames, N tokens per latent frame, K codes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from reelworld.evaluate.figures import Curve, Figure, Section, bootstrap, per_clip, ratio_figure
from reelworld.evaluate.windows import WholeClips, encode_whole
from reelworld.nn.pixels import to_float
from reelworld.types import Codes, Conditions

if TYPE_CHECKING:
    from reelworld.worlds.world import World

__all__ = ["CodePredictors", "code_section", "measure_codes", "world_nats"]

UNIGRAM = "how often each code occurs"
COPY = "copy of the latent frame before"
PLACE = "how often each code occurs at its place"
UNIFORM = "every code equally likely"
BATCH_TOKENS = 8192
"""Attention in the parallel form needs the square of a clip's tokens for each clip of a batch."""
STRENGTHS = tuple(float(4**i) for i in range(9))


@dataclass(frozen=True)
class CodePredictors:
    """What codes of recordings look like to those who only count, fitted on training clips."""

    anywhere: np.ndarray
    """float64, (K,): share of each code, one added to every count."""
    first: np.ndarray
    """float64, (K,): the same over the first latent frames of clips alone."""
    stay: np.ndarray
    """float64, (K,): how often a code is the same at the same place of the next latent frame."""
    place: np.ndarray
    """float64, (N, K): share of each code at each place of the grid."""

    @classmethod
    def fit(cls, codes: np.ndarray, n_codes: int) -> CodePredictors:
        """Count codes.

        Args:
            codes: int64, (W, P, N), each 0 <= code < K.
            n_codes: K, at least 2.
        """
        n_places = codes.shape[2]
        counts = np.zeros((n_places, n_codes))
        np.add.at(counts, (np.broadcast_to(np.arange(n_places), codes.shape), codes), 1.0)
        anywhere = _add_one(counts.sum(0))
        before, after = codes[:, :-1].reshape(-1), codes[:, 1:].reshape(-1)
        pairs = np.bincount(before, minlength=n_codes)
        same = np.bincount(before[before == after], minlength=n_codes)
        usual = (same.sum() + 1) / (pairs.sum() + 2)  # of all codes: what is assumed of one that was never seen
        return cls(
            anywhere=anywhere,
            first=_add_one(np.bincount(codes[:, 0].reshape(-1), minlength=n_codes)),
            stay=(same + usual) / (pairs + 1),
            place=_at_places(counts, anywhere),
        )

    def nats(self, codes: np.ndarray) -> dict[str, np.ndarray]:
        """Return the surprise of every predictor at every code.

        Args:
            codes: int64, (W, P, N).

        Returns:
            Predictor -> float64, (W, P, N).
        """
        unigram = -np.log(self.anywhere)[codes]
        n_places = codes.shape[2]
        return {
            COPY: self._copy_nats(codes),
            UNIGRAM: unigram,
            PLACE: -np.log(self.place)[np.broadcast_to(np.arange(n_places), codes.shape), codes],
            UNIFORM: np.full_like(unigram, math.log(len(self.anywhere))),
        }

    def _copy_nats(self, codes: np.ndarray) -> np.ndarray:
        before, after = codes[:, :-1], codes[:, 1:]
        stay = self.stay[before]
        other = (1 - stay) * self.anywhere[after] / (1 - self.anywhere[before])
        later = -np.log(np.where(before == after, stay, other))
        return np.concatenate([-np.log(self.first)[codes[:, :1]], later], 1)


def _add_one(counts: np.ndarray) -> np.ndarray:
    return (counts + 1) / (counts.sum() + len(counts))


def _at_places(counts: np.ndarray, anywhere: np.ndarray) -> np.ndarray:
    """Turn counts (N, K) into shares that lean on the shares of the whole grid.

    How strongly is chosen by leaving out one code at a time: few clips cannot fill a table of N times K.
    """
    totals = counts.sum(1, keepdims=True)
    seen = counts > 0

    def left_out(strength: float) -> float:
        rest = (counts - 1 + strength * anywhere)[seen] / np.broadcast_to(totals - 1 + strength, counts.shape)[seen]
        return float((counts[seen] * np.log(rest)).sum())

    strength = max(STRENGTHS, key=left_out)
    return (counts + strength * anywhere) / (totals + strength)


@torch.inference_mode()
def world_nats(world: World, whole: WholeClips, codes: np.ndarray) -> np.ndarray:
    """Let the dynamics read whole clips of true codes and say how surprised they are at each.

    Args:
        world: Its dynamics give exact nats.
        whole: The clips; conditions of the dynamics come from them (first frames, class).
        codes: int64, (W, P, N): their codes.

    Returns:
        float64, (W, P, N).
    """
    batch = max(1, BATCH_TOKENS // codes[0].size)
    n_shown = getattr(world.dynamics.config, "cond_frames", 0)
    device, parts = world.device, []
    for i in range(0, len(codes), batch):
        rows = slice(i, i + batch)
        video = class_id = None
        if n_shown:
            video = to_float(torch.from_numpy(whole.frames[rows, :n_shown].copy()).to(device))
        if whole.class_id is not None:
            class_id = torch.from_numpy(whole.class_id[rows]).to(device)
        given = Codes.of(torch.from_numpy(codes[rows]).to(device))
        nats = world.dynamics.nll(given, Conditions(context_video=video, class_id=class_id))
        parts.append(nats.double().cpu().numpy())
    return np.concatenate(parts)


def measure_codes(world: World, held_out: WholeClips, train: np.ndarray, source: str, seed: int) -> Section | None:
    """Compare the world's surprise at held-out codes with that of the simple predictors.

    Args:
        world: A world that codes whole clips.
        held_out: Clips it was not trained on.
        train: int64, (W, P, N): codes that the predictors are fitted on.
        source: What those are, in words.
        seed: Of the bootstrap.

    Returns:
        None where the dynamics give no exact probability of a code.
    """
    n_codes = world.tokenizer.spec(*held_out.frames.shape[1:4]).video.codebook_size
    if n_codes < 2 or not hasattr(world.dynamics, "nats"):
        return None
    codes = encode_whole(world, held_out.frames)
    nats = {"world": world_nats(world, held_out, codes), **CodePredictors.fit(train, n_codes).nats(codes)}
    return code_section(nats, held_out.clip, source, seed)


def code_section(nats: Mapping[str, np.ndarray], clip: np.ndarray, source: str, seed: int) -> Section:
    """Turn surprise at codes into figures.

    Args:
        nats: "world" and each predictor -> float64, (W, P, N).
        clip: int64, (W,): the clip each window was cut from; intervals resample these.
        source: What the predictors were fitted on, in words.
        seed: Of the bootstrap.
    """
    world = nats["world"]
    n_windows, n_latent, n_tokens = world.shape
    n_clips = int(clip.max()) + 1
    count = per_clip(np.ones_like(world), clip, n_clips)
    sums = {k: per_clip(v, clip, n_clips) for k, v in nats.items()}
    means = {k: float(v.sum() / count.sum()) for k, v in sums.items() if k != "world"}
    best = min(means, key=lambda k: means[k])
    figures = (
        ratio_figure("nats_per_code", sums["world"], count, "codes", "nats", seed, means),
        ratio_figure("nats_over_best", sums["world"] - sums[best], count, "codes", "nats", seed, best=best),
        _after_first(nats, clip, seed),
    )
    return Section(
        name="codes",
        label="How surprised is it by each code?",
        explanation=f"{n_windows} whole held-out clips are coded as in training, all frames of a clip together, and "
        f"the world reads the true codes before each one: exact nats over all {n_latent} latent frames of {n_tokens} "
        f"codes, the first included. The predictors beside it were fitted on {source}.",
        figures=tuple(f for f in figures if f is not None),
        curves=(_by_latent_frame(nats, clip, seed),),
    )


def _after_first(nats: Mapping[str, np.ndarray], clip: np.ndarray, seed: int) -> Figure | None:
    """Build the figure over all latent frames but the first, which nothing comes before."""
    if nats["world"].shape[1] < 2:
        return None
    n_clips = int(clip.max()) + 1
    later = {k: v[:, 1:] for k, v in nats.items()}
    count = per_clip(np.ones_like(later["world"]), clip, n_clips)
    means = {k: float(v.mean()) for k, v in later.items() if k != "world"}
    return ratio_figure(
        "nats_per_later_code", per_clip(later["world"], clip, n_clips), count, "codes", "nats", seed, means
    )


def _by_latent_frame(nats: Mapping[str, np.ndarray], clip: np.ndarray, seed: int) -> Curve:
    world = nats["world"]
    n_clips, n_latent = int(clip.max()) + 1, world.shape[1]
    low, high = [], []
    for p in range(n_latent):
        totals = np.stack([per_clip(x, clip, n_clips) for x in (world[:, p], np.ones_like(world[:, p]))], 1)
        _, lower, upper = bootstrap(totals[totals[:, 1] > 0], lambda t: t[..., 0] / t[..., 1], seed)
        low.append(lower)
        high.append(upper)
    return Curve(
        name="codes",
        label="Nats per code by latent frame",
        x_label="latent frame",
        y_label="nats per code",
        unit="nats",
        x=tuple(float(p + 1) for p in range(n_latent)),
        series={k: tuple(v.mean((0, 2)).tolist()) for k, v in nats.items() if k != UNIFORM},
        low=tuple(low),
        high=tuple(high),
        n=(len(world),) * n_latent,
    )
