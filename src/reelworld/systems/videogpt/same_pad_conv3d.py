"""3D convolutions with zero padding that keeps or divides (multiplies) a size exactly; the odd rest goes left.

Source: VideoGPT (arXiv:2104.10157) as its authors' code has it. PyTorch's own "same" padding puts the odd rest on
the right and has no strides.

Shapes: B batch, C channels, T H W frames, pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

Triple = tuple[int, int, int]


class SamePadConv3d(nn.Conv3d):
    """Convolution (B, C, T, H, W) -> (B, C', T / stride, H / stride, W / stride)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: Sequence[int] = (1, 1, 1), bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, kernel, tuple(stride), bias=bias)  # type: ignore[arg-type]
        self._pads = _pads([kernel - s for s in stride])

    def forward(self, input: Tensor) -> Tensor:
        """Pad and convolve."""
        return super().forward(functional.pad(input, self._pads) if any(self._pads) else input)


class SamePadConvTranspose3d(nn.ConvTranspose3d):
    """Transposed convolution (B, C, T, H, W) -> (B, C', T * stride, H * stride, W * stride), kernel 4.

    The published form pads the input and crops kernel - 1 everywhere. Padding by p inputs and cropping less by
    p * stride is the same, and computes no zeros.
    """

    def __init__(self, inputs: int, outputs: int, stride: Sequence[int]) -> None:
        kernel = 4
        lefts = [(kernel - s) // 2 + (kernel - s) % 2 for s in stride]
        crops = tuple(kernel - 1 - left * s for left, s in zip(lefts, stride, strict=True))
        super().__init__(inputs, outputs, kernel, tuple(stride), padding=crops)  # type: ignore[arg-type]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve; where the stride is 1 the last entry is surplus."""
        frames, rows, columns = (n * s for n, s in zip(input.shape[2:], self.stride, strict=True))
        return super().forward(input)[:, :, :frames, :rows, :columns]


def _pads(surplus: Sequence[int]) -> tuple[int, ...]:
    """Return the argument of ``functional.pad``: left and right of the last dimension first."""
    return tuple(side for p in reversed(surplus) for side in (p // 2 + p % 2, p // 2))
