"""Command-line words -> a verb's typed options, with one-line errors.

tyro parses and writes the help pages. Its error boxes are reduced to one ``UserError`` line, and the error of an
unknown flag names the closest one, so that all command-line errors have one format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import shutil
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

from reelworld.config import closest
from reelworld.types import UserError

POSITIONAL = typing.get_args(tyro.conf.Positional[int])[1]
O = TypeVar("O")  # noqa: E741 (the options class of a verb)


def parse(options: type[O], args: Sequence[str], prog: str, description: str) -> O:
    """Parse a verb's arguments; ``--help`` prints the help page and exits with code 0.

    Args:
        options: A dataclass; its fields are the flags, its ``tyro.conf.Positional`` fields the positionals.
        args: Words after the verb.
        prog: Name of the command, for the help page and for errors.
        description: Text above the flags on the help page.

    Raises:
        UserError: If a flag is unknown, a value does not fit or a positional is missing.
    """
    if "--help" in args or "-h" in args:
        # tyro joins the lines of a description, examples included, and does not wrap them.
        print(_wrap(description) + "\n")
        with _registry:
            return tyro.cli(options, args=args, prog=prog, description="")
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box), _wide_terminal(), _registry:
            parsed, surplus = tyro.cli(options, args=args, prog=prog, description=description, return_unknown_args=True)
    except SystemExit:
        said = _named(_fold(box.getvalue()), options)
        if said.startswith("Missing") and (flag := _first_unknown_flag(options, args)):
            raise _surplus_error(options, [flag], prog) from None  # a misspelt flag is why another is missing
        raise UserError(f"{said} See {prog} --help.") from None
    if surplus:
        raise _surplus_error(options, surplus, prog)
    return parsed


def _wrap(text: str) -> str:
    """Fit paragraphs into the terminal; indented lines, the examples, stay as they are."""
    width = min(shutil.get_terminal_size().columns, 120)
    paragraphs = [p if "\n  " in p or p.startswith("  ") else textwrap.fill(p, width) for p in text.split("\n\n")]
    return "\n\n".join(paragraphs)


_registry = ConstructorRegistry()


@_registry.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | UnsupportedTypeAnnotationError | None:
    """Display ``X | None`` as X with the default none; tyro displays ``{None}|X``."""
    kinds = typing.get_args(info.type)
    if type(None) not in kinds:
        return None
    inner: Any = typing.Union[tuple(k for k in kinds if k is not type(None))]  # noqa: UP007 (made from a tuple)
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(inner, info.markers))
    if isinstance(spec, UnsupportedTypeAnnotationError):
        return spec

    def read(words: list[str]) -> object:
        try:
            return spec.instance_from_str(words)
        except ValueError:
            if words in (["none"], ["None"]):
                return None
            raise

    return dataclasses.replace(
        spec,
        instance_from_str=read,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["none"] if value is None else spec.str_from_instance(value),
    )


def _surplus_error(options: type, surplus: list[str], prog: str) -> UserError:
    flags = [w.split("=")[0] for w in surplus if w.startswith("--")]
    if not flags:
        return UserError(f"unexpected argument {surplus[0]!r}. See {prog} --help.")
    return UserError(f"unknown flag {flags[0]}{closest(flags[0], _flags(options)) or '.'} See {prog} --help.")


def _flags(options: type) -> list[str]:
    return ["--" + name.replace("_", "-") for name in _field_names(options)]


def _first_unknown_flag(options: type, args: Sequence[str]) -> str:
    """Find an unknown flag; --no-x, --part.no-x and --some_name are valid forms of flags."""
    words = [word.partition("=")[0].replace("_", "-") for word in args if word.startswith("--")]
    known = _flags(options)
    return next((w for w in words if w not in known and re.sub(r"^(--|.*\.)no-", r"\1", w) not in known), "")


def _field_names(options: object, prefix: str = "") -> Iterator[str]:
    """Yield the fields of a dataclass; nested ones as ``part.field``, or ``field`` if marked."""
    for name, kind in typing.get_type_hints(options, include_extras=True).items():
        inner, *marks = typing.get_args(kind) if hasattr(kind, "__metadata__") else (kind,)
        if dataclasses.is_dataclass(inner):
            yield from _field_names(inner, prefix if marks else f"{prefix}{name}.")
        elif POSITIONAL not in marks:
            yield prefix + name


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep tyro from breaking long words of an error, such as paths, across lines."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "4000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _fold(box: str) -> str:
    """Join the lines of the first section of an error box, without its title and frame."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    rows = [row.strip("\u2502| ") for row in text.splitlines()]
    # Sections are separated by rules; the title is in the upper edge, or above a rule if boxes cannot be drawn.
    sections: list[list[str]] = [[]]
    for row in rows:
        if row.startswith(("\u256d", "\u2500", "\u2570", "---")):
            sections.append([])
        elif row:
            sections[-1].append(row)
    message = " ".join(next((rows for rows in sections[1:] if rows), []))
    return (re.sub(r"\s+", " ", message) or "the arguments do not fit").rstrip(".") + "."


def _named(message: str, options: type) -> str:
    """Replace a nested field's name by its flag in a dataclass's error: its own message has the last word only."""
    if not (refused := re.match(r"Error parsing ([\w.]+): ((\w+).*)", message)):
        return message
    path, said, field = refused.groups()
    parts, known = path.split("."), set(_field_names(options))
    prefixes = [".".join(parts[i:]) + "." for i in range(len(parts))]
    return next((prefix for prefix in prefixes if prefix + field in known), "") + said
