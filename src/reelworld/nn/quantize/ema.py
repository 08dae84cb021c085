"""Vector quantization whose codebook follows the data by moving averages, not by gradients.

Source: van den Oord et al. 2017 (arXiv:1711.00937), appendix A.1, as VideoGPT (arXiv:2104.10157) has it: the codebook
starts from vectors of the first batch and unused codes are drawn anew. Differs from the authors' code: that it has
started is saved, so that training goes on after loading; no one-hot matrix is made.

Shapes: R rows to quantize, K codes, D width, ... any leading shape
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["EMACodebook", "Quantized"]

DECAY = 0.99
CHUNK = 8192
"""Rows compared with the codebook at once."""


class Quantized(NamedTuple):
    """What became of some rows."""

    codes: Tensor
    """int64, (...)."""
    vectors: Tensor
    """(..., D): the codes' vectors; gradients pass straight through to the input."""
    squared_error: Tensor
    """Sum over all entries of the squared distance to the (fixed) codes' vectors, a scalar with gradient."""
    perplexity: Tensor
    """exp(entropy) of the codes of this batch."""


class EMACodebook(nn.Module):
    """K vectors; in training mode each call to ``quantize`` moves them."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    has_started: Tensor

    def __init__(self, n_codes: int, width: int) -> None:
        super().__init__()
        vectors = torch.randn(n_codes, width)
        self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.zeros(n_codes))
        self.register_buffer("sums", vectors.clone())
        self.register_buffer("has_started", torch.tensor(False))

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Return the nearest codes of rows (..., D), int64 (...)."""
        flat = rows.detach().float().flatten(0, -2)
        offset = self.vectors.pow(2).sum(1)
        # |z|^2 is the same for all codes, so it is left out
        found = [torch.addmm(offset, part, self.vectors.t(), alpha=-2).argmin(1) for part in flat.split(CHUNK)]
        return torch.cat(found).view(rows.shape[:-1])

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
            rows = rows.float()
            if self.training:
                self._start(rows, generator)
            codes = self.nearest(rows)
            chosen = self.lookup(codes)
            shares = torch.bincount(codes.flatten(), minlength=len(self.counts)) / codes.numel()
            perplexity = (-(shares * (shares + 1e-10).log()).sum()).exp()
            error = (rows - chosen).pow(2).sum()
            if self.training:
                self._update(rows, codes, generator)
            return Quantized(codes, (chosen - rows).detach() + rows, error, perplexity)

    @torch.no_grad()
    def _start(self, rows: Tensor, generator: torch.Generator | None) -> None:
        """Begin with rows of the first batch ever seen; a no-op later, without asking which it is."""
        drawn = _draw(rows, len(self.counts), generator)
        for buffer, first in ((self.vectors, drawn), (self.sums, drawn), (self.counts, torch.ones_like(self.counts))):
            buffer.copy_(torch.where(self.has_started, buffer, first))
        self.has_started.fill_(True)

    @torch.no_grad()
    def _update(self, rows: Tensor, codes: Tensor, generator: torch.Generator | None) -> None:
        flat, n_codes = rows.detach().flatten(0, -2), len(self.counts)
        counts = torch.bincount(codes.flatten(), minlength=n_codes).to(self.counts.dtype)
        self.counts.mul_(DECAY).add_(counts, alpha=1 - DECAY)
        sums = torch.zeros_like(self.sums).index_add_(0, codes.flatten(), flat)
        self.sums.mul_(DECAY).add_(sums, alpha=1 - DECAY)
        total = self.counts.sum()
        smoothed = (self.counts + 1e-7) / (total + n_codes * 1e-7) * total
        # Unused codes try a row of this batch until one of them gathers enough; their averages stay as they are.
        is_used = (self.counts >= 1)[:, None]
        self.vectors.copy_(torch.where(is_used, self.sums / smoothed[:, None], _draw(rows, n_codes, generator)))


def _draw(rows: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw n rows; where there are fewer, repeat them with a little noise."""
    flat = rows.detach().flatten(0, -2)
    if len(flat) < n:
        flat = flat.repeat(-(-n // len(flat)), 1)
        noise = torch.randn(flat.shape, generator=generator, device=flat.device)
        flat = flat + noise * (0.01 * flat.shape[1] ** -0.5)
    return flat[torch.randperm(len(flat), generator=generator, device=flat.device)[:n]]
