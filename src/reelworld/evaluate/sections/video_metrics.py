"""PSNR, SSIM, LPIPS and Frechet video distance of whole predicted clips, by the default or the published protocol.

Both begin at the same frames and draw several futures of each start. The default protocol uses future frames only and
takes the mean over all samples. The published one includes context frames, as decoded by the tokenizer. For each clip
and metric it keeps the best of the samples, an oracle choice.

Source: the published one is that of iVideoGPT (Wu et al. 2024, arXiv:2405.15223, appendix A.3, and its code). Differs:
frames are rounded to 8 bits before they are compared, and there is an interval over clips.

Shapes: n starts, K samples, T frames, F future frames, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelworld.evaluate import metrics
from reelworld.evaluate.metrics import COPY, db
from reelworld.evaluate.protocol import EvalConfig, Protocol, fixed_clip, future_frames, given_frames
from reelworld.evaluate.results import Metric, MetricBuilder, Text, Unit
from reelworld.evaluate.samples import EvalData, Evaluation, Starts, draws_futures, reconstruct
from reelworld.evaluate.sections import Details, Item, Section
from reelworld.evaluate.sections.fvd import check_enough, fvd_metric
from reelworld.nn.perceptual import LPIPS
from reelworld.types import ModelSpec
from reelworld.worlds.world import World

FLOOR = 1e-8 * 255**2
"""Added to squared errors before they become dB, as the published code does: no frame counts for more than 80 dB."""
PUBLISHED_CLIPS, PUBLISHED_SAMPLES = 256, 100
"""Numbers of clips and samples for which published results are reported as well."""
NOTHING = (float("nan"),) * 3

TEXTS = {
    "clip_psnr": Text("PSNR of future frames", "Mean over {k} samples of each start, of squared errors, then in dB."),
    "clip_ssim": Text("SSIM of future frames", "Mean over {k} samples of each start; 1 is perfect."),
    "clip_lpips": Text(
        "LPIPS of future frames", "Perceptual distance by a network, mean over {k} samples; 0 is perfect.", "lower"
    ),
    "best_psnr": Text(
        "PSNR, best of {k}, context included", "Mean over frames of each frame's dB, at most 80; the best sample."
    ),
    "best_ssim": Text("SSIM, best of {k}, context included", "Mean over frames; the best sample. 1 is perfect."),
    "best_lpips": Text(
        "LPIPS, best of {k}, context included", "Mean over frames; the best sample. 0 is perfect.", "lower"
    ),
    "lpips_missing": Text(
        "LPIPS", "Missing: its weights. Give the state of lpips.LPIPS(net='vgg') as .safetensors with --lpips.", "lower"
    ),
    "clips_missing": Text(
        "Whole clips", "Missing: episodes of {frames} frames from a start on; record longer ones.", ""
    ),
    "fvd": Text(
        "Frechet video distance",
        "Distance of the world's future frames from those of {many} recorded clips, mean over {k} samples of each, "
        "beside that of other clips. Few clips make it too large: compare numbers of equally many clips only ({usual} "
        "are usual).",
        "lower",
    ),
    "fvd_published": Text(
        "Frechet video distance, all {k} samples, context included",
        "Distance of {k} clips of the world for each of {many} recorded ones from these. The more clips, the smaller.",
        "lower",
    ),
    "fvd_missing": Text(
        "Frechet video distance",
        "Missing: the I3D network as a TorchScript file. Fetch i3d_torchscript.pt (its address is in the README and "
        "scripts of github.com/universome/fvd-comparison and stylegan-v) and give its path with --i3d.",
        "lower",
    ),
}
HOW: dict[Protocol, str] = {
    "default": "From each start {k} futures are drawn. Only their {future} future frames count, and every sample does: "
    "each metric is the mean over all of them.",
    "published": "As papers count, for comparison with their numbers: clips of {future} frames, the {context} given "
    "ones included as the tokenizer decodes them, and of {k} samples the best for each clip and each measure, chosen "
    "knowing the answer. This says what samples can reach; the default protocol says what to expect.",
}


@dataclass(frozen=True)
class ClipPairs:
    """Recorded and predicted clips of one length; only starts that hold all of one."""

    clip: np.ndarray
    """int64, (n,): recording that each is from."""
    actual: np.ndarray
    """uint8, (n, T, H, W, 3)."""
    predicted: np.ndarray
    """uint8, (n, K, T, H, W, 3)."""
    copied: np.ndarray
    """uint8, (n, 1, T, H, W, 3): the last frame seen, in place of every predicted one."""

    @classmethod
    def of(cls, world: World, starts: Starts, samples: np.ndarray, protocol: Protocol) -> ClipPairs:
        """Collect the clips that a protocol compares.

        Args:
            world: Decodes the context where that counts; models of whole clips return it as it was.
            starts: Beginnings of the samples, with the recorded future.
            samples: uint8, (n, K, S, H, W, 3).
            protocol: default or published.
        """
        n_frames = min(future_frames(world.spec), samples.shape[2])
        complete = starts.valid[:, :n_frames].all(1)
        actual, predicted = starts.future[complete, :n_frames], samples[complete, :, :n_frames]
        context = starts.context[complete]
        copied = np.broadcast_to(context[:, None, -1:], (len(actual), 1, *actual.shape[1:]))
        if protocol == "published":
            shown = context if fixed_clip(world.spec) else _decoded(world, context, actual)
            predicted, copied = _after(shown, predicted), _after(shown, copied)
            actual = np.concatenate([context, actual], 1)
        return cls(clip=starts.clip[complete], actual=actual, predicted=predicted, copied=copied)


def _decoded(world: World, context: np.ndarray, future: np.ndarray) -> np.ndarray:
    """Encode and decode the context, uint8 (n, T, H, W, 3); the frames after it are needed for its length only."""
    clips = np.concatenate([context, future], 1)
    n_context = context.shape[1]
    return np.stack([reconstruct(world, clip)[:n_context] for clip in clips]) if len(clips) else context


def _after(context: np.ndarray, futures: np.ndarray) -> np.ndarray:
    """Append (n, K, F, H, W, 3) to the common context, (n, T, H, W, 3)."""
    shared = np.broadcast_to(context[:, None], (*futures.shape[:2], *context.shape[1:]))
    return np.concatenate([shared, futures], 2)


def clip_pairs(evaluation: Evaluation) -> ClipPairs:
    """Collect the clips of an evaluation's starts."""
    starts = evaluation.starts
    samples = evaluation.rollouts(starts, evaluation.n_samples)
    return ClipPairs.of(evaluation.world, starts, samples, evaluation.config.protocol)


def measure(evaluation: Evaluation) -> Iterator[Item]:
    """Compare predicted with recorded clips: PSNR, SSIM, and LPIPS where its weights are given."""
    spec, protocol, pairs = evaluation.spec, evaluation.config.protocol, clip_pairs(evaluation)
    n, n_samples, n_frames = pairs.predicted.shape[:3]
    k, context = str(n_samples), given_frames(spec)
    yield Details(how=HOW[protocol].format(context=context, future=n_frames, k=k))
    make = evaluation.build(TEXTS, pairs.clip)
    if n:
        predicted, copied = (
            frame_scores(pairs.actual, clips, evaluation.lpips) for clips in (pairs.predicted, pairs.copied)
        )
        if protocol == "default":
            yield from default_metrics(make, predicted, copied)
        else:
            sizes = (n_frames, len(np.unique(pairs.clip)), n_samples)
            yield from published_metrics(make, predicted, copied, evaluation.published, spec, sizes)
    else:
        length = str(future_frames(spec) + context)
        yield make.build("clips_missing", NOTHING, "", 0, "clips", n_clips=0, frames=length)
    if protocol == "published" and evaluation.lpips is None:
        yield make.build("lpips_missing", NOTHING, "", 0, "clips", n_clips=0)


Tables = Sequence[Mapping[str, Any]]
"""Contents of a system's published.json."""
Scores = Mapping[str, np.ndarray]
""""error" (squared), "ssim" and "lpips" of each frame, float64 (n, K, T)."""


def frame_scores(actual: np.ndarray, predicted: np.ndarray, network: LPIPS | None) -> Scores:
    """Score each frame of clips, uint8 (n, T, H, W, 3) and (n, K, T, H, W, 3)."""
    scores: dict[str, list[np.ndarray]] = {"error": [], "ssim": []}
    if network is not None:
        scores["lpips"] = []
    for clip, samples in zip(actual, predicted, strict=True):  # one start at a time: there may be a hundred samples
        flat = np.array(samples).reshape(-1, *clip.shape[1:])
        wanted = np.tile(clip, (len(samples), 1, 1, 1))
        scores["error"].append(metrics.squared_error(flat, wanted).reshape(samples.shape[:2]))
        scores["ssim"].append(metrics.ssim(flat, wanted, border=5).reshape(samples.shape[:2]))
        if network is not None:
            scores["lpips"].append(metrics.lpips(flat, wanted, network).reshape(samples.shape[:2]))
    return {name: np.stack(rows) for name, rows in scores.items()}


def default_metrics(make: MetricBuilder, predicted: Scores, copied: Scores) -> Iterator[Metric]:
    """Take means over starts, samples and frames."""
    for name, values in predicted.items():
        k, beside, trials = str(values.shape[1]), {COPY: copied[name]}, "future frames"
        if name == "error":
            yield make.psnr("clip_psnr", values, trials, baselines=beside, k=k)
        else:
            yield make.mean(f"clip_{name}", values, trials, baselines=beside, k=k)


def published_metrics(
    make: MetricBuilder,
    predicted: Scores,
    copied: Scores,
    tables: Tables,
    spec: ModelSpec,
    sizes: tuple[int, int, int],
) -> Iterator[Metric]:
    """Take the mean over frames, then the best sample, then the mean over clips."""
    for name, values in predicted.items():
        key, k = ("psnr" if name == "error" else name), str(values.shape[1])
        beside: dict[str, np.ndarray | float] = {COPY: _best(name, copied[name])}
        beside |= published_numbers(tables, spec, f"best_{key}", *sizes)
        unit: Unit = "dB" if name == "error" else ""
        yield make.mean(f"best_{key}", _best(name, values), "starts", unit, baselines=beside, k=k)


def _best(name: str, values: np.ndarray) -> np.ndarray:
    """Return the best sample's mean over frames, (n,), of each frame's value, (n, K, T)."""
    best: np.ndarray
    if name == "lpips":
        best = values.mean(2).min(1)
    else:
        best = (db(values + FLOOR) if name == "error" else values).mean(2).max(1)
    return best


def published_numbers(
    tables: Tables, spec: ModelSpec, metric: str, n_frames: int, n_clips: int, n_samples: int
) -> dict[str, float]:
    """Return "system on data, published" -> its number, for models of a table's size, context and kind, without goals.

    Args:
        tables: Contents of the system's published.json.
        spec: Of the model that was measured.
        metric: Name of the metric.
        n_frames: Frames of a clip, the context included.
        n_clips: Number of clips; other numbers than 256 give nothing.
        n_samples: Samples of each; other numbers than 100 give nothing.
    """
    if (n_clips, n_samples) != (PUBLISHED_CLIPS, PUBLISHED_SAMPLES) or spec.goal:
        return {}
    kind = (spec.height, spec.width, given_frames(spec), n_frames, bool(spec.actions))
    found = {}
    for table in tables:
        if kind == (table["size"], table["size"], table["context"], table["frames"], table["actions"]):
            for system, numbers in table["systems"].items():
                if metric in numbers:
                    found[f"{system} on {table['data']}, published"] = numbers[metric]
    return found


# ---------------------------------------------------------------------- FVD


def measure_fvd(evaluation: Evaluation) -> Iterator[Item]:
    """Compare features of clips, with training clips and the repeated last frame as baselines."""
    make = evaluation.build(TEXTS, evaluation.starts.clip)
    if evaluation.detect is None:
        yield make.build("fvd_missing", NOTHING, "distance", 0, "clips", n_clips=0)
        return
    pairs = clip_pairs(evaluation)
    n, n_frames = pairs.actual.shape[:2]
    check_enough(n)
    sets, is_published = {COPY: pairs.copied[:, 0]}, evaluation.config.protocol == "published"
    training, n_training = evaluation.training_clips(n_frames, n)
    if n_training > 1:
        sets = {f"{n_training} training clips": np.stack(list(training)), **sets}
    beside = {}
    if is_published:
        sizes = (n_frames, n, evaluation.n_samples)
        beside = published_numbers(evaluation.published, evaluation.spec, "fvd_published", *sizes)
    yield fvd_metric(make, evaluation.detect, pairs.actual, pairs.predicted, sets, is_published, beside)


def _wants_fvd(spec: ModelSpec, _data: EvalData, config: EvalConfig) -> bool:
    return config.i3d is not None or draws_futures(spec, config) or config.protocol == "published"


SECTION = Section(name="video_metrics", title="Video metrics of predicted clips", description="{how}", measure=measure)
FVD = Section(
    name="fvd",
    title="Frechet video distance",
    description="FVD compares clips of the world with recorded ones by the features of a network for actions in video. "
    "It is what papers report, sees pictures better than motion, and depends on the number of clips.",
    applies=_wants_fvd,
    measure=measure_fvd,
)
