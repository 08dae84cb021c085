"""Pickles written instruction by instruction, as no library would write them, in the archives that PyTorch makes."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelworld.types import UserError
from reelworld.worlds.external_checkpoint import read_checkpoint


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(path: str) -> bytes:
    module, _, last = path.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def call(path: str, *arguments: bytes) -> bytes:
    return name(path) + b"(" + b"".join(arguments) + b"tR"


def storage(kind: str = "torch.FloatStorage", key: bytes = text("0"), n: int = 4) -> bytes:
    return b"(" + text("storage") + name(kind) + key + text("cpu") + number(n) + b"tQ"


def tensor(
    of: bytes = storage(),
    offset: int = 0,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    last: bytes = b"",
) -> bytes:
    shape, strides = (b"(" + b"".join(map(number, n)) + b"t" for n in (size, stride))
    last = last or b"\x89" + call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", of, number(offset), shape, strides, last)


def checkpoint(**places: bytes) -> bytes:
    """Pickle a dictionary of these entries; ``weights`` is the entry "w" of its state_dict."""
    if "state_dict" not in places:
        places = {"state_dict": b"}" + text("w") + places.pop("weights", tensor()) + b"s", **places}
    return b"\x80\x02}(" + b"".join(text(k) + v for k, v in places.items()) + b"u."


def archive(path: Path, pickled: bytes, records: Mapping[str, bytes] | None = None, **options: Any) -> Path:
    records = {"data/0": np.arange(4, dtype=np.float32).tobytes(), "version": b"3"} | dict(records or {})
    with zipfile.ZipFile(path, "w", **options) as file:
        for record, content in {"data.pkl": pickled, **records}.items():
            file.writestr(f"archive/{record}", content)
    return path


def refused(path: Path) -> str:
    """Read a file that must be refused in one line that names it."""
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    said = str(error.value)
    assert said.startswith(str(path))
    assert "\n" not in said and said.isascii() and len(said) < 500
    return said.removeprefix(str(path))
