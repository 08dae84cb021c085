"""Straight-through gradient estimators, (rows, chosen) -> vectors.

The value is that of ``chosen`` (to rounding); the gradient goes to ``rows`` alone.

Shapes: ... any leading shape, D width
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

SHORT = 1e-6
"""Length below which a row has no direction to rotate from."""


class Estimator(Protocol):
    """Give chosen vectors a gradient to the rows they were chosen for."""

    def __call__(self, rows: Tensor, chosen: Tensor) -> Tensor:
        """Return ``chosen`` (..., D), differentiable in ``rows`` (..., D)."""


def straight_through(rows: Tensor, chosen: Tensor) -> Tensor:
    """Pass gradients on as they are.

    Source: Bengio et al. 2013 (arXiv:1308.3432), as van den Oord et al. 2017 (arXiv:1711.00937), section 3.2, use it.
    """
    return (chosen - rows).detach() + rows


def rotation(rows: Tensor, chosen: Tensor) -> Tensor:
    """Turn and scale gradients as the row was turned and scaled to become its code's vector.

    Rows of no length have no direction: they get the straight-through gradient.

    Source: Fifty et al. 2024 (arXiv:2410.06424), section 4: (|q| / |e|) R e, with R = I - 2 w w' + 2 q^ e^' the
    rotation from the direction e^ to q^, w the direction of their sum, all of it constant. Differs: the value is the
    code's vector itself, not its rotation up to rounding, and short rows are treated apart.
    """
    with torch.no_grad():
        length = rows.norm(dim=-1, keepdim=True)
        scale = chosen.norm(dim=-1, keepdim=True) / length.clamp(min=SHORT)
        source, target = F.normalize(rows, dim=-1), F.normalize(chosen, dim=-1)
        middle = F.normalize(source + target, dim=-1)
    along_middle = (rows * middle).sum(-1, keepdim=True)
    along_source = (rows * source).sum(-1, keepdim=True)
    turned = scale * (rows - 2 * along_middle * middle + 2 * along_source * target)
    return straight_through(torch.where(length > SHORT, turned, rows), chosen)
