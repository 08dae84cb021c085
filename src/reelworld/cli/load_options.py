"""What the verbs that use a world share: the number of CPU threads, the device, the loading.

A device that is not there, a number of threads that cannot be and a folder that cannot be written are mistakes
of the command line, so they are looked at before anything is read or measured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.worlds.world import World


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before minutes of work are spent on what goes there.

    Raises:
        UserError: If a file is in its way, or the nearest folder that exists is not ours to write.
    """
    folder = folder.absolute()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{nearest} is a file; --out wants a folder there.")
    if not os.access(nearest, os.W_OK):
        raise UserError(f"{nearest} may not be written; give --out another place.")


def set_threads(n: int) -> None:
    """Set the CPU threads of torch; 0 leaves the choice to torch.

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
        UserError: If there is no such device, or the folder holds no world that can be read, or one without pictures.
    """
    from reelworld.worlds.world import World

    if device != "cpu":  # there always is one; the import would delay the start of play
        from reelworld.train.loop import choose_device

        device = str(choose_device(device))
    world = World.load(folder, device=device, allow_code=allow_code)
    if not world.tokenizer.spec(1, world.info.height, world.info.width).has_pictures:
        raise UserError(
            f"{folder} is a world without pictures: its tokenizer ({world.tokenizer.config.name}) is not part of it. "
            "Use its codes from Python: World.generate_codes, World.score_codes."
        )
    return world
