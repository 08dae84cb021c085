"""The estimate before a training covers the stages that are trained, and touches nothing."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_config

from reelworld.data.dataset import DataInfo
from reelworld.models.system import System
from reelworld.systems import all_systems
from reelworld.train.autotune import Probe
from reelworld.train.estimate import describe_duration, estimate_seconds
from reelworld.types import ActionSpec

INFO = DataInfo(
    fps=10.0,
    height=64,
    width=64,
    actions={"keys": ActionSpec(kind="buttons", n=2), "mouse": ActionSpec(kind="continuous", n=2)},
)
LATENT = DataInfo(fps=10.0, height=64, width=64)


def seconds_of(system: System, given: frozenset[str] = frozenset()) -> dict[str, float]:
    config = tiny_config(system.name, precision="fp32")
    latent = getattr(config, "actions", "") == "latent"
    return estimate_seconds(system, config, LATENT if latent else INFO, torch.device("cpu"), given)


@pytest.mark.parametrize("system", all_systems(), ids=lambda system: system.name)
def test_all_stages_of_every_system_are_timed(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def second_per_step(*_: object) -> dict[str, Probe]:
        return {"fp32": Probe(seconds=1.0, activation_bytes=0)}

    monkeypatch.setattr("reelworld.train.estimate.probe", second_per_step)
    before = torch.get_rng_state()
    found = seconds_of(system)
    config = tiny_config(system.name)
    assert {"tokenizer", "dynamics"} <= found.keys()
    assert found["dynamics"] == config.dynamics.steps * config.dynamics.optim.accumulate
    assert torch.equal(before, torch.get_rng_state())
    assert seconds_of(system, frozenset({"tokenizer"})) == {k: v for k, v in found.items() if k != "tokenizer"}


def test_the_estimate_is_one_line() -> None:
    config = tiny_config("pocket")
    line = describe_duration(config, {"tokenizer": 34.0, "dynamics": 349.0})
    assert line.startswith("estimate: about 6 min 23 s in all") and "tokenizer 34 s, dynamics 5 min 49 s" in line
    assert "at most 4 min" in describe_duration(tiny_config("pocket", max_minutes=4.0), {})
