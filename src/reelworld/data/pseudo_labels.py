"""A data set whose actions somebody worked out afterwards.

Shapes: T frames
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from reelworld.data.dataset import Dataset
from reelworld.types import ActionSpec

__all__ = ["LabelledDataSet"]


class LabelledDataSet(Dataset):
    """The same episodes with one stream of discrete actions in place of those that were recorded."""

    recorded: Dataset
    """The episodes with the actions that were recorded."""

    def __init__(self, dataset: Dataset, stream: str, spec: ActionSpec, rows: Sequence[np.ndarray]) -> None:
        """Label a data set.

        Args:
            dataset: The recordings.
            stream: Name of the new stream.
            spec: What it is.
            rows: Per episode, int64 (T,): row t is taken after frame t; the last is padding.
        """
        self.__dict__.update(vars(dataset))
        self.recorded = dataset
        self.info = replace(dataset.info, actions={stream: spec})
        self._key, self._rows = f"actions/{stream}", rows

    def arrays(self, episode: int, start: int, stop: int, stride: int = 1) -> dict[str, np.ndarray]:
        """Copy a window of one episode; ``stride`` must be 1, because a label is about neighbouring frames."""
        assert stride == 1
        return self._labelled(super().arrays(episode, start, stop), self._rows[episode][start:stop])

    def steps(self, episode: int) -> dict[str, np.ndarray]:
        """Copy what ``arrays`` returns for a whole episode, without its frames."""
        return self._labelled(super().steps(episode), self._rows[episode])

    def _labelled(self, arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        kept = {k: v for k, v in arrays.items() if not k.startswith("actions/")}
        return {**kept, self._key: rows.copy()}
