"""Give a world of latent actions real ones, and take them away again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reelworld.models.action_mapping import ActionMap
from reelworld.models.latent_action import STREAM
from reelworld.types import Clip, UserError
from reelworld.worlds.validate import check_parts
from reelworld.worlds.world import World, WorldInfo

__all__ = ["with_latent_actions", "with_real_actions"]


def with_real_actions(world: World, action_map: ActionMap) -> World:
    """Make the same world, driven by real actions.

    Start clips keep their latent actions, for ``with_latent_actions``, and get the real ones that these stand for:
    a session that begins with one is told of them through the map, like of any other action.

    Args:
        world: With latent actions; a map that it has already is replaced.
        action_map: Made for its latent actions.

    Raises:
        UserError: If the map is not one for this world.
    """
    bare = with_latent_actions(world) if world.info.action_map else world
    info = replace(bare.info, actions={action_map.stream: action_map.spec}, action_map=action_map)
    steered = _with(bare, info, bare.starts)
    check_parts(steered, "the mapped world")
    steered.starts = [
        replace(clip, actions={**clip.actions, action_map.stream: action_map.real(clip.actions[STREAM])})
        for clip in bare.starts
    ]
    return steered


def with_latent_actions(world: World) -> World:
    """Make the world as it was before ``with_real_actions``.

    Raises:
        UserError: If it has no map.
    """
    if world.info.action_map is None:
        raise UserError("this world has no map to real actions; there is nothing to undo.")
    starts = [replace(clip, actions={STREAM: clip.actions[STREAM]}) for clip in world.starts]
    return _with(world, replace(world.info, actions=dict(world.dynamics.config.actions), action_map=None), starts)


def _with(world: World, info: WorldInfo, starts: Sequence[Clip]) -> World:
    """Share the parts."""
    return World(info, world.tokenizer, world.dynamics, starts, latent_actions=world.latent_actions)
