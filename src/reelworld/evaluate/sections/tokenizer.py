"""Reconstruction by the tokenizer, and codebook usage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reelworld.data.foreground import THRESHOLD, compare_foreground, median_picture
from reelworld.evaluate import metrics
from reelworld.evaluate.metrics import bootstrap, db, perplexity
from reelworld.evaluate.protocol import fixed_clip
from reelworld.evaluate.results import Metric, MetricBuilder, Text
from reelworld.evaluate.samples import Evaluation, encode, reconstruct
from reelworld.evaluate.sections import Details, Item, Section
from reelworld.types import ModelSpec

MAX_FRAMES = 64
"""Of each recording, for models that encode any number of frames."""
MAX_CLIPS = 2
"""Of each recording, for models of whole clips."""
MEAN_COLOUR = "mean colour of each 8x8 patch"

TEXTS = {
    "tokenizer_psnr": Text(
        "Reconstruction PSNR",
        "Frames after encoding and decoding against the originals. Above about 40 dB the eye sees no difference; no "
        "prediction of the world can be sharper than this.",
    ),
    "tokenizer_ssim": Text("Reconstruction SSIM", "Structural similarity: edges and textures; 1 is perfect."),
    "tokenizer_worst_patch_psnr": Text(
        "Worst 8x8 patch",
        "The worst patch of each frame, at the 5th percentile of frames. A small thing that is missing (an agent, a "
        "key) shows here and in no average.",
    ),
    "foreground_kept": Text(
        "Foreground kept",
        f"Of what differs from the median picture by more than {THRESHOLD} of 255, the part that is still there after "
        "encoding and decoding, per frame. A ball of four pixels that is lost shows here and not in the PSNR of whole "
        "frames.",
    ),
    "foreground_psnr": Text(
        "Foreground PSNR", f"PSNR over the pixels that differ from the median picture by more than {THRESHOLD}."
    ),
    "codebook_usage": Text("Codes in use", "Fraction of the codebook that occurs at all in these clips.", ""),
    "codebook_perplexity": Text("Codebook perplexity", "Number of codes if all were used equally often.", ""),
    "codes_unchanged": Text(
        "Unchanged codes",
        "Codes that are the same in the next latent frame. If far fewer codes than patches stay, the model has to "
        "predict noise.",
        "near the data",
    ),
}
EACH = "each frame into a few codes and back. Held-out frames are"
WHOLE = (
    "{clip} frames together into a few codes and back; frames after the last whole clip are left out, and at most "
    "{most} are taken of each recording. Held-out frames are"
)
CONTEXT = (
    "the first {context} frames of a window into many codes, each later one into few, and back; codes are counted for "
    "later frames. Held-out frames of both kinds are"
)


def measure(evaluation: Evaluation) -> Iterator[Item]:
    """Measure reconstruction and codes of held-out clips."""
    spec, world = evaluation.spec, evaluation.world
    most = MAX_CLIPS * fixed_clip(spec) or MAX_FRAMES
    decoded = [reconstruct(world, c.frames[:most]) for c in evaluation.clips]
    actual = [c.frames[: len(d)] for c, d in zip(evaluation.clips, decoded, strict=True)]
    clip = np.repeat(np.arange(len(decoded)), [len(d) for d in decoded])
    yield Details(method=_method(spec))
    yield from reconstruction_metrics(evaluation.build(TEXTS, clip), np.concatenate(actual), np.concatenate(decoded))
    yield from _code_metrics(evaluation, actual)


def _method(spec: ModelSpec) -> str:
    """Describe the encoding."""
    if whole := fixed_clip(spec):
        return WHOLE.format(clip=whole, most=MAX_CLIPS)
    return CONTEXT.format(context=spec.min_clip - 1) if spec.min_clip > 1 else EACH


def reconstruction_metrics(make: MetricBuilder, frames: np.ndarray, decoded: np.ndarray) -> Iterator[Metric]:
    """Compare frames, uint8 (n, H, W, 3), with themselves after encoding and decoding."""
    plain = metrics.patch_means(frames)
    errors, plain_errors = metrics.squared_error(frames, decoded), metrics.squared_error(frames, plain)
    yield make.psnr("tokenizer_psnr", errors, baselines={MEAN_COLOUR: plain_errors})
    # neighbouring frames are similar and SSIM is slow: it is computed on every fourth frame
    some, baseline = slice(None, None, 4), float(metrics.ssim(frames[::16], plain[::16]).mean())
    similarity = metrics.ssim(frames[some], decoded[some])
    few = replace(make, clip=make.clip[some])
    yield few.mean("tokenizer_ssim", similarity, "frames", baselines={MEAN_COLOUR: baseline})
    yield _worst_patch(make, frames, decoded, plain)
    yield from _foreground_metrics(make, frames, decoded, plain)


def _worst_patch(make: MetricBuilder, frames: np.ndarray, decoded: np.ndarray, plain: np.ndarray) -> Metric:
    error = metrics.worst_patch_error(frames, decoded)
    order = np.argsort(error)
    n_clips = int(make.clip.max()) + 1

    def percentile(weights: np.ndarray) -> np.ndarray:
        mass = np.cumsum(weights[..., make.clip[order]], -1)
        return db(error[order][(mass >= 0.95 * mass[..., -1:]).argmax(-1)])

    # each clip has its own column with a unit weight, so totals count the draws of each clip
    interval = bootstrap(np.eye(n_clips), percentile, make.seed, n_resamples=300)
    beside = {MEAN_COLOUR: float(db(np.quantile(metrics.worst_patch_error(frames, plain), 0.95)))}
    return make.build("tokenizer_worst_patch_psnr", interval, "dB", len(frames), "frames", beside, n_clips)


def _foreground_metrics(
    make: MetricBuilder, frames: np.ndarray, decoded: np.ndarray, plain: np.ndarray
) -> Iterator[Metric]:
    median = median_picture(frames)
    ours, theirs = (compare_foreground(frames, copies, median) for copies in (decoded, plain))
    if not ours.has_any.any():
        return
    some = ours.has_any
    few = replace(make, clip=make.clip[some])
    beside = {MEAN_COLOUR: theirs.kept[some]}
    yield few.fraction("foreground_kept", ours.kept[some], "frames", baselines=beside)
    n_clips = int(make.clip.max()) + 1
    columns = (ours.squared_error * ours.fraction, ours.fraction)
    totals = np.stack([metrics.per_clip(column, make.clip, n_clips) for column in columns], -1)
    interval = bootstrap(totals[totals[:, 1] > 0], lambda t: db(t[..., 0] / t[..., 1]), make.seed)
    yield make.build("foreground_psnr", interval, "dB", int(some.sum()), "frames", {MEAN_COLOUR: theirs.psnr})


def _code_metrics(evaluation: Evaluation, clips: list[np.ndarray]) -> Iterator[Metric]:
    """Count the codes of clips, uint8 (T, H, W, 3) each."""
    spec = evaluation.spec
    grid = spec.grids.get("video") or next(iter(spec.grids.values()), None)
    size = grid.codebook_size if grid else 0
    if not size:
        return
    codes = [_joined(encode(evaluation.world, frames), spec) for frames in clips]
    counts = np.stack([sum(np.bincount(c.reshape(-1), minlength=size) for c in parts) for parts in codes]) * 1.0
    make = evaluation.build(TEXTS, np.arange(len(clips)))
    # resampled clips always show fewer distinct codes than all clips do, so usage has no bootstrap interval
    usage = (float((counts.sum(0) > 0).mean()), math.nan, math.nan)
    n, n_clips = int(counts.sum()), len(clips)
    yield make.build("codebook_usage", usage, "share", n, "codes", n_clips=n_clips)
    interval = bootstrap(counts, perplexity, make.seed, n_resamples=300)
    yield make.build(
        "codebook_perplexity", interval, "codes", n, "codes", {"size of the codebook": float(size)}, n_clips
    )
    same = [np.concatenate([(c[1:] == c[:-1]).reshape(-1) for c in parts]) for parts in codes]
    stride = spec.time_stride
    still = [metrics.patches_equal(f[stride:], f[:-stride]).mean() for f in clips if len(f) > stride]
    over = f" over {stride} frames" if stride > 1 else ""
    beside = {f"8x8 patches whose pixels stay{over}": float(np.mean(still))}
    owner = evaluation.build(TEXTS, np.repeat(np.arange(len(clips)), [len(s) for s in same]))
    yield owner.fraction("codes_unchanged", np.concatenate(same), "codes", baselines=beside)


def _joined(parts: list[np.ndarray], spec: ModelSpec) -> list[np.ndarray]:
    """Join consecutive stretches of latent frames; independent windows are not joined."""
    return parts if spec.window else [np.concatenate(parts)]


SECTION = Section(
    name="tokenizer",
    title="Reconstruction",
    description="The tokenizer turns {method} compared with themselves after that round trip; nothing is predicted "
    "yet.",
    measure=measure,
    applies=lambda spec, _data, _config: bool(spec.grids),
)
