"""Worlds of the preset ``tiny`` of any system, with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reelworld.data.dataset import DataInfo
from reelworld.models.system import SystemConfig
from reelworld.systems import find_system
from reelworld.train.world import untrained
from reelworld.worlds.world import World


def tiny_config(name: str, **changes: Any) -> Any:
    """The preset with some fields changed; ``part__field`` names a field of a nested config."""
    return changed(find_system(name).presets["tiny"], **changes)


def changed(config: Any, **changes: Any) -> Any:
    fields: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        field, _, rest = path.partition("__")
        if rest:
            nested.setdefault(field, {})[rest] = value
        else:
            fields[field] = value
    fields |= {field: changed(getattr(config, field), **more) for field, more in nested.items()}
    return replace(config, **fields)


def tiny_world(name: str, info: DataInfo | None = None, seed: int = 0, **changes: Any) -> World:
    return untrained_world(name, tiny_config(name, **changes), info or DataInfo(height=64, width=64), seed)


def untrained_world(name: str, config: SystemConfig, info: DataInfo, seed: int = 0) -> World:
    """Recordings without actions make a world without them."""
    if not info.actions and getattr(config, "actions", "") == "given":
        config = replace(config, actions="none")  # type: ignore[call-arg]
    return untrained(find_system(name), config, info, seed)
