"""List the recipes: what each makes, its sizes, how many parameters they have.

Examples:
  reelworld systems
  reelworld train pocket --help       every setting of one, with its default
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from reelworld.cli.train import find_recipe
from reelworld.systems import SYSTEMS

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """`reelworld systems` has no flags."""


def run(options: Options) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("train", no_wrap=True)
    table.add_column("what it is")
    table.add_column("parameters")
    for name in SYSTEMS:
        module, default = find_recipe(name)
        table.add_row(name, _first_line(module).partition(": ")[2], "", style="bold")
        for size, make in module.SIZES.items():
            about = _first_line(make) + (" (default)" if size == default else "")
            table.add_row(f"  {name}:{size}", about, _parameters(module, make))
    console = Console()
    console.print(table)
    console.print("\nParameters are for 7 actions and frames of 64x64, or of a size's own.", highlight=False)
    console.print("reelworld train RECIPE --help shows every setting.", highlight=False, markup=False)


def _first_line(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "").splitlines()[0]


def _parameters(module: ModuleType, make: Callable[[], Any]) -> str:
    """Count the weights of every part, without making them."""
    import torch

    from reelworld.data.folder import DataInfo
    from reelworld.types import ActionSpec

    actions = {"action": ActionSpec(kind="discrete", n=7)}
    config = make()
    side = config.size or 64
    info = DataInfo(fps=10.0, height=side, width=side, actions=actions)
    with torch.device("meta"):
        parts = module.build(config, info)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in counts.items())
