"""The worlds that come with the package: small, whole, measured, and played without a simulator."""

from __future__ import annotations

import sys
import tomllib
from contextlib import closing
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from reelworld.worlds.locate import SHIPPED, shipped_folder
from reelworld.worlds.provenance import game_of
from reelworld.worlds.world import World

LARGEST = 8_000_000
ROOT = Path(__file__).parents[2]


def test_the_table_names_what_is_there():
    folder = Path(str(resources.files("reelworld"))) / "shipped"
    assert sorted(SHIPPED) == sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert len(SHIPPED) >= 2
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "shipped/*/*" in settings["tool"]["setuptools"]["package-data"]["reelworld"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_world_is_small_measured_and_of_one_command(name):
    folder = shipped_folder(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST
    info = World.load(name).info
    assert info.metrics is not None and len(info.metrics.figures) >= 10
    assert info.metrics.seed == 0 and "held out" in info.metrics.data
    assert info.known_limitations
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(text in card for text in ("## Measured", "## Known failures", "preview.gif", *info.known_limitations))
    script = (ROOT / "worlds" / f"{name}.sh").read_text(encoding="utf-8")
    assert f"src/reelworld/shipped/{name}" in script and all(limit in script for limit in info.known_limitations)


@pytest.mark.parametrize("name", SHIPPED)
def test_it_plays_by_its_keys_and_moves(name):
    before = {module.partition(".")[0] for module in sys.modules}
    world = World.load(name)
    ((stream, spec),) = world.info.actions.items()
    assert spec.keys
    session = world.session(1, seed=0)
    frames = [session.reset().frame[0]]
    rng = np.random.default_rng(0)
    for _ in range(40):
        frames.append(session.step({stream: rng.integers(spec.n, size=1)}).frame[0])
    moved = sum(bool((a != b).any()) for a, b in pairwise(frames))
    assert moved >= 10
    new = {module.partition(".")[0] for module in sys.modules} - before
    assert not new & {"minigrid", "Box2D", "pygame"}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_simulator_of_its_recordings_has_its_size_and_actions(name):
    for package in ("minigrid", "Box2D", "pygame"):
        pytest.importorskip(package, reason="simulators need the extra 'envs'")
    from reelworld.envs.simulator import Simulator

    world = World.load(name)
    game = game_of(world.info.provenance)
    with closing(Simulator(game.simulator)) as simulator:
        assert simulator.reset(0).shape == (world.spec.height, world.spec.width, 3)
        assert simulator.action_spec == world.spec.actions["action"]
