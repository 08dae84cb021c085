"""A few rows times a matrix: compiled code against torch in double precision."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from reelworld.nn import decode as module
from reelworld.nn.decode import GemvLinear, compile_c, gemv

WITH_COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture
def _afresh() -> Iterator[None]:
    compile_c.cache_clear()
    yield
    compile_c.cache_clear()


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def refuse(*_: object) -> torch.Tensor:
    raise AssertionError("torch was asked")


@WITH_COMPILER
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inputs", [301, 320, 2336])
def test_every_number_of_rows_is_as_torch_says(
    inputs: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd sizes, vector sizes, more than two blocks; part of a larger matrix, rows that do not lie side by side."""
    weight = numbers(450, inputs, dtype=dtype)[50:350]
    for n in range(1, module.MAX_ROWS + 1):
        x = numbers(n, 2, inputs, dtype=dtype, seed=n)[:, 1:]
        wanted = x.double() @ weight.double().T
        with monkeypatch.context() as patched:
            patched.setattr(functional, "linear", refuse)
            found = gemv(x, weight)
        assert found.dtype == dtype and found.shape == (n, 1, 300)
        rounding = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(found.double(), wanted, rtol=rounding, atol=1e-3)


@WITH_COMPILER
@torch.no_grad()
def test_threads_share_the_outputs() -> None:
    weight, x = numbers(301, 256), numbers(3, 256)
    alone, n = gemv(x, weight), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(gemv(x, weight), alone)
    finally:
        torch.set_num_threads(n)


def test_torch_does_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows, small matrices, other types, gradients."""
    monkeypatch.setattr(module, "decode_library", refuse)
    with torch.no_grad():
        gemv(numbers(9, 256), numbers(256, 256))
        gemv(numbers(1, 16), numbers(16, 16))
        gemv(numbers(1, 256).double(), numbers(256, 256).double())
        gemv(numbers(1, 256), numbers(256, 256).T)
        gemv(numbers(0, 256), numbers(256, 256))
    layer = GemvLinear(256, 256)
    layer(numbers(1, 256)).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_without_a_compiler_nothing_is_missing(monkeypatch: pytest.MonkeyPatch, _afresh: None) -> None:
    monkeypatch.setenv("CC", "")
    weight, x = numbers(300, 256), numbers(1, 256)
    assert torch.equal(gemv(x, weight), functional.linear(x, weight))
