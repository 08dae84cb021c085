"""Every environment of the cases: recorded with the right streams, or refused in one line with its own message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset

pytestmark = pytest.mark.filterwarnings("ignore:.*metadata doesn.t include")
FOLDER = Path(os.environ.get("REELWORLD_CASES", Path(__file__).parents[3] / "shared" / "data" / "cases"))

THREE, PAIR = {"action": ("discrete", 3)}, {"action": ("continuous", 2)}
RECORDED = {
    "Plain": THREE,
    "MultiBinary": {"action": ("buttons", 4)},
    "MultiDiscrete": {"action_0": ("discrete", 3), "action_1": ("discrete", 2)},
    "TupleAct": {"action_0": ("discrete", 3), "action_1": ("continuous", 2)},
    "DictAct": {"camera": ("continuous", 2), "forward": ("discrete", 2)},
    "BoxInf": PAIR,
    "BoxHalf": PAIR,
    "Box2d": {"action": ("continuous", 4)},
    "BoxInt": {"action": ("continuous", 1)},
    "Box0d": {"action": ("continuous", 1)},
    **dict.fromkeys(("Start1", "NonSquare", "Rgba", "FloatRender", "ListRender"), THREE),
    **dict.fromkeys(("NeverEnds", "EndsAtOnce", "PrintsMuch", "OldApi", "NoSeed"), THREE),
}
OBSERVED = ("DictObs", "DictObs2", "ChwObs")
REFUSED = {
    "NoMeta": "record --frames observation",
    "NoRender": "record --frames observation",
    "RenderNone": "wanted an image",
    "GrowingFrame": "",
    "Crashes": "division by zero",
    "CrashLater": "server lost",
    "NoneReward": "None",
}


@pytest.fixture(autouse=True)
def cases(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (FOLDER / "environments.py").is_file():
        pytest.skip(f"{FOLDER / 'environments.py'} is absent: set REELWORLD_CASES to the folder of the cases")
    monkeypatch.syspath_prepend(str(FOLDER))


def record(name: str, out: Path, *flags: str) -> int:
    words = ["--episodes", "3", "--max-steps", "12", "--processes", "1", "--out", str(out), *flags]
    return main(["record", f"environments:{name}-v0", *words])


@pytest.mark.parametrize("name", RECORDED)
def test_environments_are_recorded(name: str, tmp_path: Path) -> None:
    assert record(name, tmp_path / "out") == 0
    dataset = Dataset.open(tmp_path / "out")
    assert {stream: (s.kind, s.n) for stream, s in dataset.info.actions.items()} == RECORDED[name]
    assert len(dataset.episodes) == 3
    for i in range(3):
        clip = dataset.read(i)
        assert all(len(rows) == len(clip.frames) for rows in clip.actions.values())


@pytest.mark.parametrize("name", OBSERVED)
def test_pictures_of_observations_are_recorded(name: str, tmp_path: Path) -> None:
    assert record(name, tmp_path / "out", "--frames", "observation") == 0
    assert Dataset.open(tmp_path / "out").read(0).frames.shape == (13, 64, 64, 3)


@pytest.mark.parametrize("name", REFUSED)
def test_faults_of_environments_are_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record(name, tmp_path / "out") == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and REFUSED[name] in error[0]


def test_rewards_of_nan_leave_their_episode_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record("NanReward", tmp_path / "all") in (0, 2)
    assert "nan" in capsys.readouterr().err.lower()
