"""videogpt: see docs/systems/videogpt.md."""

from __future__ import annotations

from dataclasses import replace

from reelworld.models.system import DemoPlan, System
from reelworld.systems.videogpt.config import ABOUT, PRESETS, TINY, Config

SYSTEM = System(
    name="videogpt",
    summary="a 3D VQ-VAE turns whole clips into codes, an autoregressive transformer learns how likely they are",
    paper="Yan et al. 2021, arXiv:2104.10157",
    config=Config,
    presets=PRESETS,
    about=ABOUT,
    examples=("videogpt --data my-videos --out runs/dreams --size 64 --fit crop",),
    package=__name__,
    importers={"videogpt": "importer:VideoGPT"},
    demo=DemoPlan(
        policy="waypoints",
        episodes=1280,
        test_episodes=0,  # codes of test clips are compared with predictors fitted on training clips of one data set
        config=replace(PRESETS["small"], max_minutes=8.5),
        quick=replace(
            TINY,
            tokenizer=replace(TINY.tokenizer, steps=100),
            dynamics=replace(TINY.dynamics, steps=200),
            max_minutes=0.5,
        ),
        about="Scripted walks, continued each time in another way, evaluated on the recording's test episodes.",
    ),
)
