"""Whether somebody who sees only the world's pictures can tell which action was taken.

Shapes: n starts, T context frames, S steps, H W pixel rows and columns, K columns of an action stream
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelworld.data.clip_index import ClipIndex
from reelworld.evaluate.clips import Starts
from reelworld.evaluate.figures import Figure, Section, missing_figure, per_clip, r2_figure, share_figure
from reelworld.evaluate.inverse import N_FRAMES, InverseDynamics, trained
from reelworld.evaluate.reconstruction import reconstruct
from reelworld.types import UserError
from reelworld.worlds.provenance import frame_stride, merge_of

if TYPE_CHECKING:
    from collections.abc import Set

    from reelworld.data.dataset import Dataset
    from reelworld.worlds.world import World

__all__ = ["compare_readings", "measure_following"]

RECORDED, DECODED = "the recordings themselves", "the recordings through the tokenizer"
FREQUENT, MEAN = "always the most frequent action", "always the mean action"


def measure_following(
    world: World,
    dataset: Dataset,
    measured: Set[str],
    starts: Starts,
    predicted: np.ndarray,
    steps: int,
    seed: int,
    cache: Path | None,
) -> Section:
    """Train an inverse-dynamics model on recordings and let it read recordings and the world's frames.

    Args:
        world: A world with actions.
        dataset: Where the training windows come from: episodes the world was trained on where they are listed, else
            the training split, else all.
        measured: Sources of the recordings that are measured; they are left out of the training.
        starts: Where the predictions began.
        predicted: Under recorded actions, uint8 (n, S, H, W, 3).
        steps: Training steps.
        seed: Of the training and the bootstrap.
        cache: Folder where the model is kept; None forgets it.
    """
    figures: list[Figure]
    try:
        windows = _training_windows(world, dataset, measured)
        with tempfile.TemporaryDirectory() as forgotten:
            model = trained(windows, world.info.actions, steps, seed, cache or Path(forgotten), world.device)
        figures = compare_readings(world, model, starts, predicted, seed)
    except UserError as error:
        figures = [missing_figure("following_missing", "Actions that can be read off the frames", f"Missing: {error}")]
    return Section(
        name="following",
        label="Can one see which key was pressed?",
        explanation="A small network learned from recordings to tell the action from three frames. Here it looks at "
        "the world's frames, made under the recorded actions, and at the recorded frames of the same steps. Steps "
        "that change nothing in the recording are left out.",
        figures=tuple(figures),
    )


def _training_windows(world: World, dataset: Dataset, measured: Set[str]) -> ClipIndex:
    """Cut the recordings that may be learned from into windows."""
    trained_on = set(world.info.splits.get("train", ()))
    listed = {i for i, e in enumerate(dataset.episodes) if e.source in trained_on}
    allowed = listed or set(dataset.indices("train")) or set(dataset.indices("all"))
    allowed -= {i for i, e in enumerate(dataset.episodes) if e.source in measured}
    windows = ClipIndex(dataset, "all", N_FRAMES, frame_stride(world.info.provenance), merge_of(world.info.provenance))
    return windows.with_index(windows.index[np.isin(windows.index[:, 0], list(allowed))])


def compare_readings(
    world: World, model: InverseDynamics, starts: Starts, predicted: np.ndarray, seed: int
) -> list[Figure]:
    """Compare what the model reads off the world's frames, and off the recorded ones, with the recorded actions."""
    context = starts.context[:, -(N_FRAMES - 1) :]
    ends = {"world": predicted, RECORDED: starts.future}
    whole = np.concatenate([starts.context, starts.future], 1)
    decoded = [reconstruct(world, clip) for clip in whole]
    if all(map(len, decoded)) and len(decoded[0]) == whole.shape[1]:
        ends[DECODED] = np.stack(decoded)[:, starts.context.shape[1] :]
    said = {name: model.read(np.concatenate([context, frames], 1)) for name, frames in ends.items()}
    n_before = starts.future.shape[1] - next(iter(said["world"].values())).shape[1]  # with one context frame, one
    before = np.concatenate([starts.context[:, -1:], starts.future[:, :-1]], 1)
    is_seen = (starts.valid & (starts.future != before).any((2, 3, 4)))[:, n_before:]
    clip = np.broadcast_to(starts.clip[:, None], is_seen.shape)[is_seen]
    if not len(clip):
        raise UserError("nothing moves in the recorded steps, so nobody can tell what was pressed: record more.")
    figures = []
    for number, (stream, spec) in enumerate(world.info.actions.items()):
        true = starts.actions[stream][:, n_before:]
        true = true.reshape(*true.shape[:2], -1)[is_seen]
        rows = {name: reading[stream][is_seen] for name, reading in said.items()}
        make = _accuracy if spec.kind == "discrete" else _explained
        figure = make(true, rows, clip, seed)
        if number:  # names of figures differ; the first stream has the plain one
            figure = replace(figure, name=f"{figure.name}_{stream}", label=f"{figure.label}: {stream}")
        figures.append(figure)
    return figures


def _accuracy(true: np.ndarray, rows: dict[str, np.ndarray], clip: np.ndarray, seed: int) -> Figure:
    """Count actions that are read rightly; true int64 (m, K), rows the same."""
    beside = {k: float((v == true).mean()) for k, v in rows.items() if k != "world"}
    beside[FREQUENT] = float(np.bincount(true.flatten()).max() / true.size)
    n_clips = int(clip.max()) + 1
    hits = per_clip(rows["world"] == true, clip, n_clips)
    return share_figure("following", hits, per_clip(np.ones_like(true), clip, n_clips), "actions", seed, beside)


def _explained(true: np.ndarray, rows: dict[str, np.ndarray], clip: np.ndarray, seed: int) -> Figure:
    """Compute how much of the variance of actions is read; true float (m, K), rows the same."""
    beside = {k: r2_figure("following_r2", true, v, clip, "steps").value for k, v in rows.items() if k != "world"}
    beside[MEAN] = 0.0
    return r2_figure("following_r2", true, rows["world"], clip, "steps", seed, beside)
