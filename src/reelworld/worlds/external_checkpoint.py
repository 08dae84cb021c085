"""Published checkpoints, read without trusting them: weights, hyper-parameters, and the names that were passed over.

Formats: PyTorch zip files (every Lightning .ckpt is one) and safetensors; weights alone need a ``config.json`` beside
them. A pickle is checked first (``pickle_check``), then read by ``torch.load(weights_only=True)``. Names of PyTorch and
Lightning that its safe loader does not read are replaced by stubs: nothing of a file is imported or run. Files are
memory-mapped, so that optimizer states cost no memory.
"""

from __future__ import annotations

import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from reelworld.config import read_json
from reelworld.data.array_store import DAMAGE
from reelworld.types import UserError
from reelworld.worlds.pickle_check import (
    CALLED,
    LIBRARIES,
    LIGHTNING,
    UnsafePickleError,
    check_pickle,
    printable,
)

LARGEST_PICKLE_BYTES = 8 << 20  # names and shapes, about 200 bytes per tensor; the numbers have records of their own
DEEPEST = 64
MAGIC_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
WANTED = "wanted a Lightning .ckpt, or a .safetensors with a config.json beside it"
WEIGHTS = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "state_dict.safetensors",
    "pytorch_model.bin",
)
"""Names of weights in a folder; the first that exists is read."""


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """Name of a class or function that hyper-parameters mention; it is never imported."""

    path: str


@dataclass(frozen=True, kw_only=True)
class ExternalCheckpoint:
    """Weights and hyper-parameters of a published checkpoint."""

    path: Path
    """File that was read."""
    state_dict: dict[str, Tensor]
    """Name -> weights, on the CPU, in the file's own dtype; tensors that shared memory still do."""
    hyper_parameters: dict[str, object]
    """Plain values; an argparse.Namespace or AttributeDict is a dictionary. A class or function that is only
    mentioned is a ``Name``. From a safetensors file: its entry in config.json, or the whole of it."""
    passed_over: tuple[str, ...] = ()
    """Names of PyTorch and Lightning that the file mentions and that were neither imported nor called."""


def read_checkpoint(path: Path | str) -> ExternalCheckpoint:
    """Read a checkpoint of unknown origin; nothing in it is run.

    Args:
        path: A PyTorch zip file with ``state_dict`` (Lightning, any version), or weights alone (safetensors or a zip
            file) with a ``config.json`` beside them. An entry of config.json under the file's stem takes precedence.

    Raises:
        UserError: If the file is neither, is damaged, or names or calls anything beyond tensors, plain containers,
            argparse.Namespace and stubs for PyTorch's and Lightning's own names.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; {WANTED}.")
    if not path.is_file():
        raise UserError(f"{path} does not exist or is no file; {WANTED}.")
    with path.open("rb") as file:
        head = file.read(512)
    try:
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(path)
        if head[8:9] == b"{":
            return _read_safetensors(path)
    except UnsafePickleError as reason:
        raise UserError(
            f"{path} is refused: {reason}; nothing of it was run. Import files of a known origin."
        ) from None
    except UserError:
        raise
    except (*DAMAGE, RuntimeError) as error:
        why = printable(" ".join(str(error).split())) or type(error).__name__
        raise UserError(f"{path} is damaged ({why}); copy it again.") from None
    raise UserError(f"{path} is {_kind(head)}; {WANTED}.")


def read_folder(folder: Path | str) -> ExternalCheckpoint:
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


def _kind(head: bytes) -> str:
    """Describe a file of another format by its first bytes."""
    if not head:
        return "empty"
    if head.startswith(MAGIC_BEFORE_1_6) or head[257:262] == b"ustar":
        return "in PyTorch's format before 1.6, which is not read (if you trust it: torch.load it and torch.save it)"
    return "a bare pickle and no checkpoint" if head.startswith(b"\x80") else "not a checkpoint"


# ------------------------------------------------------------------ safetensors


def _read_safetensors(path: Path) -> ExternalCheckpoint:
    section = _config_beside(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is not a sound safetensors file ({printable(str(error))}); copy it again.") from None
    return ExternalCheckpoint(path=path, state_dict=tensors, hyper_parameters=section)


def _config_beside(path: Path) -> dict[str, object]:
    """Read the hyper-parameters of a file of weights, from its folder."""
    beside = path.with_name("config.json")
    if not beside.is_file():
        raise UserError(f"{path} has no config.json beside it; put the model's hyper-parameters there as JSON.")
    config = read_json(beside)
    section = config.get(path.stem, config) if isinstance(config, dict) else config
    if not isinstance(section, dict):
        raise UserError(f"{beside} has no object for {path.name}; wanted {{field: value}}, or one per file stem.")
    return section


# ------------------------------------------------------------------ PyTorch zip


class Stub:
    """Stand-in for a class or function that a file names: takes any arguments, drops any state."""

    path = ""

    def __init__(self, *arguments: object) -> None:
        pass

    def __new__(cls, *arguments: object) -> object:  # type: ignore[misc]  # the loader fills only real dictionaries
        """Make a dictionary in place of a defaultdict or of Lightning's AttributeDict."""
        if cls.path == "collections.defaultdict" or (
            cls.path.startswith(LIGHTNING) and cls.path.endswith(".AttributeDict")
        ):
            return OrderedDict()
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class NamespaceStub(Stub):
    """Stand-in for argparse.Namespace; keeps its fields."""

    fields: dict[object, object]

    def __new__(cls, *arguments: object) -> NamespaceStub:
        """Start without fields."""
        made = object.__new__(cls)
        made.fields = {}
        return made

    def __setstate__(self, state: object) -> None:
        if type(state) is not dict:
            raise TypeError("the fields of a Namespace are no dictionary")
        self.fields.update(state)


def _stub(name: str) -> type[Stub]:
    """Make the stub of one name."""
    base = NamespaceStub if name == "argparse.Namespace" else Stub
    return type("Stub", (base,), {"path": name})


def _read_zip(path: Path) -> ExternalCheckpoint:
    content, stubs = _load(path)
    is_weights = isinstance(content, dict) and any(isinstance(value, Tensor) for value in dict.values(content))
    if is_weights and path.with_name("config.json").is_file():
        content = {"state_dict": content, "hyper_parameters": _config_beside(path)}
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} holds {'weights alone' if is_weights else 'no state_dict'}; {WANTED}.")
    weights, settings = content["state_dict"], dict.get(content, "hyper_parameters", {})
    if not isinstance(weights, dict):
        raise UnsafePickleError(f"its state_dict is {_describe(weights)}")
    settings = _Plain().copy(settings, "hyper_parameters")
    if not isinstance(settings, dict):
        raise UnsafePickleError(f"its hyper_parameters are {_describe(settings)}; wanted a dictionary")
    state_dict = {}
    for key, value in dict.items(weights):
        if type(key) is not str:
            raise UnsafePickleError(f"its state_dict has {_describe(key)} for a name")
        if not isinstance(value, Tensor):
            raise UnsafePickleError(f"state_dict[{printable(key)!r}] is {_describe(value)} where a tensor belongs")
        state_dict[key] = _plain_tensor(value)
    return ExternalCheckpoint(
        path=path, state_dict=state_dict, hyper_parameters=settings, passed_over=tuple(sorted(stubs))
    )


def _load(path: Path) -> tuple[object, Set[str]]:
    """Check a zip file, then let PyTorch's safe loader read it; return its content and the names of stubs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in names, which are refused, and of pickle protocols
        names, calls = check_pickle(*_check_zip(path))
        stubs = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) & names - CALLED
        if refused := sorted(calls - CALLED - stubs):
            raise UnsafePickleError(f"it calls {printable(refused[0])}, which checkpoints do not need")
        replaced = [(_stub(name), name) for name in stubs]
        with torch.serialization.safe_globals([*replaced, (frozenset, "builtins.frozenset")]):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except Exception as error:  # noqa: BLE001 (it raises whatever the values of a hostile file lead to)
                # torch.load wraps the loader's message in a long advice; the message itself is in its context
                why = " ".join(str(error.__context__ or error).split()) or type(error).__name__
                raise UnsafePickleError(f"PyTorch's safe loader does not read it ({printable(why)})") from None
    return content, {name for name in stubs if name.startswith(LIBRARIES)}


def _check_zip(path: Path) -> tuple[bytes, dict[str, int]]:
    """Return the pickle and the sizes of the records, after comparing checksums.

    Refuses what ``torch.save`` never writes: several pickles, compression, a record twice, a large pickle.
    """
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        sizes = {member.filename: member.file_size for member in members}
        roots = [n.removesuffix("/data.pkl") for n in sizes if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(roots) != 1:
            raise UserError(f"{path} is a zip with {len(roots)} PyTorch pickles (data.pkl) in it; {WANTED}.")
        root = f"{roots[0]}/"
        if f"{root}constants.pkl" in sizes or any(name.startswith(f"{root}code/") for name in sizes):
            raise UserError(f"{path} is a TorchScript program, not a checkpoint; {WANTED}.")
        if len(sizes) < len(members):
            raise UnsafePickleError("its zip lists a record twice")
        if sum(sizes.values()) > path.stat().st_size or any(m.compress_type for m in members):
            raise UnsafePickleError("its zip declares more bytes than the file has; PyTorch does not compress")
        if sizes[f"{root}data.pkl"] > LARGEST_PICKLE_BYTES:
            raise UnsafePickleError(f"its pickle is larger than {LARGEST_PICKLE_BYTES >> 20} MiB")
        if f"{root}byteorder" in sizes and file.read(f"{root}byteorder") not in (b"little", b"big"):
            raise UnsafePickleError("its byte order is neither little nor big")
        if damaged := file.testzip():
            raise zipfile.BadZipFile(f"{damaged} has another checksum")
        return file.read(f"{root}data.pkl"), {name.removeprefix(root): size for name, size in sizes.items()}


def _describe(value: object) -> str:
    """Describe a value that is refused."""
    if isinstance(value, Stub) and not isinstance(value, NamespaceStub):
        return f"the result of a call of {printable(value.path)}, which is never made"
    if isinstance(value, type) and issubclass(value, Stub):
        return f"the name {printable(value.path)}"
    return f"a {type(value).__name__}"


def _plain_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor without gradient, hooks and views that are larger than their memory."""
    if tensor.layout != torch.strided or tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise UnsafePickleError("a tensor has more numbers than its storage")
    # a bool is made, not reinterpreted: a byte that is neither 0 nor 1 is undefined as a bool
    return tensor.detach() if tensor.dtype != torch.bool else tensor.detach().view(torch.uint8) != 0


UNFINISHED = object()


@dataclass(frozen=True)
class _Plain:
    """Copies of what a loader made as plain values, each shared one once."""

    done: dict[int, object] = field(default_factory=dict)

    def copy(self, value: object, where: str, depth: int = 0) -> object:
        """Copy a value; ``where`` is its path, for errors."""
        if value is None or type(value) in (bool, int, float, complex, str):
            return value
        if isinstance(value, torch.dtype):
            return Name(str(value))
        if isinstance(value, type) and issubclass(value, Stub):
            return Name(value.path)
        if depth > DEEPEST:
            raise UnsafePickleError(f"{printable(where)} is nested deeper than {DEEPEST} levels")
        if id(value) not in self.done:
            self.done[id(value)] = UNFINISHED
            self.done[id(value)] = self._members(value, where, depth + 1)
        if self.done[id(value)] is UNFINISHED:
            raise UnsafePickleError(f"{printable(where)} contains itself")
        return self.done[id(value)]

    def _members(self, value: object, where: str, depth: int) -> object:
        match value:
            case Tensor():
                return _plain_tensor(value)
            case dict() | NamespaceStub():
                return dict(self._items(value.fields if isinstance(value, NamespaceStub) else value, where, depth))
            case list():
                return [self.copy(member, where, depth) for member in value]
            case tuple() | set() | frozenset():
                kind = tuple if isinstance(value, tuple) else type(value)
                return kind(self.copy(member, where, depth) for member in value)
        raise UnsafePickleError(f"{printable(where)} is {_describe(value)}")

    def _items(self, values: dict[object, object], where: str, depth: int) -> Iterator[tuple[object, object]]:
        for key, member in dict.items(values):  # not values.items(): a file can set attributes of an OrderedDict
            yield self.copy(key, where, depth), self.copy(member, f"{where}.{printable(key)}", depth)
