"""Compilation of C code, and the fallback without a compiler."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ctypes import c_double
from pathlib import Path

import pytest
import torch

from reelworld.nn.decode import compile_c

CODE = "double half(double x) { return x * FACTOR; }\n"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    compile_c.cache_clear()
    yield
    compile_c.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "half.c"
    path.write_text(CODE)
    return path


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_compiled_code_runs(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    library = compile_c(source, "-DFACTOR=0.5")
    assert library is not None
    library.half.restype, library.half.argtypes = c_double, [c_double]
    assert library.half(3.0) == 1.5
    # the smallest numbers are still numbers: a library linked for speed alone would round them to zero
    assert float(torch.tensor(1e-40) * 0.5) > 0
    assert list(source.parent.iterdir()) == [source]


def test_what_cannot_be_compiled_is_none(source: Path) -> None:
    assert compile_c(source) is None  # FACTOR is not defined


@pytest.mark.parametrize("compiler", ["", "no-such-compiler", "false"])
def test_without_a_compiler_there_is_none(source: Path, monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setenv("CC", compiler)
    assert compile_c(source, "-DFACTOR=0.5") is None
