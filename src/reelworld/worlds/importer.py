"""Base of the flags of ``reelworld import SYSTEM``; each system adds its own in its ``importer`` module. Torch-free."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from reelworld.models.system import System

if TYPE_CHECKING:  # a world needs torch, and the help page does not
    from torch import nn

    from reelworld.worlds.info import WorldInfo
    from reelworld.worlds.world import World


@dataclass(frozen=True, kw_only=True)
class Importer(ABC):
    """Flags of one kind of published checkpoint, and its way to a world."""

    about: ClassVar[str]
    """One paragraph for the help page: which files are read."""
    examples: ClassVar[tuple[str, ...]]
    """Command lines for the help page, after ``reelworld import``."""

    system: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SYSTEM")]
    """Kind of checkpoint."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the new world."""
    force: bool = False
    """Replace a world that exists there."""

    @property
    def converter(self) -> ModuleType:
        """Module ``convert`` of the system, which needs torch."""
        return importlib.import_module(type(self).__module__.rpartition(".")[0] + ".convert")

    @abstractmethod
    def read(self) -> World:
        """Make a world of the files.

        Raises:
            UserError: If a file is damaged, hostile, or does not hold such a model.
        """

    def rows(self, world: World) -> Mapping[str, str]:
        """Describe the imported world, as rows of a table."""
        described: Mapping[str, str] = self.converter.describe(world)
        return described

    @abstractmethod
    def next(self, world: World) -> list[str]:
        """Return commands that suit the world."""


def load_importers(system: System) -> dict[str, type[Importer]]:
    """Import the flags of all kinds of published checkpoints of a system, by their names on the command line."""
    found: dict[str, type[Importer]] = {}
    for word, place in system.importers.items():
        module, _, name = place.partition(":")
        found[word] = getattr(system.module(module), name)
    return found


def describe_file(info: WorldInfo, role: str) -> str:
    """Describe the file of one role (prior, vqvae, dynamics) by its name and hash."""
    file = info.provenance["imported"][role]
    return f"{file['file']} (sha256 {file['sha256'][:12]}...)"


def describe_size(part: nn.Module) -> str:
    """Describe the number of parameters of a part."""
    return f"{sum(p.numel() for p in part.parameters()) / 1e6:.2f}M parameters"
