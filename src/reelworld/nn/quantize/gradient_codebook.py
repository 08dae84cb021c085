"""Vector quantization with a codebook learned by gradients.

Source: van den Oord et al. 2017 (arXiv:1711.00937), equation 3: the codebook's own loss term is ``codebook_error``,
the encoder's is ``squared_error``. Differs: unused codes may be reset.

Shapes: R rows to quantize, K codes, D width, ... any leading shape
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reelworld.nn.quantize.codebook_usage import count_codes, perplexity
from reelworld.nn.quantize.dead_code_reset import DeadCodeReset, NoReset
from reelworld.nn.quantize.distances import Euclidean, Metric, nearest_codes
from reelworld.nn.quantize.distributed import sum_ranks
from reelworld.nn.quantize.quantizer import Quantized, Quantizer
from reelworld.nn.quantize.straight_through import Estimator, straight_through


class GradientCodebook(Quantizer):
    """K vectors, a parameter; ``codebook_error`` pulls each towards the rows that chose it.

    Args:
        n_codes: K.
        width: D.
        decay: Of the moving average of how many rows choose each code, per batch.
        metric: Which code is near.
        estimator: How gradients pass to the rows.
        reset: Initial codes, and the treatment of dead ones. Reset codes count as used by their
            share of a batch, so that they have time to learn.
    """

    counts: Tensor
    has_started: Tensor

    def __init__(
        self,
        n_codes: int,
        width: int,
        *,
        decay: float = 0.99,
        metric: Metric | None = None,
        estimator: Estimator = straight_through,
        reset: DeadCodeReset | None = None,
    ) -> None:
        super().__init__()
        self.width, self.codebook_size, self.decay = width, n_codes, decay
        self.metric, self.estimator, self.dead_codes = metric or Euclidean(), estimator, reset or NoReset()
        self.vectors = nn.Parameter(self.metric.project(torch.randn(n_codes, width)))
        self.register_buffer("counts", torch.ones(n_codes))
        self.register_buffer("has_started", torch.tensor(False))

    def nearest(self, rows: Tensor) -> Tensor:
        """Return the nearest codes of rows (..., D), int64 (...)."""
        return nearest_codes(self.metric, self.metric.project(rows.detach().float()), self.metric.project(self.vectors))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (...), (..., D), with gradient."""
        return self.metric.project(self.vectors)[codes]

    def quantize(self, rows: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize rows (..., D); in training mode, reset dead codes beforehand.

        Args:
            rows: Encoder output, any float type.
            generator: Of the vectors that start the codebook and restart unused codes.
        """
        with torch.autocast(rows.device.type, enabled=False):
            rows = self.metric.project(rows.float())
            if self.training:
                self._reset(rows, generator)
            vectors = self.metric.project(self.vectors)
            codes = nearest_codes(self.metric, rows, vectors)
            chosen = vectors[codes]
            counts = count_codes(codes, len(self.counts), over_ranks=self.training)
            if self.training:
                self.counts.mul_(self.decay).add_(counts.to(self.counts.dtype), alpha=1 - self.decay)
            error = (rows - chosen.detach()).pow(2).sum()
            zero = error.new_zeros(())
            return Quantized(
                codes=codes,
                vectors=self.estimator(rows, chosen),
                squared_error=error,
                perplexity=perplexity(counts),
                n_entries=rows.numel(),
                codebook_error=(rows.detach() - chosen).pow(2).sum(),
                row_entropy=zero,
                batch_entropy=zero,
            )

    @torch.no_grad()
    def _reset(self, rows: Tensor, generator: torch.Generator | None) -> None:
        """Begin at the first batch; later replace the codes that the batches before this one did not use."""
        first = self.metric.project(self.dead_codes.begin(self.vectors, rows, generator))
        reset = self.dead_codes.reset(self.vectors, self.counts, rows, generator)
        fraction = sum_ranks(self.counts.new_tensor(rows[..., 0].numel())) / len(self.counts)
        self.vectors.copy_(torch.where(self.has_started, reset, first))
        self.counts.copy_(torch.where(self.has_started & ~self.dead_codes.is_dead(self.counts), self.counts, fraction))
        self.has_started.fill_(True)
