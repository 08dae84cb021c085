"""genie: see docs/systems/genie.md."""

from __future__ import annotations

from reelworld.models.system import System
from reelworld.systems.genie.config import ABOUT, PRESETS, Config

SYSTEM = System(
    name="genie",
    summary="a playable world, learned from video without a single action label",
    paper="Bruce et al. 2024, arXiv:2402.15391",
    config=Config,
    presets=PRESETS,
    about=ABOUT,
    examples=("genie --data my-videos --out runs/found --size 64 --fit crop",),
    package=__name__,
    evaluation="evaluate",
    importers={"genie-1x": "importer:Genie1X"},
)
