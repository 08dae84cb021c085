"""Write a copy of a world to share: half the bytes, your name, decoding settings and known limitations.

Metrics of the old weights are left out, because they do not hold to the last digit for rounded ones. Evaluate the copy
with `reelworld eval COPY --data ... --card`.

Examples:
  reelworld pack runs/doors --out doors
  reelworld pack runs/cars --out cars --name "Driving" --passes 4 --known-limitations "Bends may fork."
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from reelworld.cli.load_options import check_folder, load_world
from reelworld.types import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld pack``."""

    world: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WORLD")]
    """Folder of a world, or of the run that made it."""
    out: Path
    """Folder of the copy."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Type of the stored weights; they are used as fp32 either way."""
    name: str = ""
    """Name of the copy. Default: the world's."""
    passes: int | None = None
    """Decoding passes per frame. Default: the world's."""
    temperature: float | None = None
    """Temperature of decoding; 0 takes the likeliest codes. Default: the world's."""
    known_limitations: tuple[str, ...] = ()
    """Known failures for the card, one sentence each. Default: the world's."""


def run(options: Options) -> None:
    """Write the copy."""
    import torch

    from reelworld.worlds.locate import world_folder

    check_folder(options.out)
    if options.out.resolve() == world_folder(options.world).resolve():
        raise UserError(f"--out {options.out} is the world itself; give the copy a folder of its own.")
    world = load_world(options.world, "cpu", ())
    info, sampler = world.info, world.info.sampler
    if options.passes is not None:
        sampler = replace(sampler, steps=options.passes)
    if options.temperature is not None:
        sampler = replace(sampler, temperature=options.temperature)
    limitations = options.known_limitations or info.known_limitations
    name = options.name or info.name
    world.info = replace(info, name=name, sampler=sampler, known_limitations=limitations, metrics=None)
    world.save(options.out, {"bf16": torch.bfloat16, "fp32": None}[options.precision])
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {size / 1e6:.1f} MB")
