"""Record of a system and base class of its config: its interface to the rest of reelworld. Torch-free.

A system is a package with ``SYSTEM = System(...)`` in its ``__init__``, which must not import torch, and the modules
``model`` and ``train``, which are imported when they are needed. See docs/adding-a-system.md.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import ModuleType
from typing import Any, Literal

from reelworld.config import require, unknown
from reelworld.types import Fit


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """Fields that every system's config has; each system adds its own."""

    seed: int = 0
    """Decides every random draw."""
    size: int | tuple[int, int] | None = None
    """Pixels that frames are resized to: one number for squares, or height and width; none keeps the recording's."""
    fit: Fit = "none"
    """Resizing of frames of another shape to that size: crop the centre, stretch, or pad with black."""
    max_minutes: float | None = None
    """Wall-clock budget of the whole training; schedules anneal to it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 autocast, fp32, or auto: the faster one in a short timing on this machine."""

    def __post_init__(self) -> None:
        # Checked early: otherwise an error would appear only after the previous stage.
        require(self, "seed", lambda v: v >= 0, "at least 0")
        require(self, "max_minutes", lambda v: v is None or 0 < v < math.inf, "above 0")

    @property
    def uses_actions(self) -> bool:
        """True if the recorded actions are read."""
        return True

    @property
    def action_merge(self) -> Literal["stack", "last", "sum"]:
        """Treatment of the recorded actions between two kept frames."""
        return "stack"


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """Recordings and training of ``reelworld demo``."""

    policy: str
    """Policy that plays the recorded episodes."""
    episodes: int
    """Episodes of the recording."""
    test_episodes: int
    """Episodes of a separate test recording; 0 evaluates on the recording's test split."""
    config: SystemConfig
    """Config of the training, ``max_minutes`` included."""
    quick: SystemConfig
    """Config of ``--quick``: a smoke test of the whole pipeline, not a good model."""
    about: str
    """Content of the recording and the task, one sentence."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One published system, or one of our own."""

    name: str
    """Name on the command line and in world.json."""
    summary: str
    """Subject of the model, one line."""
    paper: str
    """Its source, e.g. "Yan et al. 2021, arXiv:2104.10157"; "ours" if there is no paper."""
    config: type[SystemConfig]
    """Class of its configs."""
    presets: Mapping[str, SystemConfig]
    """Name -> config: ``tiny`` for tests, one for a CPU, one per published size."""
    about: Mapping[str, str]
    """Preset -> one line for ``reelworld systems``."""
    default: str = "small"
    """Preset that is used unless another one is named."""
    examples: tuple[str, ...]
    """Command lines for the help page, after ``reelworld train``; the first is the plain one."""
    package: str
    """Package of its modules: ``__name__`` of the package that defines the record."""
    importers: Mapping[str, str] = field(default_factory=dict)
    """Name for ``reelworld import`` -> ``module:class`` in the package: a ``worlds.importer.Importer``, torch-free."""
    demo: DemoPlan | None = None
    """Set if ``reelworld demo`` can show it."""
    multi_dataset: bool = False
    """True if it can be trained on a mixture of data sets."""
    evaluation: str = ""
    """Module of the package with ``SECTIONS`` that only this system's worlds have; empty if it has none."""

    def __post_init__(self) -> None:
        if self.presets.keys() != self.about.keys() or self.default not in self.presets:
            raise ValueError(f"system {self.name!r}: each preset needs one line in about; the default is one of them.")

    def module(self, name: str) -> ModuleType:
        """Import a module of the package, e.g. "model"."""
        return importlib.import_module(f"{self.package}.{name}")

    def preset(self, name: str = "") -> SystemConfig:
        """Return a preset, the default one without a name.

        Raises:
            UserError: If there is none of this name; names the closest.
        """
        if (name or self.default) not in self.presets:
            raise unknown(f"preset of {self.name}", name, self.presets)
        return self.presets[name or self.default]

    def sections(self) -> Sequence[Any]:
        """Import the system's own sections of an evaluation."""
        return self.module(self.evaluation).SECTIONS if self.evaluation else ()

    def published(self) -> Sequence[Mapping[str, object]]:
        """Read the tables of published numbers, ``published.json`` of the package; empty if it has none."""
        file = resources.files(self.package) / "published.json"
        return json.loads(file.read_text(encoding="utf-8"))["tables"] if file.is_file() else ()
