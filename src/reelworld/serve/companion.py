"""The game behind a world, as the page knows it; nothing of a simulator is imported before there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reelworld.serve.playable import Playable
from reelworld.types import UserError
from reelworld.worlds.provenance import game_of

if TYPE_CHECKING:
    from reelworld.serve.beside import BesideWorld

__all__ = ["Companion", "find_companion"]


@dataclass(frozen=True, kw_only=True)
class Companion:
    """A game, and both together or why they cannot be."""

    name: str
    together: BesideWorld | None = None
    problem: str = ""


def find_companion(world: Playable, allow_code: Sequence[str] = ()) -> Companion | None:
    """Look for the game that a world was learned from; the first look takes a moment.

    Args:
        world: What is played.
        allow_code: Modules that the game may come from besides the known packages.

    Returns:
        None when the world does not come from a game, or takes no actions.
    """
    if not world.info.actions:
        return None
    name = world.info.name
    try:
        if (game := game_of(world.info.provenance, allow_code)) is None:
            return None
        from reelworld.serve.beside import BesideWorld

        return Companion(name=game.simulator.env_id, together=BesideWorld(world, game))
    except UserError as error:
        return Companion(name=name, problem=str(error))
