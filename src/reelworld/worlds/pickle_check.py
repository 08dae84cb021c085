"""Static check of a checkpoint's pickle, made before PyTorch's safe loader runs it.

``torch.load(weights_only=True)`` runs no code of a file, but it has no limits: a few bytes can ask it for any amount of
memory, and tuples nested deeply enough crash the interpreter when they are hashed. This check follows the instructions
without making a value. It refuses instructions that ``torch.save`` does not write, calls of anything but tensors, plain
containers and stubs, storages larger than their records, and containers that are copied again and again.

Source: ``pickletools`` of Python's standard library; the instructions that PyTorch's ``_weights_only_unpickler`` reads.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass

LIGHTNING = ("pytorch_lightning.", "lightning.")
LIBRARIES = (*LIGHTNING, "torch.")
"""Names that begin like this may be mentioned; those that PyTorch's loader does not read become stubs."""
STORAGES = {
    "torch.FloatStorage": 4,
    "torch.DoubleStorage": 8,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.LongStorage": 8,
    "torch.IntStorage": 4,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
}
"""Type of a storage -> bytes per number."""
CALLED = {
    *("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.Size"),
    *("collections.OrderedDict", "builtins.set", "builtins.frozenset", "builtins.complex"),
}
"""Classes and functions that the loader calls."""
REPLACED = {"argparse.Namespace", "collections.defaultdict", "builtins.dict", "builtins.list"}
"""Classes outside ``LIBRARIES`` that have stubs."""
LITERALS = {
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    "SHORT_BINSTRING",
}
DEEPEST_TUPLE = 64
LONGEST_TEXT = 80


class UnsafePickleError(Exception):
    """Reason for refusing a checkpoint, without the name of the file."""


@dataclass(slots=True, eq=False)
class Value:
    """Static description of a name, a container or the result of a call; texts and numbers are themselves."""

    name: str = ""
    """Full name of a class or function."""
    called: str = ""
    """Full name of the class or function of which this is a result."""
    members: tuple[object, ...] = ()
    """Of a tuple."""
    n_items: int = 0
    """Members of a container."""
    depth: int = 0
    """Levels of tuples within tuples."""


def printable(value: object) -> str:
    """Write text of an untrusted file so that it cannot garble a terminal, shortened; other values by their type."""
    text = ascii(value if isinstance(value, str) else type(value).__name__)[1:-1]
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "..."


def brief(value: object) -> str:
    """Write a value of an untrusted file in a few characters."""
    if isinstance(value, list | tuple) and len(value) <= 4:
        return f"({', '.join(map(brief, value))})"
    if value is None or type(value) in (bool, float) or (type(value) is int and abs(value) < 1 << 63):
        return str(value)
    return repr(printable(value)) if isinstance(value, str) else f"a {type(value).__name__}"


def check_pickle(data: bytes, record_sizes: Mapping[str, int]) -> tuple[set[str], set[str]]:
    """Follow a whole pickle without making a value.

    Args:
        data: The pickle.
        record_sizes: Bytes of each record of the archive, by its name below the root.

    Returns:
        Full names of all classes and functions that it mentions, and of those that it calls.

    Raises:
        UnsafePickleError: If the pickle is damaged or does more than a checkpoint needs.
    """
    check = _Check(record_sizes, len(data))
    try:
        for opcode, argument, _ in pickletools.genops(data):
            check.follow(opcode.name, argument)
    except (IndexError, KeyError, ValueError, OverflowError):
        raise UnsafePickleError("its pickle ends too early or is damaged") from None
    return check.names, check.calls


class _Check:
    """Stack, memo, and the names met so far."""

    def __init__(self, record_sizes: Mapping[str, int], n_bytes: int) -> None:
        self.record_sizes = record_sizes
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.names: set[str] = set()
        self.calls: set[str] = set()
        self.copies_left = n_bytes  # an item takes a byte or more, so a container that is copied once never exceeds it

    def follow(self, instruction: str, argument: object) -> None:
        """Follow one instruction."""
        if instruction in LITERALS:
            self.stack.append(argument)
            return
        match instruction, argument:
            case "BINPUT" | "LONG_BINPUT", int() as index:
                self.memo[index] = self.stack[-1]
            case "BINGET" | "LONG_BINGET", int() as index:
                self.stack.append(self.memo[index])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_SET", _:
                self.stack.append(Value())
            case "TUPLE1" | "TUPLE2" | "TUPLE3", _:
                self.push_tuple([self.stack.pop() for _ in range(int(instruction[-1]))][::-1])
            case "MARK", _:
                self.marks.append(len(self.stack))
            case "TUPLE", _:
                self.push_tuple(self.pop_mark())
            case "GLOBAL", str() as names:
                self.stack.append(Value(name=self.name(names)))
            case "REDUCE" | "NEWOBJ", _:
                arguments, function = self.stack.pop(), self.stack.pop()
                self.stack.append(self.call(function, arguments))
            case "APPENDS" | "SETITEMS", _:
                self.grow(len(self.pop_mark()))
            case "APPEND" | "SETITEM", _:
                del self.stack[-1 if instruction == "APPEND" else -2 :]
                self.grow(1)
            case "BUILD", _:
                self.stack.pop()
                self.check_state(self.stack[-1])
            case "BINPERSID", _:
                self.check_storage(self.stack.pop())
                self.stack.append(Value())
            case "PROTO" | "STOP", _:
                pass
            case _:
                about = f" ({printable(argument)})" if isinstance(argument, str) else ""
                raise UnsafePickleError(
                    f"it uses the pickle instruction {instruction}{about}; read is protocol 2, as torch.save writes it"
                )

    def pop_mark(self) -> list[object]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def push_tuple(self, members: list[object]) -> None:
        depth = 1 + max((member.depth for member in members if isinstance(member, Value)), default=0)
        if depth > DEEPEST_TUPLE:
            raise UnsafePickleError(f"it nests tuples deeper than {DEEPEST_TUPLE} levels")
        self.stack.append(Value(members=tuple(members), n_items=len(members), depth=depth))

    def grow(self, n_items: int) -> None:
        target = self.stack[-1]
        if not isinstance(target, Value):
            raise UnsafePickleError(f"it adds items to a {type(target).__name__}")
        target.n_items += n_items

    def name(self, names: str) -> str:
        """Return the full name of a class or function that may be mentioned."""
        module, _, last = names.partition(" ")
        path = f"{'builtins' if module == '__builtin__' else module}.{last}"
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", path, re.ASCII):
            raise UnsafePickleError(f"it names {printable(path)}, which is no name of Python")
        if path not in CALLED | REPLACED and not path.startswith(LIBRARIES):
            raise UnsafePickleError(
                f"it names {printable(path)}; only tensors, plain containers and argparse.Namespace are read, and "
                "names of PyTorch and Lightning are passed over"
            )
        self.names.add(path)
        return path

    def call(self, function: object, arguments: object) -> Value:
        if not isinstance(function, Value) or not function.name:
            what = function.called if isinstance(function, Value) else ""
            raise UnsafePickleError(f"it calls a value{' of ' + what if what else ''}")
        for argument in arguments.members if isinstance(arguments, Value) else ():
            self.copies_left -= argument.n_items if isinstance(argument, Value) else 0
        if self.copies_left < 0:
            raise UnsafePickleError("it copies containers to many times its own size")
        self.calls.add(function.name)
        return Value(called=function.name)

    def check_state(self, target: object) -> None:
        """Refuse to set the state of anything but an OrderedDict or a stub."""
        called = target.called if isinstance(target, Value) else ""
        if not called or called in CALLED - {"collections.OrderedDict"}:
            name = target.name if isinstance(target, Value) else ""
            raise UnsafePickleError(f"it sets the state of {printable(name or called) or 'a plain value'}")

    def check_storage(self, reference: object) -> None:
        """Refuse a storage that is none, or that claims more numbers than its record has."""
        members = reference.members if isinstance(reference, Value) else ()
        match [member.name if isinstance(member, Value) else member for member in members]:
            case ["storage", str() as kind, str() as key, str(), int() as n_items] if n_items >= 0:
                if kind not in STORAGES:
                    raise UnsafePickleError(
                        f"a tensor is stored in a {printable(kind)}; read are {', '.join(STORAGES)}"
                    )
                n_bytes = self.record_sizes.get(f"data/{key}")
                if n_bytes is None:
                    raise UnsafePickleError(f"it lacks the record data/{printable(key)}")
                if n_items * STORAGES[kind] > n_bytes:
                    raise UnsafePickleError(f"a storage of {n_items} numbers has a record of {n_bytes} bytes")
            case _:
                raise UnsafePickleError("it refers to something outside the pickle that is no tensor's storage")
