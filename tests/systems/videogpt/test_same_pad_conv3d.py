"""Same-padded convolutions against padding by hand, as the published code does it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from reelworld.systems.videogpt.same_pad_conv3d import SamePadConv3d, SamePadConvTranspose3d

STRIDES = [(1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 1), (1, 1, 2)]


def pad_left_heavy(x: torch.Tensor, kernel: int, stride: tuple[int, int, int]) -> torch.Tensor:
    """Add kernel - stride zeros per dimension; of an odd number the larger half goes first."""
    for axis, s in enumerate(stride, 2):
        p = kernel - s
        left, right = list(x.shape), list(x.shape)
        left[axis], right[axis] = p // 2 + p % 2, p // 2
        x = torch.cat([x.new_zeros(left), x, x.new_zeros(right)], axis)
    return x


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_convolution(kernel: int, stride: tuple[int, int, int]) -> None:
    if kernel == 1 and max(stride) > 1:
        stride = (1, 1, 1)
    torch.manual_seed(0)
    conv, x = SamePadConv3d(2, 3, kernel, stride), torch.randn(1, 2, 4, 6, 8)
    out = conv(x)
    expected = functional.conv3d(pad_left_heavy(x, kernel, stride), conv.weight, conv.bias, stride)
    torch.testing.assert_close(out, expected)
    assert out.shape[2:] == tuple(n // s for n, s in zip((4, 6, 8), stride, strict=True))


@pytest.mark.parametrize("stride", STRIDES)
def test_transposed_convolution(stride: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    conv, x = SamePadConvTranspose3d(2, 3, stride), torch.randn(1, 2, 3, 4, 5)
    out = conv(x)
    padded = pad_left_heavy(x, 4, stride)
    expected = functional.conv_transpose3d(padded, conv.weight, conv.bias, stride, padding=3)
    torch.testing.assert_close(out, expected)
    assert out.shape[2:] == tuple(n * s for n, s in zip((3, 4, 5), stride, strict=True))
