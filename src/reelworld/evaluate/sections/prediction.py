"""Predictions against the recording: by horizon, over a long open-loop rollout, and as several futures of one start.

Without actions the future is uncertain: a good sample may differ from the recording. The per-pixel mean of several
samples is the best estimate under the world's own uncertainty, so it should beat repeating the last frame. Single
samples are reported as well.

In an open-loop rollout errors persist: if a frame is right with probability p per step, the fraction of right frames
at step s is about p ** s. Global mean and standard deviation of pixels stay normal in every known failure, so motion
from frame to frame and the number of used codes are reported.

Shapes: n starts, K samples, S steps, H W pixel rows and columns
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from reelworld.evaluate.metrics import COPY, FROZEN, db, exact_frames, squared_error
from reelworld.evaluate.protocol import fixed_clip
from reelworld.evaluate.report.videos import choose_rollouts, choose_samples
from reelworld.evaluate.results import Metric, MetricBuilder, Series, Text, Unit
from reelworld.evaluate.samples import Evaluation, Starts, draws_futures, encode, reconstruct
from reelworld.evaluate.sections import Details, Item, Section
from reelworld.worlds.world import World

CEILING = "tokenizer alone"
SINGLE = "single samples"
BEST = "best of the samples, chosen knowing the answer"
TRUTH = "sample and recording"
OTHERS = "recordings of two starts"
RECORDING = "recording"
BLOCK_STEPS = 10

TEXTS = {
    "psnr": Text("PSNR after {h} steps", "Predicted against recorded frames, {h} steps after the context."),
    "gain": Text(
        "Gain over the last frame, {h} steps",
        "PSNR of the prediction minus PSNR of repeating the last frame seen, on the same frames.",
    ),
    "exact": Text("Exact frames after {h} steps", "Predicted frames without any wrong tile or pixel."),
    "psnr_changed": Text("PSNR of steps with changes", "One step ahead, only steps whose frame changes."),
    "psnr_unchanged": Text("PSNR of steps without changes", "One step ahead, only steps that change nothing."),
    "psnr_mean": Text(
        "Mean of {k} samples, {h} steps",
        "PSNR of the per-pixel mean of {k} drawn futures against the recording. Where the future is open this is the "
        "best guess that a picture can be.",
    ),
    "gain_mean": Text(
        "Mean of {k} samples: gain over the last frame, {h} steps",
        "PSNR of the mean of {k} samples minus PSNR of repeating the last frame seen, from the same starts.",
    ),
    "psnr_single": Text(
        "Single samples, {h} steps",
        "Each drawn future alone. It may be plausible and still not be the recorded one, so there is no bar.",
        "",
    ),
    "psnr_best": Text(
        "Best of {k} samples, {h} steps",
        "From each start the sample that comes closest to the recording, chosen afterwards: the reach of the samples, "
        "not a prediction.",
        "",
    ),
    "sample_diversity": Text(
        "PSNR between two samples, {h} steps",
        "PSNR between two samples of one start. For a perfect world two samples are as far apart as a sample and the "
        "recording. A much higher number (infinite for a world that always draws the same) means too little diversity.",
        "near the data",
    ),
    "open_loop_frames_exact": Text(
        "Exact frames, open loop",
        "The world runs on its own predictions under the recorded actions; mean over all scored steps.",
    ),
    "open_loop_psnr": Text("PSNR, open loop", "Predicted against recorded frames, all scored steps."),
    "open_loop_motion": Text(
        "Motion from frame to frame",
        "PSNR between consecutive frames of the rollout. Far above the data: the world freezes. Far below: it "
        "flickers.",
        "near the data",
    ),
    "open_loop_live_codes": Text(
        "Live codes",
        "Distinct codes in the predicted frames of a clip, on average; few means that detail dies out.",
        "near the data",
    ),
}

Values = dict[str, np.ndarray]
"""Name ("world" and baselines) -> one value per start and step, (n, S)."""


def compare(evaluation: Evaluation, starts: Starts, predicted: np.ndarray) -> tuple[Values, Values]:
    """Compare predictions, uint8 (n, S, H, W, 3), and two baselines with the recorded future.

    Returns:
        Mean squared errors, and True for each frame that is exactly right.
    """
    shown = {
        "world": predicted,
        COPY: np.broadcast_to(starts.context[:, -1:], predicted.shape),
        FROZEN: np.broadcast_to(starts.first[:, None], predicted.shape),
    }
    errors = {k: squared_error(starts.future, v) for k, v in shown.items()}
    return errors, {k: evaluation.frames_right(starts.future, v) for k, v in shown.items()}


# ---------------------------------------------------------------------- by horizon


def measure_horizons(evaluation: Evaluation) -> Iterator[Item]:
    """Compare predictions with the recording at every horizon."""
    starts, horizons = evaluation.starts, evaluation.horizons
    samples = evaluation.rollouts(starts, evaluation.n_samples)
    if evaluation.n_samples > 1 and not draws_futures(evaluation.spec, evaluation.config):
        yield choose_samples(evaluation.clips, starts, samples)
    errors, exact = compare(evaluation, starts, samples[:, 0])
    if (ceiling := _ceiling(evaluation.world, starts)) is not None:
        errors[CEILING] = squared_error(starts.future, ceiling)
    yield Details(how=UNDER_ACTIONS if evaluation.spec.actions else ALONE)
    yield from horizon_metrics(evaluation.build(TEXTS, starts.clip), starts, errors, exact, horizons)


def horizon_metrics(
    make: MetricBuilder, starts: Starts, errors: Values, exact: Values, horizons: Sequence[int]
) -> Iterator[Item]:
    """Report errors and exact frames at horizons, steps whose frame changes apart."""
    for h in horizons:
        valid = starts.valid[:, h - 1]
        if not valid.any():
            continue
        at, right = ({k: v[:, h - 1] for k, v in values.items()} for values in (errors, exact))
        yield make.psnr(f"psnr_h{h}", at.pop("world"), mask=valid, baselines=at)
        yield make.gain(f"gain_h{h}", errors["world"][:, h - 1], at[COPY], mask=valid)
        yield make.fraction(f"exact_h{h}", right.pop("world"), "frames", mask=valid, baselines=right)
    still = exact_frames(starts.future[:, 0], starts.context[:, -1])
    for name, mask in (("psnr_changed_h1", ~still), ("psnr_unchanged_h1", still)):
        mask = mask & starts.valid[:, 0]
        if mask.any():
            beside = {COPY: errors[COPY][:, 0]}
            yield make.psnr(name, errors["world"][:, 0], mask=mask, baselines=beside)
    at_horizons = np.array(horizons) - 1
    kinds: list[tuple[str, str, str, Unit, Values]] = [
        ("prediction_psnr", "PSNR by horizon", "PSNR", "dB", errors),
        ("prediction_exact", "Exact frames by horizon", "share", "share", exact),
    ]
    for name, label, y_label, unit, values in kinds:
        yield make.series(
            name,
            label,
            {k: v[:, at_horizons] for k, v in values.items()},
            horizons,
            x_label="steps ahead",
            y_label=y_label,
            unit=unit,
            mask=starts.valid[:, at_horizons],
        )


def _ceiling(world: World, starts: Starts) -> np.ndarray | None:
    """Encode and decode the recorded future, with its context for models of whole clips."""
    n_steps = starts.future.shape[1]
    frames = starts.future
    if whole := fixed_clip(world.spec):
        frames = np.concatenate([starts.context, frames], 1)[:, -whole:]
    flat = frames.reshape(-1, *frames.shape[2:])
    decoded = reconstruct(world, flat)
    return decoded.reshape(frames.shape)[:, -n_steps:] if len(decoded) == len(flat) else None


# ---------------------------------------------------------------------- open loop


def measure_open_loop(evaluation: Evaluation) -> Iterator[Item]:
    """Roll every clip out to its end on the world's own predictions."""
    starts = evaluation.free_run_starts
    predicted = evaluation.rollouts(starts)[:, 0]
    actions = PLAYED if evaluation.spec.actions else NO_ACTIONS
    yield Details(steps=str(predicted.shape[1]), actions=actions)
    make = evaluation.build(TEXTS, starts.clip)
    yield from _open_loop_errors(make, starts, *compare(evaluation, starts, predicted))
    yield from _motion(make, starts, predicted)
    live = {
        name: _live_codes(evaluation.world, frames, starts.valid)
        for name, frames in (("world", predicted), (RECORDING, starts.future))
    }
    if len(live["world"]):
        each = evaluation.build(TEXTS, np.arange(len(live["world"])))
        beside = {RECORDING: live[RECORDING]}
        yield each.mean("open_loop_live_codes", live["world"], "clips", "codes", baselines=beside)
    judge = None if evaluation.atlas is None or not evaluation.spec.actions else evaluation.frames_right
    yield choose_rollouts(evaluation.clips, starts, predicted, judge, open_ended=not evaluation.spec.actions)


def _open_loop_errors(make: MetricBuilder, starts: Starts, errors: Values, exact: Values) -> Iterator[Item]:
    valid = starts.valid
    others = [{k: v for k, v in values.items() if k != "world"} for values in (errors, exact)]
    yield make.fraction("open_loop_frames_exact", exact["world"], "frames", valid, others[1])
    yield make.psnr("open_loop_psnr", errors["world"], mask=valid, baselines=others[0])
    yield by_step(make, "open_loop_exact", "Exact frames by step", exact, valid)
    yield by_step(make, "open_loop_psnr", "PSNR by step", errors, valid)


def by_step(make: MetricBuilder, name: str, label: str, values: Mapping[str, np.ndarray], valid: np.ndarray) -> Series:
    """Build lines over the steps of the clips that still run; steps without a clip are left out."""
    n_steps = int(np.flatnonzero(valid.any(0)).max()) + 1
    is_error = name.endswith("psnr")
    return make.series(
        name,
        label,
        {k: v[:, :n_steps] for k, v in values.items()},
        range(1, n_steps + 1),
        x_label="step",
        y_label="PSNR" if is_error else "share",
        unit="dB" if is_error else "share",
        mask=valid[:, :n_steps],
        n_resamples=500,
    )


def _motion(make: MetricBuilder, starts: Starts, predicted: np.ndarray) -> Iterator[Metric | Series]:
    """Compare the motion of the rollout with that of the recording; the series is over blocks of ten steps."""
    motion = {}
    for name, frames in (("world", predicted), (RECORDING, starts.future)):
        chain = np.concatenate([starts.context[:, -1:], frames], 1)
        motion[name] = squared_error(chain[:, 1:], chain[:, :-1])
    beside = {RECORDING: motion[RECORDING]}
    yield make.psnr("open_loop_motion", motion["world"], mask=starts.valid, baselines=beside)
    n_blocks = math.ceil(starts.valid.any(0).sum() / BLOCK_STEPS)
    blocks = [slice(b * BLOCK_STEPS, (b + 1) * BLOCK_STEPS) for b in range(n_blocks)]
    yield Series(
        name="open_loop_motion",
        label="Motion from frame to frame",
        x_label="step",
        y_label="PSNR between neighbours",
        unit="dB",
        x=tuple(b.start + BLOCK_STEPS / 2 for b in blocks),
        lines={k: tuple(float(db(v[:, b][starts.valid[:, b]].mean())) for b in blocks) for k, v in motion.items()},
    )


def _live_codes(world: World, frames: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Count the distinct codes of every clip, float64; clips shorter than a window have none."""
    codes = (encode(world, f[v]) for f, v in zip(frames, valid, strict=True) if v.any())
    return np.array([len(np.unique(np.concatenate(c))) for c in codes if c], np.float64)


# ---------------------------------------------------------------------- several futures of one start


def measure_samples(evaluation: Evaluation) -> Iterator[Item]:
    """Draw several futures of every start; measure their mean, each sample, and their distance."""
    starts, n = evaluation.starts, evaluation.n_samples
    samples = evaluation.rollouts(starts, n)
    yield Details(starts=str(len(starts.clip)), k=str(n))
    yield from sample_metrics(evaluation.build(TEXTS, starts.clip), starts, samples, evaluation.horizons)
    yield choose_samples(evaluation.wide, starts, samples)


def sample_metrics(
    make: MetricBuilder, starts: Starts, samples: np.ndarray, horizons: Sequence[int]
) -> Iterator[Metric | Series]:
    """Compare samples, uint8 (n, K, S, H, W, 3), K at least 2, with the recording at horizons."""
    reached = [h for h in horizons if starts.valid[:, h - 1].any()]
    errors = {h: _sample_errors(starts, samples, h) for h in reached}
    k = str(samples.shape[1])
    for h in reached:
        at, valid = errors[h], starts.valid[:, h - 1]
        copied, both = {COPY: at[COPY]}, {TRUTH: at[SINGLE], OTHERS: at[OTHERS]}
        yield make.psnr(f"psnr_mean_h{h}", at["world"], "starts", valid, copied, k=k)
        yield make.gain(f"gain_mean_h{h}", at["world"], at[COPY], "starts", valid, k=k)
        yield make.psnr(f"psnr_single_h{h}", at[SINGLE], "starts", valid, copied, k=k)
        yield make.psnr(f"psnr_best_h{h}", at[BEST], "starts", valid, copied, k=k)
        yield make.psnr(f"sample_diversity_h{h}", at["apart"], "starts", valid, both, k=k)
    names = {"world": f"mean of {k} samples", COPY: COPY, SINGLE: SINGLE, BEST: BEST}
    yield make.series(
        "samples_psnr",
        "PSNR of samples",
        {shown: np.stack([errors[h][key] for h in reached], 1) for key, shown in names.items()},
        reached,
        x_label="steps ahead",
        y_label="PSNR",
        unit="dB",
        mask=starts.valid[:, np.array(reached) - 1],
    )


def _sample_errors(starts: Starts, samples: np.ndarray, h: int) -> Values:
    """Return mean squared errors at one horizon, float64 (n,) each."""
    actual, drawn = starts.future[:, h - 1], samples[:, :, h - 1]
    single = squared_error(np.broadcast_to(actual[:, None], drawn.shape), drawn)
    mean = drawn.mean(1, dtype=np.float32)
    n_samples = drawn.shape[1]
    # the mean over pairs of |a - b|^2 is 2 K / (K - 1) times the mean of |a - mean|^2
    around = squared_error(np.broadcast_to(mean[:, None], drawn.shape), drawn).mean(1)
    return {
        "world": squared_error(actual, mean),
        COPY: squared_error(actual, starts.context[:, -1]),
        SINGLE: single.mean(1),
        BEST: single.min(1),
        "apart": 2 * n_samples / (n_samples - 1) * around,
        OTHERS: _to_other_starts(actual, starts.clip),
    }


def _to_other_starts(actual: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Return each recorded frame's mean squared distance to those of starts in other clips; NaN with one clip."""
    flat = actual.reshape(len(actual), -1).astype(np.float64)
    square = (flat**2).sum(1)
    distance = (square[:, None] + square - 2 * flat @ flat.T) / flat.shape[1]
    distance[clip[:, None] == clip] = np.nan
    n = (~np.isnan(distance)).sum(1)
    return np.where(n > 0, np.nansum(distance, 1) / np.maximum(n, 1), np.nan)


UNDER_ACTIONS = "predicts on its own under the recorded actions"
ALONE = "draws one future of many: the mean of several, in the section above, is the fair comparison"
PLAYED = " while the recorded actions are played"
NO_ACTIONS = (
    ". Without actions its rollout leaves the recorded one soon and rightly: what counts is that motion and detail "
    "stay near the data's"
)

SAMPLES = Section(
    name="samples",
    title="Several futures of one start",
    description="This world takes no actions, so the future is open. From each of {starts} starts {k} futures are "
    "drawn. Their per-pixel mean is the world's best guess and should beat repeating the last frame; a single sample "
    "may be plausible and still not be the recorded future.",
    applies=lambda spec, _data, config: draws_futures(spec, config),
    measure=measure_samples,
)
HORIZONS = Section(
    name="prediction",
    title="Prediction by horizon",
    description="The world is shown a few true frames, then {how}. Two ways of not predicting are reported beside it: "
    "repeating the last frame, and the first frame.",
    measure=measure_horizons,
)
OPEN_LOOP = Section(
    name="open_loop",
    title="Open-loop rollout over {steps} steps",
    description="Only the first frames are true; from there on the world runs on its own predictions{actions}. Scored "
    "up to the end of each episode.",
    measure=measure_open_loop,
)
