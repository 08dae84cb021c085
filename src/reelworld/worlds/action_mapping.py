"""Add a map from real actions to a world of latent actions, and remove it again."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch

from reelworld.models.action_mapping import STREAM, ActionMap
from reelworld.models.mapped_actions import MappedActions
from reelworld.types import UserError
from reelworld.worlds.world import World


def with_real_actions(world: World, action_map: ActionMap) -> World:
    """Make the same world, driven by real actions.

    Initial contexts keep their latent actions, for ``with_latent_actions``, and get the mapped real ones. A session
    that starts from such a context maps them back, like any other action.

    Args:
        world: With latent actions; a map that it has already is replaced.
        action_map: Made for its latent actions.

    Raises:
        UserError: If the map is not one for this world.
    """
    bare = with_latent_actions(world) if world.info.action_map else world
    if bare.model.infer_actions(torch.zeros(1, 2, bare.spec.height, bare.spec.width, 3, device=bare.device)) is None:
        raise UserError("the world has no part that infers latent actions; there is nothing to map.")
    model = MappedActions(bare.model, action_map)
    contexts = [
        replace(clip, actions={**clip.actions, action_map.stream: action_map.real(clip.actions[STREAM])})
        for clip in bare.initial_contexts
    ]
    return World(replace(bare.info, action_map=action_map), model, contexts, bare.parts)


def with_latent_actions(world: World) -> World:
    """Make the world as it was before ``with_real_actions``.

    Raises:
        UserError: If it has no map.
    """
    if world.info.action_map is None:
        raise UserError("this world has no map to real actions; there is nothing to undo.")
    contexts = [replace(clip, actions={STREAM: clip.actions[STREAM]}) for clip in world.initial_contexts]
    return World(replace(world.info, action_map=None), cast(MappedActions, world.model).model, contexts, world.parts)


def no_latent_actions(world: World) -> UserError:
    """Return the error for worlds without latent actions."""
    kind = "takes the actions that were recorded" if world.spec.actions else "runs by itself"
    return UserError(
        f"{world.info.name} has no latent actions to map: it {kind}. Give a world that found its actions in video."
    )
