"""ivideogpt: see docs/systems/ivideogpt.md."""

from __future__ import annotations

from reelworld.models.system import System
from reelworld.systems.ivideogpt.config import ABOUT, PRESETS, Config

SYSTEM = System(
    name="ivideogpt",
    summary="a world for robots: actions in, frames and rewards out, one step at a time",
    paper="Wu et al. 2024, arXiv:2405.15223",
    config=Config,
    presets=PRESETS,
    about=ABOUT,
    examples=(
        "ivideogpt --data robot-episodes --out runs/robot --size 64 --fit stretch --rewards",
        "ivideogpt:small_32 --data robot-episodes --out runs/quick --frame-stride 2 --rewards",
        "ivideogpt --data A=0.7 --data B=0.3 --out runs/both --size 64 --fit stretch --actions none",
    ),
    package=__name__,
    importers={"ivideogpt": "importer:IVideoGPT"},
    multi_dataset=True,
)
