"""Frozen dataclasses <-> JSON, with errors that name the field and the closest match."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from reelworld.types import UserError

C = TypeVar("C")


def closest(name: str, options: Iterable[str]) -> str:
    """Return ", did you mean 'x'?" for the nearest option, or an empty string."""
    match = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def require(config: object, fields: str, is_fine: Callable[[Any], Any], wanted: str) -> None:
    """Check fields of a config, given as words; the first that is not fine is a UserError that names it."""
    for name in fields.split():
        if not is_fine(value := getattr(config, name)):
            raise UserError(f"{name} is {value}; it must be {wanted}.")


def derive(kind: type[C], source: object, **fields: object) -> C:
    """Build a dataclass from another one with common base classes.

    Args:
        kind: What to build, usually a part's config: a base of ``source`` and what depends on the data.
        source: A dataclass; the fields of the bases that both have are taken from it.
        **fields: The other fields.
    """
    bases = [base for base in type(source).__mro__ if dataclasses.is_dataclass(base) and issubclass(kind, base)]
    shared = {f.name: getattr(source, f.name) for base in bases for f in dataclasses.fields(base)}
    return kind(**shared, **fields)


def unknown(kind: str, name: str, options: Iterable[str]) -> UserError:
    """Build the error for an unknown name: what came, what there is, the closest match."""
    options = sorted(options)
    return UserError(f"unknown {kind} {name!r}{closest(name, options) or '.'} Known: {', '.join(options) or 'none'}.")


def to_json(value: object) -> Any:
    """Turn a dataclass (nested, with tuples and paths) into plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def from_json(cls: type[C], value: object, where: str = "") -> C:
    """Build a dataclass from JSON values.

    Args:
        cls: A dataclass type.
        value: What ``to_json`` made, perhaps edited by a person.
        where: Name of the file, for errors.

    Raises:
        UserError: If a field is unknown, missing or of the wrong type; the message names it.
    """
    return typing.cast(C, _convert(cls, value, where or cls.__name__))


def _convert(kind: object, value: object, where: str) -> object:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is typing.Literal:
        if value not in args:
            raise unknown(f"value of {where}", str(value), map(str, args))
        return value
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(kind, value, where)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        inner = args[0] if len(args) == 1 or (len(args) == 2 and args[1] is Ellipsis) else None
        kinds = [inner] * len(value) if inner is not None else list(args)
        if len(kinds) != len(value):
            raise UserError(f"{where} has {len(value)} entries; {len(kinds)} are needed.")
        items = [_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))]
        return tuple(items) if origin is tuple else items
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {k: _convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{where} is a number too large for this field.") from None
    if kind is Path and isinstance(value, str):
        return Path(value)
    plain = kind if isinstance(kind, type) else origin
    if isinstance(plain, type) and isinstance(value, plain) and not (plain is int and isinstance(value, bool)):
        return value
    raise UserError(f"{where} is {value!r}; wanted {getattr(kind, '__name__', kind)}.")


def _convert_union(options: tuple[object, ...], value: object, where: str) -> object:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        try:
            return _convert(option, value, where)
        except UserError as error:
            errors.append(error)
    raise errors[0]


@lru_cache
def _hints(kind: type) -> dict[str, object]:
    """Return the types of a dataclass's fields; finding them takes most of the time of reading a small object."""
    return typing.get_type_hints(kind)


def _convert_dataclass(kind: Any, value: object, where: str) -> object:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {value!r}; wanted an object with the fields of {kind.__name__}.")
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    for name in value:
        if name not in fields:
            raise unknown(f"field of {where}", name, fields)
    needed = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [n for n in needed if n not in value]:
        raise UserError(f"{where} lacks the field(s) {', '.join(missing)}.")
    hints = _hints(kind)
    return kind(**{n: _convert(hints[n], v, f"{where}.{n}") for n, v in value.items()})


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is a UserError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore it or delete it and start again.") from None
