"""Provenance of a world: the config of its system, and the simulator of its recordings.

A world's file may be untrusted, and a simulator is code. Only simulators of known packages, or of modules that the user
allows, are returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reelworld.config import from_json
from reelworld.data.clip_index import Merge, merge_actions
from reelworld.data.dataset import Dataset
from reelworld.envs.presets import SimulatorConfig
from reelworld.types import Clip, Fit, UserError

KNOWN_PACKAGES = ("gymnasium", "minigrid", "reelworld")
"""Packages whose environments and wrappers may run without being allowed."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """Simulator of a world's recordings, and the conversion of its steps and frames into the world's."""

    simulator: SimulatorConfig
    stride: int = 1
    """Steps of the simulator per step of the world."""
    merge: Merge = "stack"
    """Merging of the actions of these steps."""
    fit: Fit = "none"
    """Treatment of frames of another size."""


def system_config(provenance: Mapping[str, object]) -> Mapping[str, Any]:
    """Return the config of a world's system; empty where the world was not trained here."""
    config = provenance.get("config")
    return config if isinstance(config, Mapping) else {}


def frame_stride(provenance: Mapping[str, object]) -> int:
    """Return the number of recorded frames per frame of the world."""
    return int(system_config(provenance).get("frame_stride", 1))


def merge_of(provenance: Mapping[str, object]) -> Merge:
    """Return the merging of the recorded actions between two frames of the world."""
    merge: Merge = system_config(provenance).get("merge", "stack")
    return merge


def read_as_trained(dataset: Dataset, provenance: Mapping[str, object], episode: int, start: int, stop: int) -> Clip:
    """Read an episode with a world's frame stride and merging of actions.

    Args:
        dataset: Recordings like the training data.
        provenance: The world's.
        episode: Its number.
        start: First frame, counted in recorded frames.
        stop: End, counted in recorded frames.

    Returns:
        Every k-th frame, uint8 (T, H, W, 3), and the actions between them, merged as in ``merge_of``.
    """
    stride, merge = frame_stride(provenance), merge_of(provenance)
    clip = dataset.read(episode, start, stop, stride)
    if stride == 1:
        return clip
    return replace(clip, actions={name: merge_actions(rows, merge) for name, rows in clip.actions.items()})


def game_of(provenance: Mapping[str, object], allow_code: Sequence[str] = ()) -> Game | None:
    """Return the simulator of a world's recordings; None where there was none.

    Args:
        provenance: The world's.
        allow_code: Modules besides the known packages that environments and wrappers may come from.

    Raises:
        UserError: If the description is damaged, or names code that is not allowed.
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
    config = system_config(provenance)
    merge, fit = config.get("merge", "stack"), config.get("fit", "none")
    return Game(simulator=simulator, stride=frame_stride(provenance), merge=merge, fit=fit)
