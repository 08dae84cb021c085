"""Turn published checkpoints into a world, without trusting them.

SYSTEM names the kind of checkpoint. `reelworld import SYSTEM --help` shows its flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reelworld.cli.load_options import check_folder
from reelworld.config import unknown
from reelworld.systems import all_systems
from reelworld.types import UserError
from reelworld.worlds.importer import Importer, load_importers

SAFETY = (
    "A checkpoint may be a pickle, and a pickle can run programs. Nothing of these files is run: tensors, plain values "
    "and argparse.Namespace are read, names of PyTorch and Lightning are passed over and listed, and any other name "
    "ends the import. Sizes come from the files; no flags are needed for them."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld import`; with a system, its own join them."""

    system: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SYSTEM")]
    """Kind of checkpoint."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the new world."""
    force: bool = False
    """Replace a world that exists there."""


def importers() -> dict[str, type[Importer]]:
    """Return the flags of all kinds of checkpoints, by the word on the command line."""
    return {word: kind for system in all_systems() for word, kind in load_importers(system).items()}


def description() -> str:
    """Return the help text, with a paragraph and the examples of each kind of checkpoint."""
    kinds = importers()
    abouts = "\n\n".join(kind.about for kind in kinds.values())
    examples = "\n".join(f"  reelworld import {line}" for kind in kinds.values() for line in kind.examples)
    head = (__doc__ or "").replace("SYSTEM names the kind of checkpoint.", f"SYSTEM is one of {', '.join(kinds)}.")
    return f"{head}\n{abouts}\n\n{SAFETY}\n\nExamples:\n{examples}"


def options_for(args: Sequence[str]) -> type[Options] | type[Importer]:
    """Return the flags that a command line can have: those of the system it names.

    Raises:
        UserError: If it names none.
    """
    kinds = importers()
    word = next((w for w in args if w in kinds), "")
    if word:
        return kinds[word]
    if args and not args[0].startswith("-"):
        raise unknown("system", args[0], kinds)
    if not {"-h", "--help"} & set(args):
        example = next(iter(kinds))
        raise UserError(f"SYSTEM is missing: give {' or '.join(kinds)}, e.g. reelworld import {example} --help.")
    return Options


def run(options: Importer) -> None:
    """Read, convert, save, and print a description of the world."""
    _check_out(options.out, options.force)
    world = options.read()
    world.save(options.out)
    console = Console()
    console.print(_table(world.info.name, options.rows(world)))
    names = world.info.provenance["names_passed_over"]
    passed_over = [f"names in the files that were neither imported nor called: {', '.join(names)}"] if names else []
    lines = [*passed_over, f"world: {options.out}", "next:", *options.next(world)]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _check_out(out: Path, force: bool) -> None:
    """Refuse a folder that is in use before gigabytes are read."""
    check_folder(out)
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / "world.json").is_file():
        raise UserError(f"{out} exists and is not a world; choose another folder or empty it.")
    if not force:
        raise UserError(f"{out} holds a world already; choose another folder, or replace it with --force.")


def _table(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=Text(title), show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table
