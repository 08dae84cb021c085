"""pocket: see docs/systems/pocket.md."""

from __future__ import annotations

from dataclasses import replace

from reelworld.models.system import DemoPlan, System
from reelworld.systems.pocket.config import ABOUT, PRESETS, TINY, Config

SYSTEM = System(
    name="pocket",
    summary="a small playable world from your own recordings, on a laptop CPU, in minutes",
    paper="ours",
    config=Config,
    presets=PRESETS,
    about=ABOUT,
    examples=(
        "pocket --data recordings/doors --out runs/doors --max-minutes 5",
        "pocket --data my-videos --out runs/mine --size 64 --fit stretch",
        "pocket:tiny --data recordings/doors --out runs/try --dynamics.steps 100",
    ),
    package=__name__,
    demo=DemoPlan(
        policy="explorer:0.6,solver:0.2,random:0.2",  # random play never opens the door; a solver never wanders
        episodes=400,
        test_episodes=128,
        config=replace(PRESETS["small"], max_minutes=5.0),
        quick=replace(
            TINY,
            tokenizer=replace(TINY.tokenizer, steps=100),
            dynamics=replace(TINY.dynamics, steps=200),
            max_minutes=0.5,
        ),
        about="A world that is played with keys, evaluated on a second recording of fresh seeds.",
    ),
)
