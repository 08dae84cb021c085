"""Contents of world.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reelworld.models.action_mapping import ActionMap
from reelworld.models.samplers import SamplerConfig
from reelworld.types import ActionSpec, ModelSpec
from reelworld.worlds.card_metrics import Measured
from reelworld.worlds.registry import PartInfo

FORMAT_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class WorldInfo:
    """Contents of world.json: description of a world, its parts and its origin."""

    name: str
    """Short display name."""
    system: str
    """System it was made with, or a module outside reelworld that has one."""
    spec: ModelSpec
    """Of the model, without an action map."""
    action_map: ActionMap | None = None
    """Map from real actions to the latent ones of the model; None where actions are the model's own."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Default sampling settings."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split -> source ids of the training data's episodes."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """Metrics on the validation split at the end of training."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, command, versions, seeds, hardware, time."""
    known_limitations: tuple[str, ...] = ()
    """Known failures, one sentence each."""
    metrics: Measured | None = None
    """Held-out evaluation, tied to the weights it was measured on."""
    parts: Mapping[str, PartInfo] = field(default_factory=dict)
    """Part name -> its type, config, file and hash; filled in on saving."""
    format_version: int = FORMAT_VERSION

    @property
    def actions(self) -> Mapping[str, ActionSpec]:
        """Action streams that a session takes."""
        return self.spec.actions if self.action_map is None else {self.action_map.stream: self.action_map.spec}
