"""Normalization of the input of quantizers.

Shapes: ... any leading shape, K dimensions
"""

from __future__ import annotations

from torch import Tensor, nn


class InputNorm(nn.Module):
    """Give each dimension zero mean and unit variance before it is quantized, so that codes are used from the start.

    Batch statistics in training, running ones afterwards. Without it few codes are used for long (docs/log.md).
    """

    def __init__(self, digits: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(digits, affine=False, momentum=0.05)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., K) over everything but K."""
        out: Tensor = self.norm(x.float().flatten(0, -2)).view(x.shape)
        return out
