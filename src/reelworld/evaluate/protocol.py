"""Config of an evaluation, and the choice of its clips.

The clips of a split are drawn once with a fixed seed; baselines and every action condition use the same ones. Clips of
the world's own training list are refused: their scores would measure memorization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from reelworld.config import from_json
from reelworld.data.action_alignment import check_range
from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.data.mixture import DatasetShare, members_of, open_recordings
from reelworld.models.action_mapping import STREAM
from reelworld.nn.conditioning import clip_range
from reelworld.train.pseudo_label import with_pseudo_labels
from reelworld.types import Clip, ModelSpec, UserError
from reelworld.worlds.provenance import merge_of, read_as_trained, system_config
from reelworld.worlds.world import World

Protocol = Literal["default", "published"]

BLOCK = 50
"""Frames of a block of a long run."""
MAX_CLIP_FRAMES = 256
CLIP_FRAMES = 16
"""Length of the clips that are compared, for models without a window."""
TILE_FRAMES = 120_000
"""Training frames that tiles are collected from."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Sections to measure and the amount of data for each."""

    split: Literal["train", "val", "test", "all"] = "test"
    """Clips of the data set."""
    clips: int = 32
    """Clips that are rolled out; single steps use up to four times as many."""
    single_steps: int = 2000
    """Single steps from true frames (worlds drawn from tiles)."""
    free_run_steps: int = 100
    """Length of the rollout on the world's own predictions."""
    control_starts: int = 200
    """Starts from which wrong actions are tried, spread over the clips (worlds with actions)."""
    inverse_steps: int = 800
    """Training steps of the inverse-dynamics model; 0 leaves action recovery out."""
    stability_steps: int = 300
    """Length of the long runs, judged in blocks of 50 frames, and of the drives; 0 leaves them out."""
    stability_runs: int = 8
    """Number of those runs."""
    simulator_episodes: int = 16
    """Fresh episodes of the live simulator, where the recordings come from one; 0 leaves them out."""
    key_tests: int = 64
    """Carried-key tests (MiniGrid DoorKey)."""
    tiles: Literal["auto", "yes", "no"] = "auto"
    """Frames are drawn from 8x8 tiles: yes, no, or auto (detected on the training split)."""
    protocol: Protocol = "default"
    """default: future frames, mean over all samples. published: context included, best sample, as papers do."""
    samples: int | None = None
    """Futures drawn from every start; None draws 8 in worlds without actions, 1 in worlds with them."""
    train_clips: int = 512
    """Training clips that simple predictors of codes are fitted on (models of whole clips)."""
    train_data: Path | None = None
    """Recordings that training clips are taken from; None takes them from the data set that is measured."""
    i3d: Path | None = None
    """TorchScript file of an I3D network, for FVD; loading it runs code from it."""
    lpips: Path | None = None
    """Weights of LPIPS-VGG, safetensors."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the simulator of the recordings may come from."""
    seed: int = 0
    """Of every draw: clips, starts, noise, bootstrap."""
    allow_train: bool = False
    """Accept clips that the world was trained on; the report says so."""

    def __post_init__(self) -> None:
        for name in ("clips", "single_steps", "free_run_steps", "train_clips", "control_starts", "stability_runs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.key_tests < 0 or self.seed < 0:
            raise UserError(f"key_tests is {self.key_tests}, seed {self.seed}; both must be at least 0.")
        for name in ("inverse_steps", "simulator_episodes"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 0, which leaves that out.")
        if 0 < self.stability_steps < BLOCK or self.stability_steps < 0:
            raise UserError(f"stability_steps is {self.stability_steps}; it must be {BLOCK} (one block) or more, or 0.")
        if self.samples is not None and self.samples < 1:
            raise UserError(f"samples is {self.samples}; it must be at least 1.")


# ---------------------------------------------------------------------- lengths


def given_frames(spec: ModelSpec) -> int:
    """Return the number of true frames before each prediction: one latent frame for models that start from nothing."""
    return spec.context[1] or spec.time_stride


def future_frames(spec: ModelSpec) -> int:
    """Return the number of frames after the context that are compared: they fill the model's window."""
    return max(1, (spec.window or CLIP_FRAMES) - given_frames(spec))


def fixed_clip(spec: ModelSpec) -> int:
    """Return the length of clips of models that encode clips of one length only; 0 for other models."""
    return spec.window or 0 if spec.window == spec.min_clip else 0


def count_tokens(spec: ModelSpec, n_frames: int) -> int:
    """Return the number of codes of so many frames, all grids together."""
    return sum(grid.n_tokens for grid in spec.grids.values()) * n_frames // spec.time_stride


# ---------------------------------------------------------------------- recordings


def open_like(world: World, path: Path) -> Dataset:
    """Open recordings resized, aligned and timed as they were for the world's training, with their own actions.

    Those of a mixture's member are found by their name.
    """
    spec, fit = world.spec, system_config(world.info.provenance).get("fit", "none")
    data = world.info.provenance.get("data")
    read = data.get("read", {}) if isinstance(data, Mapping) else {}
    where = "how the world's data were read"
    options = from_json(ReadOptions, {**read, "size": (spec.height, spec.width), "fit": fit}, where)
    mixed = data.get("mixture", ()) if isinstance(data, Mapping) else ()
    members = [from_json(DatasetShare, m, where) for m in mixed]
    known = [replace(m, data=path) for m in members if m.data.name == path.name]
    return open_recordings(known[:1] or members_of([str(path)]), options, with_actions=bool(spec.actions))


def open_for(world: World, path: Path) -> Dataset:
    """Open recordings in the world's format, with its own kind of actions; latent actions are inferred."""
    dataset = open_like(world, path)
    if STREAM in world.spec.actions and STREAM not in dataset.info.actions:
        dataset = with_pseudo_labels(dataset, world.model)
    _check_fit(world.spec, dataset)
    _check_ranges(world, dataset)
    return dataset


def choose_clips(
    world: World, dataset: Dataset, split: str, n_clips: int, seed: int, allow_train: bool = False
) -> list[Clip]:
    """Draw clips of a split that the world has not been trained on, long enough for its model.

    Args:
        world: With its training list.
        dataset: Recordings.
        split: "train", "val", "test" or "all".
        n_clips: At most this many; fewer when the split is smaller.
        seed: Of the draw. Long episodes are cut to a stretch of 256 frames at a drawn position.
        allow_train: Accept clips of the world's training list.

    Raises:
        UserError: If the split is empty, holds training clips, or no clip is long enough.
    """
    indices = dataset.indices(split)
    if not indices:
        raise UserError(f"{dataset.path} has no episodes in split {split!r}; choose another --split, e.g. all.")
    trained_on = set(world.info.splits.get("train", ()))
    seen = [i for i in indices if dataset.episodes[i].source in trained_on]
    if seen and not allow_train:
        raise UserError(
            f"{len(seen)} of {len(indices)} clips of split {split!r} are in the world's training list "
            f"(first: {dataset.episodes[seen[0]].source}); choose --split test, or pass --allow-train."
        )
    _check_fit(world.spec, dataset)
    _check_ranges(world, dataset)
    spec, whole = world.spec, fixed_clip(world.spec)
    needed = max(spec.context[1] * spec.frame_stride + 1, (whole - 1) * spec.frame_stride + 1)
    long_enough = [i for i in indices if dataset.episodes[i].n_frames >= needed]
    if not long_enough:
        what = f"{whole} frames coded together" if whole else "context and one more"
        raise UserError(f"no clip of split {split!r} has {needed} frames ({what}); record longer ones.")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(long_enough)[:n_clips].tolist()
    clips = []
    for i in chosen:
        surplus = dataset.episodes[i].n_frames - MAX_CLIP_FRAMES * spec.frame_stride
        start = int(rng.integers(surplus + 1)) if surplus > 0 else 0
        clips.append(read_episode(world, dataset, i, start, MAX_CLIP_FRAMES))
    return clips


def read_episode(world: World, dataset: Dataset, episode: int, start: int = 0, n_frames: int | None = None) -> Clip:
    """Read an episode with the frame stride and the form of actions that the world was trained with.

    Args:
        world: With its provenance.
        dataset: Recordings.
        episode: Its number.
        start: First frame, counted in recorded frames.
        n_frames: At most this many kept frames; None reads to the end.
    """
    stop = dataset.episodes[episode].n_frames
    if not 0 <= start < stop:
        raise UserError(f"start is {start}; the episode has frames 0 to {stop - 1}.")
    if n_frames is not None:
        stop = min(stop, start + n_frames * world.spec.frame_stride)
    clip = read_as_trained(dataset, world.info.provenance, episode, start, stop)
    if world.spec.classes and clip.class_id is not None:
        clip = replace(clip, class_id=world.spec.classes.index(dataset.info.classes[clip.class_id]))
    return clip


def training_episodes(world: World, dataset: Dataset, skip: set[str]) -> list[int]:
    """List episodes of the world's training list, else those of the training split, else all.

    Args:
        world: With its training list.
        dataset: Recordings.
        skip: Sources of the recordings that are measured; they are left out.
    """
    trained_on = set(world.info.splits.get("train", ()))
    listed = [i for i, e in enumerate(dataset.episodes) if e.source in trained_on]
    some = listed or dataset.indices("train") or dataset.indices("all")
    return [i for i in some if dataset.episodes[i].source not in skip]


def training_clips(
    world: World, dataset: Dataset, n_frames: int, most: int, skip: set[str], seed: int
) -> tuple[Iterator[np.ndarray], int]:
    """Draw clips of one length from training episodes, cut one after the other.

    Args:
        world: With its training list.
        dataset: Recordings.
        n_frames: Frames of a clip.
        most: At most this many.
        skip: Sources of the recordings that are measured; they are left out.
        seed: Of the draw.

    Returns:
        The clips, uint8 (T, H, W, 3), read one by one, and their number.
    """
    span, stride = n_frames * world.spec.frame_stride, world.spec.frame_stride
    positions = [
        (i, start)
        for i in training_episodes(world, dataset, skip)
        for start in range(0, dataset.episodes[i].n_frames - span + stride, span)
    ]
    chosen = sorted(np.random.default_rng(seed).permutation(len(positions))[:most].tolist())
    read = (read_episode(world, dataset, positions[j][0], positions[j][1], n_frames).frames for j in chosen)
    return read, len(chosen)


def recorded_clips(dataset: Dataset) -> Iterator[Clip]:
    """Yield training episodes as recorded (all, where nothing is marked as training), up to 120,000 frames."""
    left = TILE_FRAMES
    for i in dataset.indices("train") or dataset.indices("all"):
        if left <= 0:
            return
        left -= dataset.episodes[i].n_frames
        yield dataset.read(i)


def _check_fit(spec: ModelSpec, dataset: Dataset) -> None:
    expected, actual = (spec.height, spec.width), (dataset.info.height, dataset.info.width)
    if expected != actual:
        raise UserError(f"the data are {actual[0]}x{actual[1]} pixels; the world makes {expected[0]}x{expected[1]}.")
    missing = sorted(set(spec.actions) - set(dataset.info.actions))
    if missing:
        raise UserError(f"the world needs the action stream(s) {', '.join(missing)}; {dataset.path} has none.")
    for name, action in spec.actions.items():
        given = dataset.info.actions[name]
        # Readers count ids that occur, so a recording may hold fewer of them than the world.
        n_fits = given.n <= action.n if action.kind == "discrete" else given.n == action.n
        if given.kind != action.kind or not n_fits:
            raise UserError(
                f"{dataset.path} has {given.kind} actions {name!r} ({given.n}); the world takes {action.kind} ones "
                f"({action.n}): give recordings of the same game."
            )
    if spec.classes and not dataset.info.classes:
        raise UserError(f"the world wants the class of every clip; {dataset.path} has none: give folders of classes.")
    if spec.classes and (strange := sorted(set(dataset.info.classes) - set(spec.classes))):
        raise UserError(
            f"{dataset.path} has the class {strange[0]!r}; the world knows {', '.join(spec.classes[:8])}"
            f"{', ...' if len(spec.classes) > 8 else ''}: give clips of these."
        )


def _check_ranges(world: World, dataset: Dataset) -> None:
    """Refuse recordings whose actions are in other units than those of the world's training."""
    specs = {name: spec for name, spec in world.spec.actions.items() if clip_range(spec) is not None}
    # summed actions have the range of the sums
    times = world.spec.frame_stride if merge_of(world.info.provenance) == "sum" else 1
    for i in dataset.indices("all") if specs else []:
        rows = dataset.steps(i)
        for name, spec in specs.items():
            check_range(rows[f"actions/{name}"][:-1] * times, spec, dataset.episodes[i].source, "the world learned")
