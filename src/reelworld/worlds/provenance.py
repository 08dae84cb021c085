"""Where a world comes from: what its provenance says of its recipe's config and of the game behind its recordings.

A world's file may come from a stranger, and a game is code: only games of packages that are known, or of modules
that the person allows, are told of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reelworld.config import from_json
from reelworld.data.clip_index import Merge, merge_actions
from reelworld.envs.presets import SimulatorConfig
from reelworld.types import Clip, Fit, UserError

if TYPE_CHECKING:
    from reelworld.data.dataset import Dataset

__all__ = ["Game", "frame_stride", "game_of", "merge_of", "read_as_trained", "recipe_config"]

KNOWN_PACKAGES = ("gymnasium", "minigrid", "reelworld")
"""Whose wrappers run without being asked for."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """The game that a world was learned from, and how its steps and pictures became the world's."""

    simulator: SimulatorConfig
    stride: int = 1
    """Steps of the simulator per step of the world."""
    merge: Merge = "stack"
    """What the actions of these steps became."""
    fit: Fit = "none"
    """What was done to frames of another size."""


def recipe_config(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recipe's config that a world remembers; empty for worlds made otherwise."""
    config = provenance.get("config")
    return config if isinstance(config, Mapping) else {}


def frame_stride(provenance: Mapping[str, Any]) -> int:
    """Return how many recorded frames lie from one frame of the world to the next."""
    return int(recipe_config(provenance).get("frame_stride", 1))


def merge_of(provenance: Mapping[str, Any]) -> Merge:
    """Return what became of the recorded actions between two frames of the world."""
    merge: Merge = recipe_config(provenance).get("merge", "stack")
    return merge


def read_as_trained(dataset: Dataset, provenance: Mapping[str, Any], episode: int, start: int, stop: int) -> Clip:
    """Read an episode with a world's frame stride and form of actions.

    Args:
        dataset: Recordings like those that the world learned from.
        provenance: The world's.
        episode: Its number.
        start: First frame, counted in recorded frames.
        stop: Where to end, counted so too.

    Returns:
        Every k-th frame, uint8 (T, H, W, 3), and the actions between them as ``merge_of`` says.
    """
    stride, merge = frame_stride(provenance), merge_of(provenance)
    clip = dataset.read(episode, start, stop, stride)
    if stride == 1:
        return clip
    return replace(clip, actions={name: merge_actions(rows, merge) for name, rows in clip.actions.items()})


def game_of(provenance: Mapping[str, Any], allow_code: Sequence[str] = ()) -> Game | None:
    """Find the game behind a world; None when its recordings do not come from a simulator.

    Args:
        provenance: What the world's file says.
        allow_code: Modules besides the known packages that environments and wrappers may come from.

    Raises:
        UserError: If the description is broken, or names code that was not allowed.
    """
    data = provenance.get("data")
    described = data.get("simulator") if isinstance(data, Mapping) else None
    if not isinstance(described, Mapping):
        return None
    simulator = from_json(SimulatorConfig, described, "simulator")
    paths = [wrapper.path for wrapper in simulator.wrappers] + [simulator.env_id] * (":" in simulator.env_id)
    for module in (path.partition(":")[0] for path in paths):
        if module.partition(".")[0] not in KNOWN_PACKAGES and module not in allow_code:
            raise UserError(
                f"the game {simulator.env_id} runs code of the module {module!r}; if you trust it, "
                f"add --allow-code {module}."
            )
    config = recipe_config(provenance)
    merge, fit = config.get("merge", "stack"), config.get("fit", "none")
    return Game(simulator=simulator, stride=frame_stride(provenance), merge=merge, fit=fit)
