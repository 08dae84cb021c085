"""Batches of windows in an order that depends only on the seed and the batch's number.

Any worker process can therefore make batch b, at any time, in any run. A training run that stopped after batch b
resumes with ``batches(b + 1)`` and gets the same batches as without the stop.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils import data as torch_data

from reelworld.data.clip_index import ClipIndex
from reelworld.data.episodes import Arrays, streams_of
from reelworld.nn.pixels import to_float
from reelworld.types import Batch, Codes, Conditions, UserError

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""(frames uint8 (T, H, W, 3), random numbers) -> frames."""


class _From(torch_data.Sampler[int]):
    """Endless sampler of the numbers from a start on."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return count(self._start)


class _Batches(torch_data.Dataset[Arrays]):
    """Batch number -> arrays: a view of the loader for worker processes."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getitem__(self, number: int) -> Arrays:
        return self._loader.arrays(number)


class Loader:
    """Makes batches of windows; batch number b is a pure function of (seed, b)."""

    def __init__(
        self,
        windows: ClipIndex,
        batch_size: int,
        seed: int,
        *,
        n_workers: int = 0,
        weights: np.ndarray | None = None,
        weighted_fraction: float = 0.0,
        augment: Augment | None = None,
    ) -> None:
        """Prepare the order.

        Args:
            windows: Windows of the batches.
            batch_size: Windows per batch.
            seed: Seed of the order, with the batch number.
            n_workers: Worker processes that read ahead; 0 reads in this process.
            weights: One number >= 0 per window; a fraction of each batch is drawn in proportion to it. None takes the
                windows' own where they are of several data sets: then all are drawn by them.
            weighted_fraction: That fraction, 0 to 1, rounded to whole windows; the rest comes in epoch order.
            augment: Changes the frames of every window, by draws that the batch's number and the row decide.

        Raises:
            UserError: If a number is out of its range, or a member of a mixture has no window.
        """
        if batch_size < 1:
            raise UserError(f"batch size is {batch_size}; it must be at least 1.")
        if not 0 <= weighted_fraction <= 1:
            raise UserError(f"weighted fraction is {weighted_fraction}; it must lie in 0 to 1.")
        if weights is None and (weights := windows.weights()) is not None:
            weighted_fraction = 1.0
        self.windows, self.batch_size, self.seed, self.n_workers = windows, batch_size, seed, n_workers
        self._augment = augment
        self._cumulative = _cumulative(weights, len(windows)) if weights is not None else None
        self._n_weighted = round(batch_size * weighted_fraction) if self._cumulative is not None else 0
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def order(self, number: int) -> np.ndarray:
        """Return the window numbers of a batch, int64 (batch_size,); those drawn by weight come last."""
        n_plain = self.batch_size - self._n_weighted
        positions = np.arange(number * n_plain, (number + 1) * n_plain)
        epochs, rows = np.divmod(positions, len(self.windows))
        plain = [self._permutation(int(e))[rows[epochs == e]] for e in np.unique(epochs)]
        if self._cumulative is None or not self._n_weighted:
            return np.concatenate(plain)
        draws = np.random.default_rng((self.seed, 1, number)).random(self._n_weighted)
        drawn = np.searchsorted(self._cumulative, draws * self._cumulative[-1], side="right")
        return np.concatenate([*plain, np.minimum(drawn, len(self.windows) - 1)])

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.windows))
            self._epoch, self._order = epoch, order
        return self._order

    def arrays(self, number: int) -> Arrays:
        """Read one batch as arrays with the batch dimension first."""
        rows = [self.windows[int(i)] for i in self.order(number)]
        if self._augment is not None:
            for i, row in enumerate(rows):
                row["frames"] = self._augment(row["frames"], np.random.default_rng((self.seed, 2, number, i)))
        return {k: np.stack([row[k] for row in rows]) for k in rows[0]}

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield the batches from number ``start`` on, without end."""
        if not self.n_workers:
            for number in count(start):
                yield to_batch({k: torch.from_numpy(v) for k, v in self.arrays(number).items()})
        # batch_size=None: a sample of this torch Dataset already is a batch
        loader: Any = torch_data.DataLoader(
            _Batches(self),
            batch_size=None,
            sampler=_From(start),
            num_workers=self.n_workers,
            prefetch_factor=2,
            worker_init_fn=_ignore_interrupts,
        )
        for tensors in loader:
            yield to_batch(tensors)


def _ignore_interrupts(_worker: int) -> None:
    """Ignore Ctrl-C in workers: it reaches the whole process group, but the last step still needs its batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def to_batch(tensors: dict[str, torch.Tensor]) -> Batch:
    """Convert tensors to model inputs: frames as float32 in [-1, 1], codes as int64, latents unchanged."""
    frames, codes = tensors.get("frames"), tensors.get("codes")
    return Batch(
        video=None if frames is None else to_float(frames),
        codes=None if codes is None else Codes.of(codes if codes.is_floating_point() else codes.long()),
        conditions=Conditions(actions=streams_of(tensors), class_id=tensors.get("class_id")),
        rewards=tensors.get("rewards"),
        terminated=tensors.get("terminated"),
    )


def _cumulative(weights: np.ndarray, n_windows: int) -> np.ndarray:
    if weights.shape != (n_windows,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise UserError(
            f"window weights have shape {weights.shape} and range {weights.min(initial=0)}..{weights.max(initial=0)}; "
            f"wanted {n_windows} finite numbers >= 0, not all zero."
        )
    return np.cumsum(weights, dtype=np.float64)
