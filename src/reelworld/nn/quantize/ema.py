"""Vector quantization with a codebook updated by moving averages (EMA), not by gradients.

Source: van den Oord et al. 2017 (arXiv:1711.00937), appendix A.1. The defaults are VideoGPT's (arXiv:2104.10157): the
codebook starts from vectors of the first batch and unused codes are reset. Differs from the authors' code: that
it has started is saved, so that training goes on after loading; no one-hot matrix is made.

Shapes: R rows to quantize, K codes, D width, ... any leading shape
"""

from __future__ import annotations

import torch
from torch import Tensor

from reelworld.nn.quantize.codebook_usage import count_codes, perplexity
from reelworld.nn.quantize.dead_code_reset import DeadCodeReset, ResetFromBatch
from reelworld.nn.quantize.distances import Euclidean, Metric, nearest_codes
from reelworld.nn.quantize.distributed import sum_ranks
from reelworld.nn.quantize.quantizer import Quantized, Quantizer
from reelworld.nn.quantize.straight_through import Estimator, straight_through


class EMACodebook(Quantizer):
    """K vectors; in training mode each call to ``quantize`` moves them.

    In data-parallel training all ranks' rows count, and all ranks hold the same codebook.

    Args:
        n_codes: K.
        width: D.
        decay: Of the moving averages, per batch.
        epsilon: Added to each code's count before sums are divided by counts, so that no count is 0.
        metric: Which code is near.
        estimator: How gradients pass.
        reset: Initial codes, and the treatment of dead ones.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    has_started: Tensor

    def __init__(
        self,
        n_codes: int,
        width: int,
        *,
        decay: float = 0.99,
        epsilon: float = 1e-7,
        metric: Metric | None = None,
        estimator: Estimator = straight_through,
        reset: DeadCodeReset | None = None,
    ) -> None:
        super().__init__()
        self.width, self.codebook_size = width, n_codes
        self.decay, self.epsilon = decay, epsilon
        self.metric, self.estimator, self.dead_codes = metric or Euclidean(), estimator, reset or ResetFromBatch()
        vectors = self.metric.project(torch.randn(n_codes, width))
        self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.zeros(n_codes))
        self.register_buffer("sums", vectors.clone())
        self.register_buffer("has_started", torch.tensor(False))

    def nearest(self, rows: Tensor) -> Tensor:
        """Return the nearest codes of rows (..., D), int64 (...)."""
        return nearest_codes(self.metric, self.metric.project(rows.detach().float()), self.vectors)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (...), (..., D)."""
        return self.vectors[codes]

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize rows (..., D); in training mode, update the codebook afterwards.

        Args:
            rows: Encoder output, any float type.
            generator: Of the vectors that start the codebook and restart unused codes.
        """
        with torch.autocast(rows.device.type, enabled=False):
            rows = self.metric.project(rows.float())
            if self.training:
                self._start(rows, generator)
            codes = nearest_codes(self.metric, rows, self.vectors)
            chosen = self.lookup(codes)
            counts = count_codes(codes, len(self.counts), over_ranks=self.training)
            error = (rows - chosen).pow(2).sum()
            if self.training:
                self._update(rows, codes, counts, generator)
            zero = error.new_zeros(())
            return Quantized(
                codes=codes,
                vectors=self.estimator(rows, chosen),
                squared_error=error,
                perplexity=perplexity(counts),
                n_entries=rows.numel(),
                codebook_error=zero,
                row_entropy=zero,
                batch_entropy=zero,
            )

    @torch.no_grad()
    def _start(self, rows: Tensor, generator: torch.Generator | None) -> None:
        """Initialize from the first batch; a no-op later, without a host synchronization."""
        first = self.metric.project(self.dead_codes.begin(self.vectors, rows, generator))
        for buffer, start in ((self.vectors, first), (self.sums, first), (self.counts, torch.ones_like(self.counts))):
            buffer.copy_(torch.where(self.has_started, buffer, start))
        self.has_started.fill_(True)

    @torch.no_grad()
    def _update(self, rows: Tensor, codes: Tensor, counts: Tensor, generator: torch.Generator | None) -> None:
        flat, n_codes = rows.detach().flatten(0, -2), len(self.counts)
        self.counts.mul_(self.decay).add_(counts.to(self.counts.dtype), alpha=1 - self.decay)
        sums = sum_ranks(torch.zeros_like(self.sums).index_add_(0, codes.flatten(), flat))
        self.sums.mul_(self.decay).add_(sums, alpha=1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + self.epsilon) / (total + n_codes * self.epsilon) * total
        learned = self.metric.project(self.sums / smoothed[:, None])
        # the averages of unused codes stay as they are while their vectors try rows of this batch
        self.vectors.copy_(self.dead_codes.reset(learned, self.counts, rows, generator))
