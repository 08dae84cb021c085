"""Checkpoints that others made, read without trusting them: weights, hyper-parameters, and what was passed over.

PyTorch zip files (every Lightning .ckpt is one) and safetensors; weights alone need a ``config.json`` beside them. Of a
Lightning file only the tensors below ``state_dict`` are read; optimizer states and callbacks stay in the file.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from reelworld.config import read_json
from reelworld.data.npz import DAMAGE
from reelworld.types import UserError
from reelworld.worlds.safe_unpickler import (
    STORAGES,
    Inert,
    Name,
    Refused,
    Space,
    StorageRef,
    TensorRef,
    read_pickle,
    shown,
)

__all__ = ["ForeignCheckpoint", "read_checkpoint", "read_folder"]

LARGEST_PICKLE_BYTES = 16 << 20  # names and shapes, about 200 bytes per tensor; the numbers lie beside it
DEEPEST = 64
UNFINISHED = object()
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
WANTED = "wanted a Lightning .ckpt, or a .safetensors with a config.json beside it"
WEIGHTS = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "state_dict.safetensors",
    "pytorch_model.bin",
)
"""Names of weights in a folder, the first that is there counts."""


@dataclass(frozen=True, kw_only=True)
class ForeignCheckpoint:
    """What a checkpoint holds that a model needs."""

    path: Path
    """Where it was read from."""
    state_dict: dict[str, Tensor]
    """Name -> weights, on the CPU, in the file's own dtype; tensors that shared memory still do."""
    hyper_parameters: dict[str, Any]
    """Plain values; an argparse.Namespace or AttributeDict is a dictionary. A class or function that is only
    mentioned is a ``Name``. From a safetensors file: its entry in config.json, or the whole of it."""
    inert: tuple[str, ...] = ()
    """Names of PyTorch and Lightning that the file mentions and that were neither imported nor called."""


def read_checkpoint(path: Path | str) -> ForeignCheckpoint:
    """Read a checkpoint of unknown origin; nothing in it is run.

    Args:
        path: A PyTorch zip file with ``state_dict`` (Lightning, any version), or weights alone (safetensors or a zip
            file) with a ``config.json`` beside them. Where config.json has an entry of the file's stem, that counts.

    Raises:
        UserError: If the file is neither, is damaged, or names or calls anything beyond tensors, plain containers,
            argparse.Namespace and placeholders for PyTorch's and Lightning's own names.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; {WANTED}.")
    if not path.is_file():
        raise UserError(f"{path} does not exist or is no file; {WANTED}.")
    with path.open("rb") as file:
        head = file.read(16)
    try:
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(path)
        if head[8:9] == b"{":
            return _read_safetensors(path)
    except Refused as reason:
        raise UserError(
            f"{path} is refused: {reason}; nothing of it was run. Import files of a known origin."
        ) from None
    except UserError:
        raise
    except (*DAMAGE, RuntimeError) as error:
        why = shown(" ".join(str(error).split())) or type(error).__name__
        raise UserError(f"{path} is damaged ({why}); copy it again.") from None
    raise UserError(f"{path} is {_what(head)}; {WANTED}.")


def read_folder(folder: Path | str) -> ForeignCheckpoint:
    """Read the weights and the ``config.json`` of a folder, as hubs lay them out.

    Raises:
        UserError: If one of them is missing, or as ``read_checkpoint`` does.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}; wanted a folder with config.json and one of {', '.join(WEIGHTS)}.")
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise UserError(f"{folder} holds no weights; wanted config.json and one of {', '.join(WEIGHTS)}.")
    return read_checkpoint(found)


def _what(head: bytes) -> str:
    if not head:
        return "empty"
    if head.startswith(LEGACY_MAGIC):
        return "in PyTorch's format before 1.6, which is not read (if you trust it: torch.load it and torch.save it)"
    return "a bare pickle and no checkpoint" if head.startswith(b"\x80") else "not a checkpoint"


# ------------------------------------------------------------------ safetensors


def _read_safetensors(path: Path) -> ForeignCheckpoint:
    section = _beside(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is not a sound safetensors file ({shown(str(error))}); copy it again.") from None
    return ForeignCheckpoint(path=path, state_dict=tensors, hyper_parameters=section)


def _beside(path: Path) -> dict[str, Any]:
    """Read the hyper-parameters beside a file of weights."""
    beside = path.with_name("config.json")
    if not beside.is_file():
        raise UserError(f"{path} has no config.json beside it; put the model's hyper-parameters there as JSON.")
    config = read_json(beside)
    section = config.get(path.stem, config) if isinstance(config, dict) else config
    if not isinstance(section, dict):
        raise UserError(f"{beside} has no object for {path.name}; wanted {{field: value}}, or one per file stem.")
    return section


# ------------------------------------------------------------------ PyTorch zip


def _read_zip(path: Path) -> ForeignCheckpoint:
    with zipfile.ZipFile(path) as file:
        archive = _Archive.of(file, path)
        content, inert = read_pickle(bytes(archive.record("data.pkl")))
        if _is_weights(content) and path.with_name("config.json").is_file():
            content = {"state_dict": content, "hyper_parameters": _beside(path)}
        if not isinstance(content, dict) or "state_dict" not in content:
            about = "weights alone" if _is_weights(content) else "no state_dict"
            raise UserError(f"{path} holds {about}; {WANTED}.")
        weights = content["state_dict"]
        if not isinstance(weights, dict):
            raise Refused(f"its state_dict is {_about(weights)}")
        settings = _Values(archive).of(content.get("hyper_parameters", {}), "hyper_parameters")
        if not isinstance(settings, dict):
            raise Refused(f"its hyper_parameters are a {type(settings).__name__}; wanted a dictionary")
        tensors = {_name(key): _weight(archive, key, value) for key, value in weights.items()}
        return ForeignCheckpoint(path=path, state_dict=tensors, hyper_parameters=settings, inert=inert)


def _is_weights(content: Any) -> bool:
    return isinstance(content, dict) and any(isinstance(value, TensorRef) for value in content.values())


def _name(key: Any) -> str:
    if type(key) is not str:
        raise Refused(f"its state_dict has a {type(key).__name__} for a name")
    return key


def _weight(archive: _Archive, key: str, value: Any) -> Tensor:
    if not isinstance(value, TensorRef):
        raise Refused(f"state_dict[{shown(key)!r}] is {_about(value)} where a tensor belongs")
    return archive.tensor(value)


def _about(value: Any) -> str:
    if isinstance(value, Inert):
        return f"the result of a call of {shown(value.path)}, which is never made"
    return f"the name {shown(value.path)}" if isinstance(value, Name) else f"a {type(value).__name__}"


@dataclass(frozen=True)
class _Archive:
    """The records of a PyTorch zip file, and the storages read so far."""

    file: zipfile.ZipFile
    records: Mapping[str, zipfile.ZipInfo]
    root: str
    is_swapped: bool
    storages: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, file: zipfile.ZipFile, path: Path) -> _Archive:
        """Look at the directory of the zip: one pickle, nothing compressed, nothing twice, no more than the file."""
        members = file.infolist()
        records = {member.filename: member for member in members}
        roots = [n.removesuffix("/data.pkl") for n in records if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(roots) != 1:
            raise UserError(f"{path} is a zip with {len(roots)} PyTorch pickles (data.pkl) in it; {WANTED}.")
        root = roots[0]
        if f"{root}/constants.pkl" in records or any(name.startswith(f"{root}/code/") for name in records):
            raise UserError(f"{path} is a TorchScript program, not a checkpoint; {WANTED}.")
        if len(records) < len(members):
            raise Refused("its zip lists a record twice")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise Refused("its zip declares more bytes than the file has; PyTorch does not compress")
        if records[f"{root}/data.pkl"].file_size > LARGEST_PICKLE_BYTES:
            raise Refused(f"its pickle is larger than {LARGEST_PICKLE_BYTES >> 20} MiB")
        archive = cls(file, records, root, False)
        order = archive.record("byteorder") if f"{root}/byteorder" in records else b"little"
        if order not in (b"little", b"big"):
            raise Refused("its byte order is neither little nor big")
        return cls(file, records, root, order.decode() != sys.byteorder)

    def record(self, name: str) -> bytearray:
        """Read a record, all of it; the zip's checksum is compared on the way."""
        member = self.records.get(f"{self.root}/{name}")
        if member is None:
            raise Refused(f"it lacks the record {name}")
        with self.file.open(member) as stream:
            return bytearray(stream.read())

    def tensor(self, ref: TensorRef) -> Tensor:
        """Give the view that a tensor is of its storage, after checking that it lies inside."""
        n_items, last = 1, ref.offset
        for size, stride in zip(ref.size, ref.stride, strict=True):
            n_items *= size
            last += max(size - 1, 0) * stride
        if n_items > ref.storage.n_items:
            raise Refused("a tensor has more numbers than its storage")
        if n_items and last >= ref.storage.n_items:
            raise Refused("a tensor reaches beyond its storage")
        storage = self._storage(ref.storage)
        return storage.as_strided(ref.size, ref.stride, ref.offset) if n_items else storage.new_empty(ref.size)

    def _storage(self, ref: StorageRef) -> Tensor:
        if ref.kind not in STORAGES:
            raise Refused(f"a tensor lies in a {shown(ref.kind)}; read are {', '.join(STORAGES.values())}")
        if (ref.key, ref.kind) not in self.storages:
            dtype: torch.dtype = getattr(torch, STORAGES[ref.kind])
            content = self.record(f"data/{ref.key}")
            if ref.n_items * dtype.itemsize > len(content):
                raise Refused(f"a storage of {ref.n_items} {STORAGES[ref.kind]} has a record of {len(content)} bytes")
            self.storages[ref.key, ref.kind] = _numbers(content, dtype, self.is_swapped)[: ref.n_items]
        storage = self.storages[ref.key, ref.kind]
        if len(storage) != ref.n_items:
            raise Refused("two tensors disagree about the size of the storage they share")
        return storage


def _numbers(content: bytearray, dtype: torch.dtype, is_swapped: bool) -> Tensor:
    n_items = len(content) // dtype.itemsize
    if not n_items:
        return torch.empty(0, dtype=dtype)
    content_I = torch.frombuffer(content, dtype=torch.uint8)[: n_items * dtype.itemsize]
    if is_swapped:
        content_I = content_I.view(n_items, dtype.itemsize).flip(1).flatten()
    # a bool is made, not reinterpreted: a byte that is neither 0 nor 1 is undefined as a bool
    return content_I != 0 if dtype == torch.bool else content_I.view(dtype)


@dataclass(frozen=True)
class _Values:
    """Turns what a pickle describes into plain values, each shared one once."""

    archive: _Archive
    done: dict[int, Any] = field(default_factory=dict)

    def of(self, value: Any, where: str, depth: int = 0) -> Any:
        """Copy a value; ``where`` is its place, for errors."""
        if depth > DEEPEST:
            raise Refused(f"{shown(where)} is nested deeper than {DEEPEST} levels")
        if isinstance(value, Inert | StorageRef):
            raise Refused(f"{shown(where)} is {_about(value)}")
        if isinstance(value, Name) or not isinstance(value, dict | list | tuple | set | frozenset | Space | TensorRef):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = UNFINISHED
            self.done[id(value)] = self._copy(value, where, depth + 1)
        if self.done[id(value)] is UNFINISHED:
            raise Refused(f"{shown(where)} contains itself")
        return self.done[id(value)]

    def _copy(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, TensorRef):
            return self.archive.tensor(value)
        if isinstance(value, dict | Space):
            items = value.values if isinstance(value, Space) else value
            return {self.of(k, where, depth): self.of(v, f"{where}.{shown(k)}", depth) for k, v in items.items()}
        members = [self.of(v, where, depth) for v in value]
        return members if isinstance(value, list) else type(value)(members)
