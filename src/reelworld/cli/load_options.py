"""Options of the verbs that use a world: CPU threads, device, output folder, loading.

Invalid values are reported before anything is read or measured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reelworld.config import to_json
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.worlds.world import World


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be created or written, before any work is done.

    Raises:
        UserError: If a file is in its place, or the nearest existing folder is not writable.
    """
    folder = folder.absolute()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{nearest} is a file; --out wants a folder there.")
    if not os.access(nearest, os.W_OK):
        raise UserError(f"{nearest} may not be written; give --out another place.")


def set_threads(n: int) -> None:
    """Set the CPU threads of torch; 0 keeps torch's choice.

    Raises:
        UserError: If ``n`` is negative.
    """
    import torch

    if n < 0:
        raise UserError(f"--threads is {n}; wanted 1 or more, or 0 for torch's choice.")
    if n:
        torch.set_num_threads(n)


def load_world(folder: Path, device: str, allow_code: Sequence[str]) -> World:
    """Load a world onto ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        UserError: If there is no such device, or no readable world with pixels in the folder.
    """
    from reelworld.worlds.world import World

    if device != "cpu":  # always there; the import would delay the start of `play`
        from reelworld.train.loop import choose_device

        device = str(choose_device(device))
    world = World.load(folder, device=device, allow_code=allow_code)
    if not world.spec.pixels:
        described = [part["config"] for part in to_json(world.info.parts).values()]
        names = [str(config["name"]) for config in described if "name" in config]
        raise UserError(
            f"{folder} is a world without pictures: its tokenizer ({', '.join(names)}) is not part of it. Use its "
            "codes from Python: World.generate_codes, World.score_codes."
        )
    return world
