"""Effect of other actions on a prediction, and recovery of the actions from predicted frames.

Delta-t PSNR (Bruce et al. 2024, arXiv:2402.15391, appendix) is the PSNR under recorded actions minus the PSNR under
uniformly drawn ones, t steps after the context. Differs: both rollouts have the same noise; besides uniformly drawn
actions the recorded actions of another clip are used, because random presses cancel out within a few frames.

Shapes: n starts, T context frames, S steps, H W pixel rows and columns, K columns of an action stream
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelworld.data.clip_index import ClipIndex
from reelworld.evaluate.metrics import squared_error
from reelworld.evaluate.protocol import training_episodes
from reelworld.evaluate.results import Metric, MetricBuilder, Series, Text, not_applicable
from reelworld.evaluate.samples import (
    CONTROL_HORIZONS,
    Evaluation,
    Starts,
    reconstruct,
    roll,
    shuffled_actions,
    uniform_actions,
)
from reelworld.evaluate.sections import Item, Section
from reelworld.evaluate.sections.inverse_dynamics import N_FRAMES, InverseDynamics, trained
from reelworld.types import UserError
from reelworld.worlds.provenance import merge_of
from reelworld.worlds.world import World

SHUFFLED, UNIFORM = "actions of another clip", "random actions"
RECORDED, DECODED = "the recordings themselves", "the recordings through the tokenizer"
FREQUENT, MEAN = "always the most frequent action", "always the mean action"

TEXTS = {
    "delta_shuffled": Text(
        "Controllability over {h} steps: actions of another clip",
        "Delta PSNR: PSNR under the recorded actions minus PSNR under those of another clip, with the same noise. Zero "
        "means that the world ignores its actions.",
    ),
    "delta_uniform": Text(
        "Controllability over {h} steps: random actions",
        "Delta PSNR with actions drawn uniformly. Random presses can cancel out, which makes this smaller.",
    ),
    "action_recovery": Text(
        "Action recovery",
        "Accuracy of an inverse-dynamics model, trained on recordings, on the world's frames. Near its accuracy on the "
        "recordings themselves the world shows every action.",
    ),
    "action_recovery_r2": Text(
        "Action recovery",
        "Explained variance of the actions (R2, mean over their numbers) by an inverse-dynamics model, trained on "
        "recordings, on the world's frames.",
    ),
}


def measure_deltas(evaluation: Evaluation) -> Iterator[Item]:
    """Predict under other actions, with the same noise."""
    starts = evaluation.control_starts
    predicted = evaluation.rollouts(starts)[:, 0]
    metrics = list(delta_metrics(evaluation, starts, squared_error(starts.future, predicted)))
    yield from metrics
    measured = {m.name: m for m in metrics if m.n}
    stems = {SHUFFLED: "delta_shuffled", UNIFORM: "delta_uniform"}
    reached = [h for h in CONTROL_HORIZONS if any(f"{stem}_h{h}" in measured for stem in stems.values())]
    lines = {
        label: tuple(measured[f"{stem}_h{h}"].value if f"{stem}_h{h}" in measured else math.nan for h in reached)
        for label, stem in stems.items()
        if any(f"{stem}_h{h}" in measured for h in reached)
    }
    if not lines:
        return
    shown = [measured.get(f"{stems[next(iter(lines))]}_h{h}") for h in reached]
    yield Series(
        name="controllability",
        label="Delta PSNR: value of the true actions",
        x_label="steps ahead",
        y_label="true minus other actions",
        unit="dB",
        x=tuple(map(float, reached)),
        lines=lines,
        low=tuple(m.low if m else math.nan for m in shown),
        high=tuple(m.high if m else math.nan for m in shown),
    )


def delta_metrics(evaluation: Evaluation, starts: Starts, error: np.ndarray) -> Iterator[Metric]:
    """Compare squared errors under recorded actions, (n, S), with those under other actions."""
    world, seed = evaluation.world, evaluation.seed
    make = evaluation.build(TEXTS, starts.clip)
    others = {"delta_uniform": (uniform_actions(starts, world.spec.actions, seed), starts.valid)}
    if len(np.unique(starts.clip)) > 1:
        actions, valid = shuffled_actions(starts, seed)
        others = {"delta_shuffled": (actions, valid & starts.valid), **others}
    else:
        reason = f"{SHUFFLED} need a second clip, and one came: give more recordings, or --clips 2 and more."
        yield not_applicable("delta_shuffled_missing", SHUFFLED, reason)
    for stem, (actions, valid) in others.items():
        other = squared_error(starts.future, roll(world, starts, seed, actions)[:, 0])
        for h in CONTROL_HORIZONS:
            yield make.gain(f"{stem}_h{h}", error[:, h - 1], other[:, h - 1], mask=valid[:, h - 1])


def measure_recovery(evaluation: Evaluation) -> Iterator[Item]:
    """Train an inverse-dynamics model on recordings and apply it to recordings and the world's frames."""
    world, config, starts = evaluation.world, evaluation.config, evaluation.control_starts
    predicted = evaluation.rollouts(starts)[:, 0]
    try:
        windows = training_windows(evaluation)
        with tempfile.TemporaryDirectory() as temporary:
            cache = evaluation.cache or Path(temporary)
            model = trained(windows, world.spec.actions, config.inverse_steps, config.seed, cache, world.device)
        yield from recovery_metrics(world, model, starts, predicted, config.seed)
    except UserError as error:
        yield not_applicable("action_recovery_missing", "Action recovery", f"Missing: {error}")


def training_windows(evaluation: Evaluation) -> ClipIndex:
    """Index the windows of three frames of training episodes that are not measured."""
    world, measured = evaluation.world, {clip.source for clip in evaluation.wide}
    allowed = training_episodes(world, evaluation.train, measured)
    windows = ClipIndex(evaluation.train, "all", N_FRAMES, world.spec.frame_stride, merge_of(world.info.provenance))
    return windows.with_index(windows.index[np.isin(windows.index[:, 0], allowed)])


def recovery_metrics(
    world: World, model: InverseDynamics, starts: Starts, predicted: np.ndarray, seed: int
) -> list[Metric]:
    """Compare the actions inferred from the world's frames, and from recorded ones, with the recorded actions."""
    context = starts.context[:, -(N_FRAMES - 1) :]
    ends = {"world": predicted, RECORDED: starts.future}
    whole = np.concatenate([starts.context, starts.future], 1)
    decoded = [reconstruct(world, clip) for clip in whole]
    if all(map(len, decoded)) and len(decoded[0]) == whole.shape[1]:
        ends[DECODED] = np.stack(decoded)[:, starts.context.shape[1] :]
    read = {name: model.read(np.concatenate([context, frames], 1)) for name, frames in ends.items()}
    n_before = starts.future.shape[1] - next(iter(read["world"].values())).shape[1]  # with one context frame, one
    before = np.concatenate([starts.context[:, -1:], starts.future[:, :-1]], 1)
    is_seen = (starts.valid & (starts.future != before).any((2, 3, 4)))[:, n_before:]
    clip = np.broadcast_to(starts.clip[:, None], is_seen.shape)[is_seen]
    if not len(clip):
        raise UserError("no recorded step changes the picture, so no action can be recovered: record more.")
    make, metrics = MetricBuilder(TEXTS, clip, seed), []
    for number, (stream, spec) in enumerate(world.spec.actions.items()):
        actual = starts.actions[stream][:, n_before:]
        actual = actual.reshape(*actual.shape[:2], -1)[is_seen]
        rows = {name: reading[stream][is_seen] for name, reading in read.items()}
        metric = (_explained if spec.kind == "continuous" else _accuracy)(make, actual, rows)
        if number:  # names of metrics differ; the first stream has the plain one
            metric = replace(metric, name=f"{metric.name}_{stream}", label=f"{metric.label}: {stream}")
        metrics.append(metric)
    return metrics


def _accuracy(make: MetricBuilder, actual: np.ndarray, rows: Mapping[str, np.ndarray]) -> Metric:
    """Build the accuracy of ids or buttons; actual (m, K), rows the same."""
    beside: dict[str, np.ndarray | float] = {k: v == actual for k, v in rows.items() if k != "world"}
    beside[FREQUENT] = float(np.mean([np.unique(column, return_counts=True)[1].max() for column in actual.T])) / len(
        actual
    )
    return make.fraction("action_recovery", rows["world"] == actual, "actions", baselines=beside)


def _explained(make: MetricBuilder, actual: np.ndarray, rows: Mapping[str, np.ndarray]) -> Metric:
    """Build R2 of numbers; actual float (m, K), rows the same."""
    name = "action_recovery_r2"
    beside = {k: make.r2(name, actual, v, "steps").value for k, v in rows.items() if k != "world"}
    return make.r2(name, actual, rows["world"], "steps", {**beside, MEAN: 0.0})


DELTAS = Section(
    name="controllability",
    title="Controllability",
    description="The same starts and the same noise, but with wrong actions. The prediction of a controllable world "
    "gets worse; that of a world that ignores its actions does not change.",
    applies=lambda spec, _data, _config: bool(spec.actions),
    measure=measure_deltas,
)
RECOVERY = Section(
    name="action_recovery",
    title="Action recovery",
    description="An inverse-dynamics model learned from recordings to read the action off three frames. It reads the "
    "world's frames, predicted under the recorded actions, and the recorded frames of the same steps. Steps that "
    "change nothing in the recording are left out.",
    applies=lambda spec, _data, config: bool(spec.actions) and config.inverse_steps > 0,
    measure=measure_recovery,
)
