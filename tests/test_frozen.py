"""Frozen outputs: free runs at fixed seeds draw the codes they drew before the code was last restructured.

Both shipped worlds and a tiny world of each system. ``python tests/test_frozen.py`` writes the file anew: only a change
that is meant to change numbers may do so, and its commit says why.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.conformance.conftest import actions, classes, frames, kinds, untrained

from reelworld.worlds.world import World

FILE = Path(__file__).with_name("frozen.npz")
SHIPPED = ("doorkey", "driving")
NAMES = [*SHIPPED, *("-".join(pair) for pair in kinds() if pair[1] != "streams")]
N_STEPS = 24


def world_of(name: str) -> World:
    if name in SHIPPED:
        return World.load(name)
    system, _, kind = name.partition("-")
    return untrained(system, kind)


def run_of(name: str) -> dict[str, np.ndarray]:
    """Codes of a free run of two streams, and the score of a clip."""
    world = world_of(name)
    session = world.session(2, seed=7)
    if name in SHIPPED:
        session.reset(seed=7)
        n_steps = 2 * N_STEPS
    else:
        session.reset(frames(2, 4), actions(world, 2, 3), class_id=classes(world, 2))
        n_steps = N_STEPS
    steps = actions(world, 2, n_steps, seed=11)
    codes = [session.step({k: v[:, t] for k, v in steps.items()}).info["codes"] for t in range(n_steps)]
    frame = session.frame.astype(np.float64).mean((1, 2, 3))
    return {"codes": np.stack(codes, 1).astype(np.int32), "frame": frame}


@pytest.mark.parametrize("name", NAMES)
def test_free_runs_are_as_they_were(name: str) -> None:
    with np.load(FILE) as stored:
        expected = {k.removeprefix(f"{name}/"): stored[k] for k in stored.files if k.startswith(f"{name}/")}
    run = run_of(name)
    assert np.array_equal(run["codes"], expected["codes"])
    np.testing.assert_allclose(run["frame"], expected["frame"], atol=0.02)


if __name__ == "__main__":
    np.savez_compressed(FILE, **{f"{name}/{k}": v for name in NAMES for k, v in run_of(name).items()})
