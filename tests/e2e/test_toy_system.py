"""The worked example of docs/adding-a-system.md: three files and one table entry make a whole system."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.conformance import test_sessions as sessions
from tests.conformance import test_systems as conformance
from tests.conformance.conftest import untrained
from tests.serve.client import Client
from tests.serve.squares import running

from reelworld.cli.main import main
from reelworld.systems import SYSTEMS, find_system
from reelworld.worlds.world import World

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-system.md"
SIDE = 16


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system, written out of the page and entered in the table."""
    blocks = dict(re.findall(r"^`(toy/\w+\.py)`:\n\n```python\n(.*?)^```", PAGE.read_text(), re.M | re.S))
    assert sorted(blocks) == ["toy/__init__.py", "toy/model.py", "toy/train.py"]
    for name, code in blocks.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setitem(SYSTEMS, "toy", "toy")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Grey pictures that action 1 makes lighter and action 0 darker."""
    folder, rng = tmp_path / "recordings", np.random.default_rng(0)
    folder.mkdir()
    for number in range(12):
        actions = rng.integers(0, 2, 12)
        levels = 128 + 4 * np.concatenate([[0], np.cumsum(2 * actions[:-1] - 1)])
        frames = np.broadcast_to(levels[:, None, None, None], (12, SIDE, SIDE, 3)).astype(np.uint8)
        np.savez(folder / f"{number}.npz", frames=frames, actions=actions)
    return folder


def test_it_trains_saves_loads_and_plays(
    toy: None, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["--data", str(recordings), "--out", str(out), "--dynamics.steps", "300", "--precision", "fp32"]
    assert main(["train", "toy:tiny", *words]) == 0
    assert main(["train", "toy:tinny", *words]) == 2
    assert "did you mean 'tiny'?" in capsys.readouterr().err
    world = World.load(out / "world")
    assert world.info.system == "toy" and world.initial_contexts and world.info.statistics["val_square"] < 1e-3
    session = world.session(2, seed=0)
    before = session.reset(np.full((2, 1, SIDE, SIDE, 3), 128, np.uint8)).frame.astype(int)
    after = session.step({next(iter(world.spec.actions)): np.array([0, 1])}).frame.astype(int)
    assert (after[0] < before[0]).all() and (after[1] > before[1]).all()  # each stream follows its own action

    with running(world) as address, Client(address) as client:
        client.message()
        client.send(type="act", id=1, actions={next(iter(world.spec.actions)): 1})
        assert client.message()["input"] == 1

    words = ["--data", str(recordings), "--clips", "2", "--single-steps", "10", "--free-run-steps", "4"]
    words += ["--control-starts", "2", "--inverse-steps", "2", "--stability-steps", "0"]
    assert main(["eval", str(out), *words, "--out", str(out)]) == 0
    assert (out / "report.html").stat().st_size > 1000
    assert main(["generate", str(out), "--frames", "3", "--out", str(tmp_path / "clip.npz")]) == 0
    assert main(["systems"]) == 0 and "toy:small" in capsys.readouterr().out


def test_it_keeps_the_promises_of_every_system(toy: None, tmp_path: Path) -> None:
    conformance.test_presets_survive_json(find_system("toy"))
    conformance.test_every_field_has_help(find_system("toy"))
    world = untrained("toy", "discrete")
    for test in (
        sessions.test_context_comes_back_as_given,
        sessions.test_context_is_context,
        sessions.test_a_batch_equals_its_streams_alone,
        sessions.test_sessions_that_step_together_play_as_if_alone,
        sessions.test_streams_that_begin_anew_leave_the_others_alone,
        sessions.test_snapshots_replay_exactly,
        sessions.test_forks_go_on_from_the_same_past,
        sessions.test_sessions_begin_with_start_clips,
        sessions.test_a_seed_decides_everything,
    ):  # all but those of codes and of samples, which this model does not have
        test(world)
    for number, saved in enumerate(
        (
            conformance.test_save_then_load_is_the_identity,
            conformance.test_a_loaded_world_plays_the_same,
            conformance.test_world_folders_hold_no_pickles,
        )
    ):
        (tmp_path / str(number)).mkdir()
        saved(world, tmp_path / str(number))
