"""Read a pickle as data: nothing it names is imported, nothing it calls is run.

A pickle is a program for a small stack machine. This is that machine without its power: of the instructions only
those that make plain values, containers, tensors and ``argparse.Namespace`` do something. A name is only ever a
string here, so that neither a call nor a state set on it can reach a real function or class. Calling a name of
PyTorch or Lightning gives an ``Inert`` that holds nothing; any other name ends the reading.

``pickle.Unpickler`` with a strict ``find_class`` is not enough: making an object wants real classes, setting a
state may set attributes on them, a pickle of ten bytes can ask for a memo of many gigabytes, and tuples nested
deeply enough crash the interpreter when they become keys. PyTorch's own ``weights_only`` reader refuses the whole
of a checkpoint for one name of an old Lightning version.

Source: the instructions are those that ``pickletools`` of Python's standard library documents; the calls that
rebuild tensors are those that ``torch.save`` writes since PyTorch 1.6.
"""

from __future__ import annotations

import io
import pickletools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "STORAGES",
    "Inert",
    "Items",
    "Name",
    "Refused",
    "Space",
    "StorageRef",
    "TensorRef",
    "brief",
    "read_pickle",
    "shown",
]

LIGHTNING = ("pytorch_lightning.", "lightning.")
INERT = (*LIGHTNING, "torch.")
"""Names that begin like this may be mentioned, and calls of them give an ``Inert``."""
STORAGES = {
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
"""Type of a storage -> name of its dtype in torch."""
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
LONGEST_SHOWN = 80
LARGEST_RANK = 16


class Refused(Exception):
    """Why a pickle is not read, in words for a person; the reader of the file adds which file."""


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A class or function that the pickle mentions; it is never imported."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Inert:
    """What a call of a placeholder would have made; whatever is put into it is dropped."""

    path: str


class Items(dict):
    """An ordered dictionary or a Lightning AttributeDict: its items are kept, its attributes are dropped."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """An argparse.Namespace: its attributes, as a dictionary."""

    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class StorageRef:
    """Where the numbers of tensors lie in the archive."""

    kind: str
    """Its type, e.g. torch.FloatStorage."""
    key: str
    """Name of its record below data/."""
    n_items: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A view of a storage; sizes and strides are not yet checked against it."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickle(data: bytes) -> tuple[Any, tuple[str, ...]]:
    """Read a whole pickle.

    Returns:
        What it describes: plain values, lists, tuples, sets, dictionaries and the classes of this module; and the
        names of the placeholders it mentions, sorted.

    Raises:
        Refused: If it is damaged, uses an instruction that checkpoints do not need, or names or calls anything
            beyond tensors, plain containers, argparse.Namespace and placeholders.
    """
    machine = _Machine(len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in names; such names are refused
        value = machine.run(data)
    inert = (path for path in machine.names if path.startswith(INERT) and path not in CALLS | STORAGES)
    return value, tuple(sorted(inert))


def shown(value: object) -> str:
    """Write a name from an untrusted file so that it cannot garble a terminal, shortened."""
    text = ascii(value if isinstance(value, str) else type(value).__name__)[1:-1]
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def brief(value: Any) -> str:
    """Write a value of an untrusted file in a few characters."""
    if isinstance(value, list | tuple) and len(value) <= 4:
        return f"({', '.join(map(brief, value))})"
    if value is None or type(value) in (bool, float) or (type(value) is int and abs(value) < 1 << 63):
        return str(value)
    return repr(shown(value)) if isinstance(value, str) else f"a {type(value).__name__}"


class _Machine:
    """Stack, memo and the names met so far."""

    def __init__(self, n_bytes: int) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Name] = {}
        self.copies_left = n_bytes  # what is written once takes a byte per item, so honest copies never exceed it

    def run(self, data: bytes) -> Any:
        file = io.BytesIO(data)
        while True:
            opcode = OPCODES.get(file.read(1).decode("latin-1"))
            if opcode is None:
                raise Refused("it ends too early or is damaged")
            argument = _argument(opcode, file)
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name not in INSTRUCTIONS:
                about = f" ({shown(argument)})" if isinstance(argument, str) else ""
                raise Refused(f"it uses the pickle instruction {opcode.name}{about}, which no checkpoint needs")
            INSTRUCTIONS[opcode.name](self, argument)

    # ------------------------------------------------------------------ the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def top(self) -> Any:
        if not self.stack:
            raise Refused("it takes values that it never gave, so it is damaged")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise Refused("it takes values that it never gave, so it is damaged")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def join(self, n: int) -> None:
        items = [self.pop() for _ in range(n)]
        self.push(tuple(reversed(items)))

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise Refused("it recalls a value that it never stored, so it is damaged")
        self.push(self.memo[index])

    # ------------------------------------------------------------------ names and calls

    def global_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise Refused(f"it names a {shown(name)} in a {shown(module)} where text belongs")
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", path, re.ASCII):
            raise Refused(f"it names {shown(path)}, which is no name of Python")
        if path not in PLAIN and not path.startswith(INERT):
            raise Refused(
                f"it names {shown(path)}; only tensors, plain containers and argparse.Namespace are read, and names of "
                "PyTorch and Lightning are passed over"
            )
        self.push(self.names.setdefault(path, Name(path)))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.global_name(module, name)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Name:
            raise Refused(f"it calls a {_kind(function)}")
        if type(arguments) is not tuple:
            raise Refused(f"it calls {shown(function.path)} with a {_kind(arguments)} for arguments")
        path = function.path
        if path in CALLS:
            self.push(CALLS[path](self, arguments))
        elif path.startswith(LIGHTNING) and path.endswith(".AttributeDict") and not arguments:
            self.push(Items())
        elif path.startswith(INERT):
            self.push(Inert(path))
        else:
            raise Refused(f"it calls {shown(path)}, which is not a container of its own")

    def persistent(self) -> None:
        match self.pop():
            case ("storage", Name() as kind, str() as key, str(), int() as n_items) if n_items >= 0 and re.fullmatch(
                r"\w+", key, re.ASCII
            ):
                self.push(StorageRef(kind.path, key, int(n_items)))
            case other:
                raise Refused(f"it refers to something outside the pickle ({_kind(other)}) that is no tensor's storage")

    # ------------------------------------------------------------------ filling what was made

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is list:
            target.extend(items)
        elif type(target) is not Inert:
            raise Refused(f"it appends to a {_kind(target)}")

    def add(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not set:
            raise Refused(f"it adds members to a {_kind(target)}")
        target.update(map(_key, items))

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if len(items) % 2:
            raise Refused("it has a key without a value, so it is damaged")
        if isinstance(target, dict):
            target.update(zip(map(_key, items[::2]), items[1::2], strict=True))
        elif type(target) is not Inert:
            raise Refused(f"it sets items of a {_kind(target)}")

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if type(target) is Space:
            if type(state) is not dict or not all(type(key) is str for key in state):
                raise Refused(f"it gives argparse.Namespace a {_kind(state)} for its fields")
            target.values.update(state)
        elif type(target) not in (Items, Inert):
            raise Refused(f"it sets the state of a {_kind(target)}")

    def copy(self, items: Any) -> Any:
        """Let a container be made of another one, unless a small pickle grows large by it."""
        if type(items) not in (list, tuple, set, frozenset):
            raise Refused(f"it makes a container of a {_kind(items)}")
        self.copies_left -= len(items)
        if self.copies_left < 0:
            raise Refused("it copies containers to many times its own size")
        return items


def _argument(opcode: pickletools.OpcodeInfo, file: io.BytesIO) -> Any:
    if opcode.arg is None:
        return None
    try:
        return opcode.arg.reader(file)
    except (ValueError, OverflowError):
        raise Refused("it ends too early or is damaged") from None


def _kind(value: Any) -> str:
    return shown(value.path) if isinstance(value, Name | Inert) else type(value).__name__


def _key(value: Any) -> Any:
    """Let only flat keys through: hashing tuples in tuples without end would crash the interpreter."""
    plain = (str, int, float, bool, bytes, complex, type(None), Name, Inert)
    if type(value) in plain or (type(value) is tuple and all(type(v) in plain for v in value)):
        return value
    raise Refused(f"it has a {_kind(value)} for a key")


def _tensor(machine: _Machine, arguments: tuple[Any, ...]) -> TensorRef | Inert:
    match arguments:
        case (StorageRef() as storage, int() as offset, tuple() as size, tuple() as stride, bool(), hooks, *metadata):
            if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)) or len(size) != len(stride):
                raise Refused("a tensor has sizes, strides or an offset that are not counts")
            if hooks or any(metadata) or len(metadata) > 1 or len(size) > LARGEST_RANK:
                raise Refused("a tensor has hooks, more than 16 axes or a form that is not read")
            return TensorRef(storage, offset, size, stride)
    return Inert("torch._utils._rebuild_tensor_v2")


def _parameter(machine: _Machine, arguments: tuple[Any, ...]) -> TensorRef | Inert:
    match arguments:
        case (TensorRef() as tensor, bool(), hooks) if not hooks:
            return tensor
    return Inert("torch._utils._rebuild_parameter")


def _empty(make: Callable[[], Any]) -> Callable[[_Machine, tuple[Any, ...]], Any]:
    def call(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
        if any(type(a) is not Name and a is not None for a in arguments):  # a Name is what defaultdict would fill in
            raise Refused("it makes a dictionary or a Namespace of other things than items")
        return make()

    return call


def _collection(make: Callable[[Any], Any]) -> Callable[[_Machine, tuple[Any, ...]], Any]:
    def call(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) > 1:
            raise Refused("it makes a container of several arguments")
        items = machine.copy(arguments[0]) if arguments else ()
        return make(items if make in (list, tuple) else map(_key, items))

    return call


def _complex(machine: _Machine, arguments: tuple[Any, ...]) -> complex:
    match arguments:
        case (float() as real, float() as imaginary):
            return complex(real, imaginary)
    raise Refused("it makes a complex number of other things than two numbers")


CALLS: dict[str, Callable[[_Machine, tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "argparse.Namespace": _empty(Space),
    "collections.OrderedDict": _empty(Items),
    "collections.defaultdict": _empty(Items),
    "builtins.dict": _empty(dict),
    "builtins.list": _collection(list),
    "builtins.tuple": _collection(tuple),
    "builtins.set": _collection(set),
    "builtins.frozenset": _collection(frozenset),
    "builtins.complex": _complex,
}
"""What a pickle may call -> what we do instead; none of them calls what it was given."""
PLAIN = frozenset(CALLS)

VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
INSTRUCTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, a: None),
    **dict.fromkeys(VALUES, _Machine.push),
    "NONE": lambda m, a: m.push(None),
    "NEWTRUE": lambda m, a: m.push(True),
    "NEWFALSE": lambda m, a: m.push(False),
    "EMPTY_DICT": lambda m, a: m.push({}),
    "EMPTY_LIST": lambda m, a: m.push([]),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "EMPTY_SET": lambda m, a: m.push(set()),
    "MARK": lambda m, a: m.marks.append(len(m.stack)),
    "POP": lambda m, a: m.pop(),
    "POP_MARK": lambda m, a: m.pop_mark(),
    "DUP": lambda m, a: m.push(m.top()),
    "TUPLE": lambda m, a: m.push(tuple(m.pop_mark())),
    "TUPLE1": lambda m, a: m.join(1),
    "TUPLE2": lambda m, a: m.join(2),
    "TUPLE3": lambda m, a: m.join(3),
    "APPEND": lambda m, a: m.append([m.pop()]),
    "APPENDS": lambda m, a: m.append(m.pop_mark()),
    "ADDITEMS": lambda m, a: m.add(m.pop_mark()),
    "FROZENSET": lambda m, a: m.push(frozenset(map(_key, m.pop_mark()))),
    "SETITEM": lambda m, a: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, a: m.set_items(m.pop_mark()),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    "GLOBAL": lambda m, a: m.global_name(*a.split(" ", 1)),
    "STACK_GLOBAL": lambda m, a: m.stack_global(),
    "REDUCE": lambda m, a: m.call(),
    "NEWOBJ": lambda m, a: m.call(),
    "BUILD": lambda m, a: m.build(),
    "BINPERSID": lambda m, a: m.persistent(),
}
"""The instructions that pickles of protocol 2 to 5 need for such data; all others are refused by name."""
