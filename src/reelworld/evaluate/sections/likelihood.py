"""Likelihood of held-out clips: per frame, and per code with count and copy baselines.

For models of whole clips the likelihood of every code is exact: clips are encoded as in training, all their frames
together, and the model reads the true codes before each one. The predictors are fitted on training clips.

Source: the measure per code is the training loss of VideoGPT's prior (Yan et al. 2021, arXiv:2104.10157, section 3.2)
on held-out clips. Differs: the paper reports no baselines; nats are per code, not per pixel or frame.

Shapes: W windows, T frames, P latent frames, N tokens per latent frame, K codes
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reelworld.evaluate.protocol import fixed_clip
from reelworld.evaluate.results import MetricBuilder, Text
from reelworld.evaluate.samples import Evaluation
from reelworld.evaluate.sections import Details, Item, Section
from reelworld.models.world_model import Context
from reelworld.nn.pixels import to_float
from reelworld.types import Clip
from reelworld.worlds.world import World

UNIGRAM = "how often each code occurs"
COPY = "copy of the latent frame before"
POSITION = "how often each code occurs at its position"
UNIFORM = "every code equally likely"
BATCH_TOKENS = 8192
"""Attention in the parallel form needs the square of a clip's tokens for each clip of a batch."""
BATCH_FRAMES = 128
STRENGTHS = tuple(float(4**i) for i in range(9))

TEXTS = {
    "nll_per_frame": Text(
        "NLL per frame",
        "Negative log-likelihood of each recorded frame in nats (kind: {kind}). Comparable only between worlds with "
        "the same tokenizer and the same kind.",
        "lower",
    ),
    "nll_per_code": Text(
        "NLL per code",
        "Exact negative log-likelihood of each code of held-out clips, in nats. The predictors beside it count codes "
        "of training clips, or copy the code at the same position before.",
        "lower",
    ),
    "nll_over_best": Text(
        "... minus the best simple predictor",
        "NLL per code minus that of: {best}. Below zero the world predicts better; the interval is of the difference.",
        "lower",
    ),
    "nll_per_later_code": Text(
        "NLL per code after the first latent frame", "Only latent frames that follow one that can be copied.", "lower"
    ),
}


# ---------------------------------------------------------------------- per frame


def measure_frames(evaluation: Evaluation) -> Iterator[Item]:
    """Measure the likelihood of recorded frames."""
    spec, scored = evaluation.spec, evaluation.scores
    counts = np.array([score.n_frames for _, score in scored])
    values = np.repeat([score.nats_per_frame for _, score in scored], counts)
    beside = {}
    if "video" in spec.grids and (size := spec.grids["video"].codebook_size):
        beside[UNIFORM] = spec.grids["video"].n_tokens * math.log(size) / spec.time_stride
    make = evaluation.build(TEXTS, np.repeat(np.arange(len(scored)), counts))
    yield make.mean("nll_per_frame", values, "frames", "nats", baselines=beside, kind=str(spec.likelihood))


# ---------------------------------------------------------------------- per code


@dataclass(frozen=True)
class WholeClips:
    """Clips of the length of a window, and the recording each was cut from."""

    frames: np.ndarray
    """uint8, (W, T, H, W, 3)."""
    clip: np.ndarray
    """int64, (W,): index of the recording; intervals resample these."""
    class_id: np.ndarray | None
    """int64, (W,); None where recordings have no classes."""

    @classmethod
    def cut(cls, clips: Sequence[Clip], n_frames: int, most: int) -> WholeClips:
        """Cut recordings one after the other; frames after the last whole clip are left out.

        Args:
            clips: Recordings.
            n_frames: Frames of a whole clip.
            most: At most this many; the first of every recording come before any second one.
        """
        positions = [(i, c) for c, clip in enumerate(clips) for i in range(len(clip.frames) // n_frames)]
        positions = sorted(positions)[:most]
        classes = [clips[c].class_id for _, c in positions]
        return cls(
            frames=np.stack([clips[c].frames[i * n_frames : (i + 1) * n_frames] for i, c in positions]),
            clip=np.array([c for _, c in positions]),
            class_id=None if None in classes else np.array(classes, np.int64),
        )


@torch.inference_mode()
def encode_clips(world: World, clips: Iterator[np.ndarray] | Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Encode clips, uint8 (T, H, W, 3) each, as in training: all frames of a clip together; int64 (W, P, N)."""
    parts: list[np.ndarray] = []
    waiting: list[np.ndarray] = []

    def flush() -> None:
        codes = world.model.encode(to_float(torch.from_numpy(np.stack(waiting)).to(world.device)))
        assert codes is not None
        parts.append(codes.video.cpu().numpy())
        waiting.clear()

    for clip in clips:
        waiting.append(clip)
        if len(waiting) * len(clip) >= BATCH_FRAMES:
            flush()
    if waiting:
        flush()
    return np.concatenate(parts)


@dataclass(frozen=True)
class CodePredictors:
    """Predictors of codes that count and copy, fitted on training clips."""

    anywhere: np.ndarray
    """float64, (K,): frequency of each code, one added to every count."""
    first: np.ndarray
    """float64, (K,): the same over the first latent frames of clips alone."""
    stay: np.ndarray
    """float64, (K,): probability that a code is the same at the same position of the next latent frame."""
    position: np.ndarray
    """float64, (N, K): frequency of each code at each position of the grid."""

    @classmethod
    def fit(cls, codes: np.ndarray, n_codes: int) -> CodePredictors:
        """Count codes.

        Args:
            codes: int64, (W, P, N), each 0 <= code < K.
            n_codes: K, at least 2.
        """
        n_positions = codes.shape[2]
        counts = np.zeros((n_positions, n_codes))
        np.add.at(counts, (np.broadcast_to(np.arange(n_positions), codes.shape), codes), 1.0)
        anywhere = _add_one(counts.sum(0))
        before, after = codes[:, :-1].reshape(-1), codes[:, 1:].reshape(-1)
        pairs = np.bincount(before, minlength=n_codes)
        same = np.bincount(before[before == after], minlength=n_codes)
        usual = (same.sum() + 1) / (pairs.sum() + 2)  # of all codes: the prior of a code that never occurred
        return cls(
            anywhere=anywhere,
            first=_add_one(np.bincount(codes[:, 0].reshape(-1), minlength=n_codes)),
            stay=(same + usual) / (pairs + 1),
            position=_at_positions(counts, anywhere),
        )

    def nll(self, codes: np.ndarray) -> dict[str, np.ndarray]:
        """Return the negative log-likelihood of every code, int64 (W, P, N): predictor -> float64 (W, P, N)."""
        unigram = -np.log(self.anywhere)[codes]
        n_positions = codes.shape[2]
        return {
            COPY: self._copy_nll(codes),
            UNIGRAM: unigram,
            POSITION: -np.log(self.position)[np.broadcast_to(np.arange(n_positions), codes.shape), codes],
            UNIFORM: np.full_like(unigram, math.log(len(self.anywhere))),
        }

    def _copy_nll(self, codes: np.ndarray) -> np.ndarray:
        before, after = codes[:, :-1], codes[:, 1:]
        stay = self.stay[before]
        other = (1 - stay) * self.anywhere[after] / (1 - self.anywhere[before])
        later = -np.log(np.where(before == after, stay, other))
        return np.concatenate([-np.log(self.first)[codes[:, :1]], later], 1)


def _add_one(counts: np.ndarray) -> np.ndarray:
    out: np.ndarray = (counts + 1) / (counts.sum() + len(counts))
    return out


def _at_positions(counts: np.ndarray, anywhere: np.ndarray) -> np.ndarray:
    """Turn counts (N, K) into frequencies smoothed towards those of the whole grid.

    The strength is chosen by leaving out one code at a time: few clips cannot fill a table of N times K.
    """
    totals = counts.sum(1, keepdims=True)
    seen = counts > 0

    def left_out(strength: float) -> float:
        rest = (counts - 1 + strength * anywhere)[seen] / np.broadcast_to(totals - 1 + strength, counts.shape)[seen]
        return float((counts[seen] * np.log(rest)).sum())

    strength = max(STRENGTHS, key=left_out)
    out: np.ndarray = (counts + strength * anywhere) / (totals + strength)
    return out


@torch.inference_mode()
def world_nll(world: World, whole: WholeClips) -> np.ndarray:
    """Score whole clips teacher-forced; float64 (W, P, N), the first latent frame included."""
    batch = max(1, BATCH_TOKENS // _n_tokens(world, whole.frames.shape[1]))
    parts = []
    for i in range(0, len(whole.frames), batch):
        rows = slice(i, i + batch)
        class_id = None if whole.class_id is None else torch.from_numpy(whole.class_id[rows]).to(world.device)
        scores = world.model.score(Context(frames=whole.frames[rows], class_id=class_id), 0)
        assert scores is not None and scores.code_nll is not None
        parts.append(scores.code_nll.double().cpu().numpy())
    return np.concatenate(parts)


def _n_tokens(world: World, n_frames: int) -> int:
    return world.spec.grids["video"].n_tokens * n_frames // world.spec.time_stride


def measure_codes(evaluation: Evaluation) -> Iterator[Item]:
    """Compare the world's likelihood of held-out codes with that of the simple predictors."""
    world, config, whole = evaluation.world, evaluation.config, fixed_clip(evaluation.spec)
    held_out = WholeClips.cut(evaluation.wide, whole, 4 * config.clips)
    clips, n = evaluation.training_clips(whole, config.train_clips)
    source = f"{n} training clips"
    if not n:
        clips, source = iter(held_out.frames), "these very clips, for want of others, which favours them"
    predictors = CodePredictors.fit(encode_clips(world, clips), evaluation.spec.grids["video"].codebook_size)
    nll = {"world": world_nll(world, held_out), **predictors.nll(encode_clips(world, held_out.frames))}
    n_windows, n_latent, n_tokens = nll["world"].shape
    yield Details(windows=str(n_windows), latent=str(n_latent), tokens=str(n_tokens), source=source)
    yield from code_metrics(evaluation.build(TEXTS, held_out.clip), nll)


def code_metrics(make: MetricBuilder, nll: Mapping[str, np.ndarray]) -> Iterator[Item]:
    """Compare "world" with each predictor, name -> float64 (W, P, N)."""
    others = {k: v for k, v in nll.items() if k != "world"}
    best = min(others, key=lambda k: others[k].sum())
    yield make.mean("nll_per_code", nll["world"], "codes", "nats", baselines=others)
    yield make.mean("nll_over_best", nll["world"] - nll[best], "codes", "nats", best=best)
    n_latent = nll["world"].shape[1]
    if n_latent > 1:
        later = {k: v[:, 1:] for k, v in others.items()}
        yield make.mean("nll_per_later_code", nll["world"][:, 1:], "codes", "nats", baselines=later)
    yield make.series(
        "codes",
        "NLL per code by latent frame",
        {k: v for k, v in nll.items() if k != UNIFORM},
        range(1, n_latent + 1),
        x_label="latent frame",
        y_label="nats per code",
        unit="nats",
    )


FRAMES = Section(
    name="likelihood",
    title="Likelihood of recorded frames",
    description="Negative log-likelihood of recorded frames, teacher-forced.",
    applies=lambda spec, _data, _config: spec.likelihood is not None,
    measure=measure_frames,
)
CODES = Section(
    name="code_likelihood",
    title="Likelihood of each code",
    description="{windows} whole held-out clips are encoded as in training, all frames of a clip together, and the "
    "world reads the true codes before each one: exact nats over all {latent} latent frames of {tokens} codes, the "
    "first included. The predictors beside it were fitted on {source}.",
    applies=lambda spec, _data, _config: (
        bool(fixed_clip(spec))
        and spec.likelihood == "exact"
        and "video" in spec.grids
        and spec.grids["video"].codebook_size > 1
    ),
    measure=measure_codes,
)
