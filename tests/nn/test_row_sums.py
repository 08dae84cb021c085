"""Linear layers as sums of rows give what linear layers give."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from reelworld.nn.large_pages import LargePages
from reelworld.nn.row_sums import ROW, RowLinear, row_width


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize(("inputs", "outputs"), [(576, 1728), (7, 10), (1, 97), (33, 1)])
def test_equals_the_layer(dtype: torch.dtype, has_bias: bool, streams: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs, bias=has_bias, dtype=dtype)
    x = torch.randn(streams, inputs, dtype=dtype)
    with torch.no_grad():
        expected = layer.double()(x.double())
        layer = layer.to(dtype)
        rows = RowLinear(layer, LargePages())
        for _ in range(2):  # the second call finds the workspace as the first left it
            y = rows(x)
            assert y.dtype == dtype and y.shape == (streams, outputs)
            torch.testing.assert_close(y.double(), expected, **TOLERANCE[dtype])


TOLERANCE = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2},
}


def test_wide_inputs_are_rounded_to_the_weights() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 96, dtype=torch.bfloat16)
    x = torch.randn(1, 48)
    with torch.no_grad():
        assert torch.equal(RowLinear(layer, LargePages())(x), RowLinear(layer, LargePages())(x.bfloat16()))


def test_layers_of_one_shape_do_not_disturb_each_other() -> None:
    """They share a workspace, also with layers of the same shape that have no bias."""
    torch.manual_seed(0)
    layers = [nn.Linear(24, 48, bias=b) for b in (True, False, True)]
    x = [torch.randn(2, 24) for _ in layers]
    with torch.no_grad():
        fast = [RowLinear(layer, LargePages()) for layer in layers]
        first = [f(v) for f, v in zip(fast, x, strict=True)]
        for i in (2, 0, 1):
            torch.testing.assert_close(fast[i](x[i]), layers[i](x[i]))
        for y, layer, v in zip(first, layers, x, strict=True):
            torch.testing.assert_close(y, layer(v))


def test_threads_have_workspaces_of_their_own() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(600, 480)
    rows = RowLinear(layer, LargePages())
    wrong: list[int] = []

    def run(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _ in range(100):
                x = torch.randn(1, 600, generator=generator)
                if not torch.allclose(rows(x), layer(x), atol=1e-4):
                    wrong.append(seed)

    threads = [threading.Thread(target=run, args=(s,)) for s in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_weights_are_a_copy() -> None:
    """A layer that is trained on does not change what is being drawn."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 6)
    x = torch.randn(1, 5)
    with torch.no_grad():
        rows = RowLinear(layer, LargePages())
        before = rows(x)
        layer.weight.zero_()
        assert torch.equal(rows(x), before)


def test_rows_fit_and_divide() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for width in (1, 7, 60, 144, 576, 1000, 2048, 10_007):
            w = row_width(width, dtype)
            assert width % w == 0 and w <= ROW[dtype.itemsize]
    assert row_width(576, torch.float32) == 32
    assert row_width(10_007, torch.float32) == 1


def test_a_plan_made_in_inference_mode_serves_outside_of_it() -> None:
    linear, x = torch.nn.Linear(7, 11), torch.randn(5, 7)
    with torch.inference_mode():
        inside = RowLinear(linear, LargePages())(x)
    with torch.no_grad():
        outside = RowLinear(linear, LargePages())(x)
    assert torch.equal(inside, outside)
