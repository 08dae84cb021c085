"""Several data sets as one: each with its share of the training, its frame stride and its way of reading.

A window is drawn by first choosing a member by its share, then one of its windows, all alike. Members may differ in
size (all are brought to one), frame rate and actions; actions that differ cannot be learned.
Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), table 4, and the authors' code. There a file is drawn, then a
window of it; here long recordings count by their length, and no window that would run beyond its recording is drawn.

Shapes: T frames, k frame stride, n windows
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reelworld.config import from_json, read_json, to_json
from reelworld.data.action_alignment import common_specs
from reelworld.data.dataset import Dataset, warn_once
from reelworld.data.episode_slices import STEP_KEYS
from reelworld.data.folder import DataInfo
from reelworld.data.readers import middle_fps
from reelworld.data.resize_options import ReadOptions
from reelworld.data.splits import SPLITS
from reelworld.types import ActionSpec, UserError

__all__ = ["DatasetShare", "Mixture", "members_of", "only_data", "open_recordings"]

FORMAT_VERSION = 1
NOT_OF_ONE = ("size", "fit", "split_seed", "max_gigabytes")
"""Reading that all members have in common."""


@dataclass(frozen=True, kw_only=True)
class DatasetShare:
    """One data set of a mixture."""

    data: Path
    """Its recordings: a folder or a file."""
    weight: float | None = None
    """How much is drawn from it, relative to the others; none, in all members, for as much as it has frames."""
    frame_stride: int = 1
    """Keep every k-th of its frames, beginning at any of the first k; the recipe's stride counts kept frames."""
    read: Mapping[str, Any] = field(default_factory=dict)
    """How its files are read, where that is not how all are: fields of ``ReadOptions`` but size and fit."""

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise UserError(f"the weight of {self.data} is {self.weight:g}; it must be above 0, e.g. 0.7.")
        if self.frame_stride < 1:
            raise UserError(f"the frame_stride of {self.data} is {self.frame_stride}; it must be at least 1.")
        if wrong := [name for name in NOT_OF_ONE if name in self.read]:
            raise UserError(f"{wrong[0]} of {self.data} cannot be its own: give it for all, --{wrong[0]}.")


@dataclass(frozen=True, kw_only=True)
class _MixtureFile:
    """What a mixture file says."""

    members: tuple[DatasetShare, ...]
    format_version: int = FORMAT_VERSION


def members_of(words: Sequence[str]) -> list[DatasetShare]:
    """Understand what a person names: PATH, PATH=WEIGHT, or one mixture file (.json).

    A word that is the path of something is that path, whatever signs are in it.

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


def open_recordings(members: Sequence[DatasetShare], options: ReadOptions, with_actions: bool = True) -> Dataset:
    """Open one data set or several.

    Args:
        members: At least one.
        options: How files are read.
        with_actions: Whether actions are learned; then those of all members must be the same.

    Raises:
        UserError: If a member cannot be opened or has nothing to train on, or they do not go together.
    """
    path = only_data(members)
    return Mixture(members, options, with_actions) if path is None else Dataset.open(path, options)


class Mixture(Dataset):
    """Episodes of several data sets; with a stride k, each of theirs is k episodes, one for each frame to begin at."""

    members: tuple[DatasetShare, ...]
    shares: np.ndarray
    """Probability that a training window is of a member, float64 (members,)."""

    def __init__(self, members: Sequence[DatasetShare], options: ReadOptions, with_actions: bool = True) -> None:
        """Open every member.

        Args:
            members: At least one.
            options: How files are read, where a member does not say otherwise.
            with_actions: Whether actions are learned.

        Raises:
            UserError: If a member cannot be opened or has nothing to train on, or they do not go together.
        """
        _check_members(members)
        self.members = tuple(members)
        self._parts = [Dataset.open(m.data, _reading(m, options)) for m in members]
        self.path = Path(" + ".join(m.data.name for m in members))
        self._origin = [
            (number, episode, first)
            for number, (m, part) in enumerate(zip(members, self._parts, strict=True))
            for episode, e in enumerate(part.episodes)
            for first in range(min(m.frame_stride, e.n_frames))
        ]
        self.episodes = tuple(
            replace(
                (e := self._parts[number].episodes[episode]),
                n_frames=len(range(first, e.n_frames, members[number].frame_stride)),
                class_id=-1,
            )
            for number, episode, first in self._origin
        )
        self._member_of = np.array([number for number, _, _ in self._origin])
        self._indices = {s: [i for i, e in enumerate(self.episodes) if e.split == s] for s in SPLITS}
        self.shares = self._divided()
        self.info = self._common_info(options, with_actions)
        self._steps = self._common_steps()
        self.problems = tuple(problem for part in self._parts for problem in part.problems)
        self.notes = tuple(dict.fromkeys(note for part in self._parts for note in part.notes))
        self.n_duplicates = sum(part.n_duplicates for part in self._parts)

    def described(self) -> list[str]:
        """Say of each member what it is and what share of the training it gets, a line each."""
        lines = []
        for number, (member, share) in enumerate(zip(self.members, self.shares, strict=True)):
            n_frames, part = self._n_train_frames(number), self._parts[number]
            stride = f", one of {member.frame_stride} kept" if member.frame_stride > 1 else ""
            n_episodes = len(part.indices("train"))
            lines.append(f"{share:6.1%} from {member.data}: {n_episodes:,} train episodes, {n_frames:,} frames{stride}")
        return lines

    def sampling_weights(self, episodes: np.ndarray, n_frames: int) -> np.ndarray | None:
        """Say how often windows are drawn so that every member gets its share; see ``Dataset.sampling_weights``."""
        if len(self.members) == 1:
            return None
        numbers = self._member_of[episodes]
        counts = np.bincount(numbers, minlength=len(self.members))
        for i in np.flatnonzero(counts == 0):
            mine = [self.episodes[j].n_frames for j in self.indices("train") if self._member_of[j] == i]
            raise UserError(
                f"every train episode of {self.members[i].data} is shorter than the {n_frames} frames of a window (the "
                f"longest has {max(mine)}); leave this member out, or use shorter windows or a smaller stride."
            )
        return (self.shares / counts)[numbers]

    def arrays(self, episode: int, start: int, stop: int, stride: int = 1) -> dict[str, np.ndarray]:
        """Copy a window of one episode; see ``Dataset.arrays``."""
        number, theirs, first = self._origin[episode]
        k = self.members[number].frame_stride
        arrays = self._parts[number].arrays(theirs, first + start * k, first + (stop - 1) * k + 1, k * stride)
        return self._common(arrays)

    def steps(self, episode: int) -> dict[str, np.ndarray]:
        """Copy what ``arrays`` returns for a whole episode, without its frames."""
        number, theirs, _ = self._origin[episode]
        if self.members[number].frame_stride == 1:
            return self._common(self._parts[number].steps(theirs))
        arrays = self.arrays(episode, 0, self.episodes[episode].n_frames)
        return {k: v for k, v in arrays.items() if k != "frames"}

    def _common(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Keep what all members have."""
        wanted = {"frames", *self._steps, *(f"actions/{name}" for name in self.info.actions)}
        return {k: v for k, v in arrays.items() if k in wanted}

    def _n_train_frames(self, number: int) -> int:
        """Frames that a member has to train on, as many as its stride keeps of them."""
        n = sum(self.episodes[i].n_frames for i in self.indices("train") if self._member_of[i] == number)
        return round(n / self.members[number].frame_stride)

    def _divided(self) -> np.ndarray:
        """Return the members' shares."""
        for member, part in zip(self.members, self._parts, strict=True):
            if not part.indices("train"):
                raise UserError(f"{member.data} has no episode to train on; leave this member out.")
        weights = np.array([m.weight or self._n_train_frames(i) for i, m in enumerate(self.members)], np.float64)
        return weights / weights.sum()

    def _common_info(self, options: ReadOptions, with_actions: bool) -> DataInfo:
        infos = [part.info for part in self._parts]
        sizes = {(i.height, i.width): m.data for i, m in zip(infos, self.members, strict=True)}
        if len(sizes) > 1:
            listed = ", ".join(f"{data} {height}x{width}" for (height, width), data in sizes.items())
            raise UserError(
                f"the members have several sizes (height x width): {listed}; choose one with --size and how to get "
                "there with --fit crop, stretch or pad."
            )
        fps, notes = middle_fps([i.fps / m.frame_stride for i, m in zip(infos, self.members, strict=True)])
        for note in notes:
            warn_once(f"{note}, or bring them together with the members' frame_stride")
        # as a world remembers it: by name, since it may be used elsewhere
        remembered = [
            replace(m, data=Path(m.data.name), weight=float(s), read=_reading(m, options).given)
            for m, s in zip(self.members, self.shares, strict=True)
        ]
        return DataInfo(
            fps=fps,
            height=infos[0].height,
            width=infos[0].width,
            actions=self._common_actions() if with_actions else {},
            split_seed=options.split_seed,
            provenance={
                "mixture": [to_json(m) for m in remembered],
                "members": [dict(i.provenance) for i in infos],
                "fit": options.fit,
            },
        )

    def _common_actions(self) -> dict[str, ActionSpec]:
        """Merge the members' actions.

        Raises:
            UserError: If they differ.
        """
        specs = [dict(part.info.actions) for part in self._parts]
        kinds = [{n: (s.kind, s.n, s.names) for n, s in of_one.items()} for of_one in specs]
        if other := next((i for i, kind in enumerate(kinds) if kind != kinds[0]), 0):
            raise UserError(
                f"the members have different actions ({self.members[0].data} {_told(specs[0])}, "
                f"{self.members[other].data} {_told(specs[other])}), which one world cannot learn: leave them out with "
                "--actions none, or train on one of them."
            )
        if specs[0] and (strided := [m for m in self.members if m.frame_stride > 1]):
            raise UserError(
                f"{strided[0].data} has a frame_stride of its own, {strided[0].frame_stride}: an action would mean "
                "other things in other members. Give --frame-stride for all, or --actions none."
            )
        return common_specs({m.data: s for m, s in zip(self.members, specs, strict=True)})

    def _common_steps(self) -> set[str]:
        """Find the rows besides actions that all members have."""
        found = [set(part.steps(0)) & set(STEP_KEYS) for part in self._parts]
        shared = set.intersection(*found)
        for key in sorted(set.union(*found) - shared):
            lacking = next(m.data for m, keys in zip(self.members, found, strict=True) if key not in keys)
            warn_once(f"{key} of the other members are not used: {lacking} has none")
        return shared


def _check_members(members: Sequence[DatasetShare]) -> None:
    bare = [replace(m, weight=None) for m in members]
    if twice := [m for i, m in enumerate(bare) if m in bare[:i]]:
        raise UserError(f"{twice[0].data} is given twice; give it once, with the sum of the weights.")
    without = [m.data for m in members if m.weight is None]
    if without and len(without) < len(members):
        raise UserError(f"{without[0]} has no weight and other members have one; give a weight to all or to none.")


def _reading(member: DatasetShare, options: ReadOptions) -> ReadOptions:
    """How the files of a member are read."""
    return from_json(ReadOptions, {**to_json(options), **member.read}, f"read of {member.data}")


def _told(specs: Mapping[str, ActionSpec]) -> str:
    return ", ".join(f"{s.kind} {n!r} ({s.n})" for n, s in specs.items()) or "none"
