"""List the systems with their presets and numbers of parameters.

Examples:
  reelworld systems
  reelworld train NAME --help       every field of one's config, with its default
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reelworld.data.resize_options import ReadOptions
from reelworld.models.system import System, SystemConfig
from reelworld.systems import all_systems
from reelworld.types import ActionSpec

INITIALIZERS = {"normal_", "uniform_", "constant_", "kaiming_uniform_", "trunc_normal_", "zeros_", "ones_", "mul_"}
"""Functions that are skipped when parameters are counted: on tensors without memory they take most of the time."""
SIDE = 64
"""Pixels per side where a preset names none."""


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
    for system in all_systems():
        table.add_row(system.name, f"{system.summary} ({system.paper})", "", style="bold")
        for name, config in system.presets.items():
            about = system.about[name] + (" (default)" if name == system.default else "")
            counts = count_parameters(system, config)
            parameters = ", ".join(f"{part} {count / 1e6:,.2f}M" for part, count in counts.items())
            table.add_row(f"  {system.name}:{name}", about, parameters)
    console = Console()
    console.print(table)
    console.print(f"\nParameters are for 7 actions and frames of {SIDE}x{SIDE}, or of a preset's own.", highlight=False)
    console.print("reelworld train SYSTEM --help shows every field.", highlight=False, markup=False)


def count_parameters(system: System, config: SystemConfig) -> dict[str, int]:
    """Count the parameters of every part, without memory for them."""
    import torch
    from torch.overrides import TorchFunctionMode

    from reelworld.data.dataset import DataInfo

    class SkipInit(TorchFunctionMode):
        """Mode in which initializations of weights do nothing."""

        def __torch_function__(
            self,
            func: Callable[..., object],
            types: Sequence[type],
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> object:
            given = kwargs or {}
            return (*args, *given.values())[0] if func.__name__ in INITIALIZERS else func(*args, **given)

    height, width = ReadOptions(size=config.size).shape or (SIDE, SIDE)
    actions = {"action": ActionSpec(kind="discrete", n=7)}
    info = DataInfo(fps=10.0, height=height, width=width, actions=actions)
    with torch.device("meta"), SkipInit():
        model = system.module("model").build(config, info)
    return {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts.items()}
