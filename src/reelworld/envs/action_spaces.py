"""Action spaces of gymnasium as named action streams, and actions of the streams as members of the space.

Discrete is a stream of ids, Box (of any shape) one of vectors, MultiBinary one of buttons. MultiDiscrete, Tuple and
Dict are several streams side by side: ``action_0``, ``action_1``, ..., or the keys of the Dict.

Shapes: A width of a stream's vector
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from reelworld.envs.old_api import say_once
from reelworld.types import ActionSpec, UserError

NAME = "action"
"""Name of the stream of a space that has one."""


def stream_specs(space: gym.Space[Any], env_id: str) -> dict[str, ActionSpec]:
    """Describe the streams of an action space.

    Args:
        space: Of the environment.
        env_id: Its name, for the error.

    Raises:
        UserError: If a part of the space is none of the above, or two streams have one name.
    """
    specs: dict[str, ActionSpec] = {}
    for name, part in leaves(space):
        if name in specs:
            raise UserError(f"{env_id} has two action streams of the name {name!r}; rename them with a --wrapper.")
        specs[name] = _leaf_spec(part, env_id, space)
    return specs


def leaves(space: gym.Space[Any], name: str = "") -> Iterator[tuple[str, gym.Space[Any]]]:
    """List the simple spaces within a space, with the names of their streams."""
    if isinstance(space, gym.spaces.Dict):
        for key, part in space.spaces.items():
            yield from leaves(part, f"{name}_{key}" if name else str(key))
    elif isinstance(space, gym.spaces.Tuple):
        for i, part in enumerate(space.spaces):
            yield from leaves(part, f"{name or NAME}_{i}")
    elif isinstance(space, gym.spaces.MultiDiscrete):
        starts = np.ravel(space.start)
        for i, (n, start) in enumerate(zip(np.ravel(space.nvec), starts, strict=True)):
            yield f"{name or NAME}_{i}", gym.spaces.Discrete(int(n), start=int(start))
    else:
        yield name or NAME, space


def _leaf_spec(space: gym.Space[Any], env_id: str, whole: gym.Space[Any]) -> ActionSpec:
    if isinstance(space, gym.spaces.Discrete):
        return ActionSpec(kind="discrete", n=int(space.n))
    if isinstance(space, gym.spaces.MultiBinary):
        return ActionSpec(kind="buttons", n=int(np.prod(space.shape)), names=_indices(space.shape))
    if isinstance(space, gym.spaces.Box) and np.prod(space.shape) >= 1:
        low, high = np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64)
        finite = np.isfinite([low, high])
        is_bounded = bool(finite.all())
        if finite.any() and not is_bounded:
            say_once(f"{env_id} bounds only some numbers of its actions ({space}); no bounds are kept.")
        return ActionSpec(
            kind="continuous",
            n=low.size,
            names=_indices(space.shape),
            low=tuple(low.tolist()) if is_bounded else (),
            high=tuple(high.tolist()) if is_bounded else (),
        )
    within = "" if space is whole else f", a part of {whole}"
    raise UserError(
        f"{env_id} has the action space {space}{within}; Discrete, Box, MultiBinary, MultiDiscrete, and Tuple and Dict "
        "of these can be recorded: wrap it with --wrapper module:Class."
    )


def _indices(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Name the numbers of arrays of several dimensions by their indices; others have no names."""
    return tuple(",".join(map(str, index)) for index in np.ndindex(*shape)) if len(shape) > 1 else ()


def member(space: gym.Space[Any], actions: Mapping[str, Any], env_id: str, name: str = "") -> Any:
    """Build the member of a space from the actions of its streams.

    Args:
        space: Of the environment.
        actions: Stream name -> id from 0 on, or vector (A,).
        env_id: Its name, for errors.
        name: Name of this part of the space.

    Raises:
        UserError: If an action is not one of its stream.
    """
    if isinstance(space, gym.spaces.Dict):
        return {k: member(p, actions, env_id, f"{name}_{k}" if name else str(k)) for k, p in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(member(p, actions, env_id, f"{name or NAME}_{i}") for i, p in enumerate(space.spaces))
    if isinstance(space, gym.spaces.MultiDiscrete):
        ids = [_leaf_member(part, actions[stream], env_id) for stream, part in leaves(space, name)]
        return np.array(ids, space.dtype).reshape(space.shape)
    return _leaf_member(space, actions[name or NAME], env_id)


def split(space: gym.Space[Any], action: Any, name: str = "") -> dict[str, int | tuple[float, ...]]:
    """Return the actions of the streams in a member of a space; the inverse of ``member``.

    Args:
        space: Of the environment.
        action: A member of it.
        name: Name of this part of the space.

    Returns:
        Stream name -> id from 0 on, or vector as a tuple.
    """
    found: dict[str, int | tuple[float, ...]] = {}
    if isinstance(space, gym.spaces.Dict):
        for key, part in space.spaces.items():
            found |= split(part, action[key], f"{name}_{key}" if name else str(key))
        return found
    if isinstance(space, gym.spaces.Tuple):
        for i, part in enumerate(space.spaces):
            found |= split(part, action[i], f"{name or NAME}_{i}")
        return found
    if isinstance(space, gym.spaces.MultiDiscrete):
        ids = np.ravel(np.asarray(action) - space.start).tolist()
        return {f"{name or NAME}_{i}": int(value) for i, value in enumerate(ids)}
    if isinstance(space, gym.spaces.Discrete):
        return {name or NAME: int(action) - int(space.start)}
    return {name or NAME: tuple(np.ravel(action).astype(np.float64).tolist())}


def _leaf_member(space: gym.Space[Any], action: Any, env_id: str) -> Any:
    if isinstance(space, gym.spaces.Discrete):
        if np.ndim(action) or int(action) != action or not 0 <= int(action) < space.n:
            raise UserError(f"action {action} came; {env_id} takes 0 to {space.n - 1}.")
        return space.start + np.int64(action)
    assert space.shape is not None
    n = int(np.prod(space.shape))
    vector = np.asarray(action, np.float64)
    if vector.shape != (n,) or not np.isfinite(vector).all():
        raise UserError(f"action {action} came; {env_id} takes {n} finite numbers.")
    if isinstance(space, gym.spaces.MultiBinary) and not np.isin(vector, (0, 1)).all():
        raise UserError(f"action {action} came; {env_id} takes {n} buttons, each 0 (up) or 1 (held).")
    if np.issubdtype(space.dtype, np.integer):
        vector = np.rint(vector)
    return vector.astype(space.dtype).reshape(space.shape)
