"""Recordings equal the kept ones bit for bit: frames, actions, rewards of every policy in its environments.

Kept in golden_recordings.json with the versions of the packages that simulate and draw; with others the test is
skipped. After an intended change: ``python tests/envs/test_golden_recordings.py``, with the reason in the commit.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path

import pytest

from reelworld.envs.recorder import describe_simulator, record_config, record_episode
from reelworld.envs.robots import prepare_mujoco
from reelworld.envs.simulator import Simulator
from reelworld.types import UserError

KEPT = Path(__file__).with_name("golden_recordings.json")
DOORKEY = "MiniGrid-DoorKey-8x8-v0"
CASES = {  # environment, policy, settings
    **{f"doorkey {p}": (DOORKEY, p, {}) for p in ("random", "explorer", "carrier", "solver", "glancer", "waypoints")},
    "doorkey library's drawing": (DOORKEY, "explorer", {"drawing": "environment"}),
    "fetch glancer": ("MiniGrid-Fetch-8x8-N3-v0", "glancer", {}),
    "keys explorer": ("MiniGrid-KeyCorridorS3R1-v0", "explorer", {}),
    "car driver": ("CarRacing-v3", "driver", {}),
    "car random": ("CarRacing-v3", "random", {"wrappers": ()}),
    "car five actions": ("CarRacing-v3", "driver", {"env_kwargs": {"continuous": False}, "wrappers": ()}),
    "car stock drawing": ("CarRacing-v3", "driver", {"drawing": "environment", "warmup_steps": 4}),
    "pendulum random": ("Pendulum-v1", "random", {"size": (32, 24), "resize": "nearest", "action_repeat": 2}),
    "cart and pole balancer": ("dm_control/cartpole-swingup", "balancer", {}),
    "arm reacher": ("dm_control/reacher-easy", "reacher", {}),
    "cheetah smooth": ("dm_control/cheetah-run", "smooth", {}),
    "gymnasium's arm reacher": ("Reacher-v5", "reacher", {}),
    "gymnasium's pendulum balancer": ("InvertedPendulum-v5", "balancer", {}),
}


def measured(name: str) -> dict[str, object]:
    env_id, policy, settings = CASES[name]
    config = record_config(env_id, policy=policy, max_steps=45, seed=11, **settings)
    digest = hashlib.sha256()
    with closing(Simulator(config.simulator)) as simulator:
        versions = describe_simulator(simulator, 0).provenance["versions"]
        for index in range(2):
            clip = record_episode(simulator, config, index)
            for array in (clip.frames, clip.action, clip.rewards, clip.terminated, clip.truncated):
                digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return {"sha256": digest.hexdigest(), "versions": versions}


SLOW = ("car stock drawing",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES])
def test_recordings_are_the_kept_ones(name: str) -> None:
    if any(prefix in CASES[name][0] for prefix in ("dm_control", "Reacher", "InvertedPendulum")):
        try:
            prepare_mujoco()
        except UserError as error:
            pytest.skip(str(error))
    kept, actual = json.loads(KEPT.read_text())[name], measured(name)
    if kept["versions"] != actual["versions"]:
        pytest.skip("the packages have other versions than the kept recording")
    assert actual["sha256"] == kept["sha256"]


if __name__ == "__main__":
    KEPT.write_text(json.dumps({name: measured(name) for name in CASES}, indent=2) + "\n")
