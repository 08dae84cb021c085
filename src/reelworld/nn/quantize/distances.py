"""Distances between rows and codes, in the space that both are projected to.

Shapes: R rows, K codes, D width, ... any leading shape
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 8192
"""Rows compared with the codebook at once."""


class Metric(Protocol):
    """A space with a distance."""

    def project(self, vectors: Tensor) -> Tensor:
        """Map rows or codes' vectors (..., D) to the space, differentiably."""

    def distance(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """Return a number (R, K) that orders the codes (K, D) of each row (R, D), the nearest first; all placed."""


class Euclidean:
    """Euclidean distance of unnormalized vectors."""

    def project(self, vectors: Tensor) -> Tensor:
        """Return them as they are."""
        return vectors

    def distance(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """Return the squared distance less |row|^2, which is the same for all codes."""
        return torch.addmm(vectors.pow(2).sum(1), rows, vectors.t(), alpha=-2)


class Cosine:
    """Directions: rows and codes are projected to the unit sphere.

    Source: Yu et al. 2021 (arXiv:2110.04627), section 3.2 (l2-normalized codes).
    """

    def project(self, vectors: Tensor) -> Tensor:
        """Scale to length 1; a vector of length 0 stays."""
        return F.normalize(vectors, dim=-1)

    def distance(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """Return the negated cosine."""
        return -(rows @ vectors.t())


@torch.no_grad()
def nearest_codes(metric: Metric, rows: Tensor, vectors: Tensor) -> Tensor:
    """Return the nearest codes of placed rows (..., D) among placed vectors (K, D), int64 (...); of equals, the first.

    Always in float32: in 16 bits, near codes would be chosen by rounding.
    """
    parts = rows.detach().flatten(0, -2).split(CHUNK)
    with torch.autocast(rows.device.type, enabled=False):
        return torch.cat([metric.distance(part, vectors).argmin(1) for part in parts]).view(rows.shape[:-1])
