"""Training data of a system's stages: clips of a split, loaders, stored codes, and stage construction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import nn

from reelworld.data.clip_index import ClipIndex, check_lengths
from reelworld.data.code_store import CodeStore
from reelworld.data.dataset import DataInfo, Dataset
from reelworld.models.parts import Tokenizer
from reelworld.models.system import SystemConfig
from reelworld.train.config import StageConfig
from reelworld.train.precompute_codes import precompute_codes
from reelworld.train.stage import Stage, Validate
from reelworld.types import Batch, UserError


class TrainingData:
    """The recordings of one training.

    Attributes:
        dataset: The recordings; systems that infer actions replace it by the labelled recordings.
        config: Config of the system.
        folder: Folder of the run; codes are stored there.
        given: Names of parts that come from another run and are not trained.
    """

    def __init__(
        self, dataset: Dataset, config: SystemConfig, folder: Path, given: frozenset[str] = frozenset()
    ) -> None:
        """Check the time fractions of the stages.

        Raises:
            UserError: If the time fractions of the stages add up to 1 or more, or two stages take the rest.
        """
        self.dataset, self.config, self.folder, self.given = dataset, config, folder, given
        self._time_left = 1.0
        self._last: Stage | None = None
        stages = {
            f.name: value
            for f in dataclasses.fields(config)
            if isinstance(value := getattr(config, f.name), StageConfig)
        }
        if sum(stage.time_fraction for stage in stages.values()) >= 1:
            names = " and ".join(f"{name}.time_fraction" for name, stage in stages.items() if stage.time_fraction)
            raise UserError(f"{names} leave nothing of max_minutes for the other stages.")
        if len(rest := [name for name, stage in stages.items() if not stage.time_fraction]) > 1:
            names = " and ".join(f"{name}.time_fraction" for name in rest)
            raise UserError(f"{names} are 0; only one stage can have the time that the others leave.")

    @property
    def info(self) -> DataInfo:
        """Properties shared by all episodes."""
        return self.dataset.info

    def require_length(self, field: str, splits: Sequence[str] = ("train", "val"), stride: int = 1) -> None:
        """Refuse recordings that are all shorter than a clip, before training starts.

        Args:
            field: Field of the config with the frames of a clip; the message names its flag.
            splits: Splits that clips are cut from.
            stride: Frames from one kept frame to the next.

        Raises:
            UserError: If a split is empty or too short.
        """
        for split in splits:
            check_lengths(self.dataset, split, getattr(self.config, field), stride, field)

    def clips(self, split: str, n_frames: int, stride: int = 1, goal_first: bool = False) -> ClipIndex:
        """Index the clips of a split, ``stride`` recorded frames from one kept frame to the next."""
        return ClipIndex(self.dataset, split, n_frames, stride, self.config.action_merge, goal_first=goal_first)

    def encode(self, tokenizer: Tokenizer) -> CodeStore:
        """Encode all frames once; an existing code store is opened unchanged."""
        return precompute_codes(self.dataset, tokenizer, self.folder / "codes")

    def stage(
        self,
        part: str,
        module: nn.Module,
        batches: Callable[[int], Iterator[Batch]],
        config: StageConfig,
        *,
        clip_frames: int,
        validate: Validate | None = None,
        name: str = "",
        n_joined: int = 1,
    ) -> Stage:
        """Make a stage that takes its length, its optimizer and its part of the time budget from its config.

        Args:
            part: Name of the trained part.
            module: Module to train, usually the part itself.
            batches: Batch number -> endless batches from there on.
            config: Config of the stage.
            clip_frames: Training frames per clip, for the reported speed.
            validate: Returns named metrics of the current weights.
            name: Name of the stage, if it is not the part's.
            n_joined: Batches of ``config.batch`` clips per batch of ``batches``.
        """
        fraction = config.time_fraction or self._time_left
        self._time_left -= 0.0 if part in self.given else config.time_fraction
        self._last = Stage(
            name=name or part,
            part=part,
            module=module,
            batches=batches,
            steps=config.steps,
            optim=config.optim,
            max_minutes=self.config.max_minutes and self.config.max_minutes * fraction,
            precision=self.config.precision,
            frames_per_batch=n_joined * config.batch * clip_frames,
            validate=validate,
        )
        return self._last

    @property
    def last_stage(self) -> Stage:
        """Most recently made stage: after training, that of the dynamics."""
        assert self._last is not None, "no stage was made"
        return self._last
