"""Mixtures: several data sets as one, each with its fraction of the training, its frame stride and read options.

A window is drawn in two steps: a member by its fraction, then one of its windows uniformly. Members may differ in size
(all are resized to one), frame rate and actions; actions that differ cannot be learned.
Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), table 4, and the authors' code. There a file is drawn, then a
window of it; here long recordings count by their length, and no window that would run beyond its recording is drawn.

Shapes: T frames, k frame stride, n windows
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from reelworld.config import from_json, read_json, to_json
from reelworld.data.action_alignment import common_specs
from reelworld.data.dataset import Dataset, median_fps, warn_once
from reelworld.data.episodes import STEP_KEYS, DataInfo
from reelworld.data.resize_options import ReadOptions
from reelworld.data.transforms import KeepArrays, subsample
from reelworld.types import ActionSpec, UserError

FORMAT_VERSION = 1
NOT_OF_ONE = ("size", "fit", "split_seed", "max_gigabytes")
"""Read options that all members have in common."""


@dataclass(frozen=True, kw_only=True)
class DatasetShare:
    """One data set of a mixture."""

    data: Path
    """Its recordings: a folder or a file."""
    weight: float | None = None
    """Amount drawn from it, relative to the others; none, in all members, for as much as it has frames."""
    frame_stride: int = 1
    """Keep every k-th of its frames, beginning at any of the first k; a system's frame stride counts kept frames."""
    read: Mapping[str, Any] = field(default_factory=dict)
    """Read options of its own, where they differ from those of all: fields of ``ReadOptions`` but size and fit."""

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise UserError(f"the weight of {self.data} is {self.weight:g}; it must be above 0, e.g. 0.7.")
        if self.frame_stride < 1:
            raise UserError(f"the frame_stride of {self.data} is {self.frame_stride}; it must be at least 1.")
        if wrong := [name for name in NOT_OF_ONE if name in self.read]:
            raise UserError(f"{wrong[0]} of {self.data} cannot be its own: give it for all, --{wrong[0]}.")


@dataclass(frozen=True, kw_only=True)
class _MixtureFile:
    """Content of a mixture file."""

    members: tuple[DatasetShare, ...]
    format_version: int = FORMAT_VERSION


def members_of(words: Sequence[str]) -> list[DatasetShare]:
    """Parse what a user names: PATH, PATH=WEIGHT, or one mixture file (.json).

    An existing path is read as a path, whatever characters it has.

    Raises:
        UserError: If a weight is no number, or a mixture file is broken or not alone.
    """
    files = [word for word in words if word.lower().endswith(".json") and Path(word).is_file()]
    if files and len(words) > 1:
        raise UserError(f"{files[0]} is a mixture: give it alone, or add its members to the others'.")
    return _read_file(Path(files[0])) if files else [_member_of(word) for word in words]


def _member_of(word: str) -> DatasetShare:
    path, sign, weight = word.rpartition("=")
    if not sign or Path(word).exists():
        return DatasetShare(data=Path(word))
    try:
        return DatasetShare(data=Path(path), weight=float(weight))
    except UserError:
        raise
    except ValueError:
        raise UserError(f"{word!r} is no path, and {weight!r} no weight; wanted PATH or PATH=NUMBER.") from None


def _read_file(path: Path) -> list[DatasetShare]:
    made = from_json(_MixtureFile, read_json(path), path.name)
    if made.format_version != FORMAT_VERSION or not made.members:
        raise UserError(
            f"{path} has format version {made.format_version} and {len(made.members)} members; wanted version "
            f"{FORMAT_VERSION} and at least one."
        )
    return [replace(m, data=path.parent / m.data) for m in made.members]


def only_data(members: Sequence[DatasetShare]) -> Path | None:
    """Return the path of a single data set that is read as the flags say; None for a mixture."""
    plain = [replace(m, weight=None) for m in members]
    return plain[0].data if plain == [DatasetShare(data=plain[0].data)] else None


def open_recordings(
    members: Sequence[DatasetShare],
    options: ReadOptions,
    with_actions: bool = True,
    splits: Sequence[Mapping[str, str]] = (),
) -> Dataset:
    """Open one data set or several.

    Args:
        members: At least one.
        options: How files are read, where a member does not say otherwise.
        with_actions: True if actions are learned; then those of all members must be the same.
        splits: Source -> split of each member, as ``Dataset.open`` takes them; by default those remembered.

    Raises:
        UserError: If a member cannot be opened or has nothing to train on, or they do not go together.
    """
    path = only_data(members)
    if path is None:
        return open_mixture(members, options, with_actions, splits)
    return Dataset.open(path, options, next(iter(splits), None))


def open_mixture(
    members: Sequence[DatasetShare],
    options: ReadOptions,
    with_actions: bool = True,
    splits: Sequence[Mapping[str, str]] = (),
) -> Dataset:
    """Open the members of a mixture as one data set; see ``open_recordings``.

    With a stride k, each episode of a member is k episodes, one for each frame to begin at.
    """
    _check_members(members)
    with_splits = zip_longest(members, splits[: len(members)])
    whole = [Dataset.open(m.data, _read_options(m, options), known) for m, known in with_splits]
    for member, dataset in zip(members, whole, strict=True):
        if not dataset.indices("train"):
            raise UserError(f"{member.data} has no episode to train on; leave this member out.")
    parts = [subsample(dataset, m.frame_stride) for m, dataset in zip(members, whole, strict=True)]
    weights = [m.weight or _n_train_frames(part, m) for m, part in zip(members, parts, strict=True)]
    info = _common_info(members, whole, options, with_actions)
    keys = {"frames", *_common_steps(members, whole), *(f"actions/{name}" for name in info.actions)}
    mixed = Dataset.concat(parts, info, weights).map(KeepArrays(keys))
    # stored by name in a world, as paths may differ on other machines
    remembered = [
        replace(m, data=Path(m.data.name), weight=fraction, read=_read_options(m, options).given)
        for m, fraction in zip(members, mixed.fractions, strict=True)
    ]
    provenance = {"mixture": [to_json(m) for m in remembered], **info.provenance}
    return replace(mixed, info=replace(info, provenance=provenance))


def describe_mixture(dataset: Dataset) -> list[str]:
    """Describe each member and its fraction of the training, a line each; none for a single data set."""
    lines = []
    for i, part in enumerate(dataset.parts):
        member = from_json(DatasetShare, dataset.info.provenance["mixture"][i], "mixture")
        n_frames = _n_train_frames(part, member)
        stride = f", one of {member.frame_stride} kept" if member.frame_stride > 1 else ""
        n_episodes = len({part.episodes[j].source for j in part.indices("train")})
        lines.append(
            f"{dataset.fractions[i]:6.1%} from {part.path}: {n_episodes:,} train episodes, {n_frames:,} frames{stride}"
        )
    return lines


def _n_train_frames(part: Dataset, member: DatasetShare) -> int:
    """Count the frames that a member has to train on, as many as its stride keeps of them."""
    return round(sum(part.episodes[i].n_frames for i in part.indices("train")) / member.frame_stride)


def _common_info(
    members: Sequence[DatasetShare], datasets: Sequence[Dataset], options: ReadOptions, with_actions: bool
) -> DataInfo:
    infos = [d.info for d in datasets]
    sizes = {(i.height, i.width): m.data for i, m in zip(infos, members, strict=True)}
    if len(sizes) > 1:
        listed = ", ".join(f"{data} {height}x{width}" for (height, width), data in sizes.items())
        raise UserError(
            f"the members have several sizes (height x width): {listed}; choose one with --size and how to get "
            "there with --fit crop, stretch or pad."
        )
    fps, notes = median_fps([i.fps / m.frame_stride for i, m in zip(infos, members, strict=True)])
    for note in notes:
        warn_once(f"{note}, or bring them together with the members' frame_stride")
    return DataInfo(
        fps=fps,
        height=infos[0].height,
        width=infos[0].width,
        actions=_common_actions(members, datasets) if with_actions else {},
        split_seed=options.split_seed,
        provenance={"members": [dict(i.provenance) for i in infos], "fit": options.fit},
    )


def _common_actions(members: Sequence[DatasetShare], datasets: Sequence[Dataset]) -> dict[str, ActionSpec]:
    """Merge the members' actions; a UserError if they differ."""
    specs = [dict(d.info.actions) for d in datasets]
    kinds = [{n: (s.kind, s.n, s.names) for n, s in streams.items()} for streams in specs]
    if other := next((i for i, kind in enumerate(kinds) if kind != kinds[0]), 0):
        raise UserError(
            f"the members have different actions ({members[0].data} {_listed(specs[0])}, "
            f"{members[other].data} {_listed(specs[other])}), which one world cannot learn: leave them out with "
            "--actions none, or train on one of them."
        )
    if specs[0] and (strided := [m for m in members if m.frame_stride > 1]):
        raise UserError(
            f"{strided[0].data} has a frame_stride of its own, {strided[0].frame_stride}: an action would mean "
            "other things in other members. Give --frame-stride for all, or --actions none."
        )
    return common_specs({m.data: s for m, s in zip(members, specs, strict=True)})


def _common_steps(members: Sequence[DatasetShare], datasets: Sequence[Dataset]) -> set[str]:
    """Find the rows besides actions that all members have."""
    present = [set(d.steps(0)) & set(STEP_KEYS) for d in datasets]
    shared = set.intersection(*present)
    for key in sorted(set.union(*present) - shared):
        lacking = next(m.data for m, keys in zip(members, present, strict=True) if key not in keys)
        warn_once(f"{key} of the other members are not used: {lacking} has none")
    return shared


def _check_members(members: Sequence[DatasetShare]) -> None:
    bare = [replace(m, weight=None) for m in members]
    if twice := [m for i, m in enumerate(bare) if m in bare[:i]]:
        raise UserError(f"{twice[0].data} is given twice; give it once, with the sum of the weights.")
    without = [m.data for m in members if m.weight is None]
    if without and len(without) < len(members):
        raise UserError(f"{without[0]} has no weight and other members have one; give a weight to all or to none.")


def _read_options(member: DatasetShare, options: ReadOptions) -> ReadOptions:
    """Return the options that the files of a member are read with."""
    return from_json(ReadOptions, {**to_json(options), **member.read}, f"read of {member.data}")


def _listed(specs: Mapping[str, ActionSpec]) -> str:
    return ", ".join(f"{s.kind} {n!r} ({s.n})" for n, s in specs.items()) or "none"
