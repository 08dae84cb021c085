"""Training data of iVideoGPT: mixtures, augmented clips, and early refusals."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conformance.conftest import frames, untrained

from reelworld.cli.main import main
from reelworld.data.dataset import DataInfo, write_episode, write_info
from reelworld.data.loader import Loader
from reelworld.evaluate.protocol import open_for
from reelworld.types import ActionSpec, Clip
from reelworld.worlds.world import World

TINY = [
    "--clip-frames",
    "5",
    "--tokenizer.sampled-frames",
    "4",
    "--tokenizer.steps",
    "3",
    "--dynamics.steps",
    "4",
    "--size",
    "32",
]
TINY += ["--size", "32", "--fit", "stretch", "--precision", "fp32", "--log-every", "1"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three data sets of other sizes and other actions."""
    monkeypatch.setenv("REELWORLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "reelworld.worlds.world.write_card", lambda folder, info, film: None
    )  # longer than the training
    rows = {"arm": np.zeros((20, 4), np.float32), "keys": np.arange(20) % 3}
    for number, name in enumerate(("arm", "keys", "film")):
        (tmp_path / name).mkdir()
        for i in range(4):
            pictures = frames(1, 20, seed=10 * number + i)[0][:, :: 1 + number % 2]
            more = {"action": rows[name] + (i if name == "arm" else 0)} if name in rows else {}
            np.savez(tmp_path / name / f"{name}{i}.npz", image=pictures, **more)
    return tmp_path


def train(folders: Path, out: str, *words: str) -> int:
    return main(["train", "ivideogpt:tiny", "--out", str(folders / out), *TINY, *words])


def weights(run: Path) -> list[bytes]:
    return [p.read_bytes() for p in sorted((run / "world").glob("*.safetensors"))]


@pytest.mark.slow
def test_a_stopped_training_on_a_mixture_goes_on_bit_for_bit(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With shares, a stride of its own and changed clips."""
    monkeypatch.chdir(folders)
    members = '[{"data": "arm", "weight": 3}, {"data": "film", "weight": 1, "frame_stride": 3}]'
    Path("mixture.json").write_text(f'{{"members": {members}}}')
    words = ["--data", "mixture.json", "--actions", "none", "--crop-area", "0.7", "--colour-jitter", "0.2"]
    assert train(folders, "straight", *words) == 0
    said = capsys.readouterr().out
    assert " 75.0% from arm: " in said and " 25.0% from film: " in said and "one of 3 kept" in said

    draw, drawn = Loader.arrays, []

    def stopping(loader: Loader, number: int) -> Any:
        drawn.append(number)
        if len(drawn) in (2, 6):
            os.kill(os.getpid(), signal.SIGINT)
        return draw(loader, number)

    monkeypatch.setattr(Loader, "arrays", stopping)
    codes = []
    while not (folders / "stopped" / "world" / "world.json").exists() and len(codes) < 5:
        try:
            codes.append(train(folders, "stopped", *words))
        except SystemExit as stopped:
            codes.append(stopped.code)
    assert codes == [130, 130, 0]
    assert weights(folders / "stopped") == weights(folders / "straight") != []
    assert train(folders, "stopped", *words, "--crop-area", "0.8") == 2
    assert "fields.crop_area was 0.7, now 0.8" in capsys.readouterr().err
    Path("mixture.json").write_text(f'{{"members": {members.replace("3", "4", 1)}}}')
    assert train(folders, "stopped", *words) == 2
    assert "holds a run with another config: data was" in capsys.readouterr().err


def test_a_world_of_a_mixture_is_asked_about_a_member_at_that_members_stride(folders: Path) -> None:
    words = ["--data", f"{folders / 'arm'}=2", "--data", f"{folders / 'film'}=1", "--actions", "none"]
    assert train(folders, "run", *words) == 0
    world = World.load(folders / "run")
    assert set(world.info.provenance["data"]) == {"mixture", "members", "fit"} and not world.info.actions
    assert all(str(folders) not in str(m) for m in world.info.provenance["data"]["mixture"])
    assert len(world.info.splits["train"]) == len(set(world.info.splits["train"])) >= 4
    assert open_for(world, folders / "film").episodes[0].n_frames == 20
    world.info.provenance["data"]["mixture"][1]["frame_stride"] = 4
    assert open_for(world, folders / "film").episodes[0].n_frames == 5
    assert open_for(world, folders / "arm").episodes[0].n_frames == 20


@pytest.mark.parametrize(
    ("data", "more", "said"),
    [
        ([], [], "give recordings: reelworld train ivideogpt:tiny --data FOLDER"),
        (["arm", "keys"], [], "different actions"),
        (["arm", "film=2"], ["--actions", "none"], "has no weight and other members have one"),
        (["arm", "nowhere"], ["--actions", "none"], "nowhere does not exist"),
        (["arm", "film"], ["--actions", "none", "--clip-frames", "30"], "every train episode is shorter than the 30"),
        (["arm", "film"], ["--actions", "none", "--rewards"], "has no rewards to learn from"),
        (["arm"], ["--crop-area", "0"], "crop_area is 0.0; it must be above 0"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    folders: Path, data: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for name in data for word in ("--data", str(folders / name))]
    assert train(folders, "run", *words, *more) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("error: ") and said in err
    assert not (folders / "run").exists()


def test_a_short_member_is_refused_by_name(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folders / "film").iterdir():
        np.savez(path, image=frames(1, 4, seed=int(path.stem[-1]))[0])
    words = [word for name in ("arm", "film") for word in ("--data", str(folders / name))]
    assert train(folders, "run", *words, "--actions", "none") == 2
    assert "every train episode of " in (err := capsys.readouterr().err) and "film is shorter than the 5 frames" in err
    assert not (folders / "run").exists()


# ------------------------------------------------------------------ actions that do not fit


def recorded(folder: Path, scale: float = 1.0, width: int = 2, **wrong: float) -> Path:
    """Our own recordings, with actions of -1 to 1 times ``scale``; ``wrong`` changes step 7 of the last one."""
    folder.mkdir(exist_ok=True)
    for i in range(4):
        rng = np.random.default_rng(i)
        rows = {"actions": rng.uniform(-scale, scale, (20, width)), "rewards": np.zeros(20)}
        for name, value in wrong.items() if i == 3 else ():
            rows[name][7] = value
        clip = Clip(
            frames=frames(1, 20, seed=i)[0],
            actions={"action": rows["actions"].astype(np.float32)},
            rewards=rows["rewards"].astype(np.float32),
        )
        write_episode(folder / f"e{i}.npz", clip)
    spec = ActionSpec(kind="continuous", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))
    write_info(folder, DataInfo(fps=5.0, height=64, width=64, actions={"action": spec}), [])
    return folder


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "other width": ({"width": 3}, "dataset.json says continuous with n=2"),
    "not a number": ({"actions": float("nan")}, "actions of e3.npz hold NaN or infinity (first in row 7)"),
    "infinite": ({"actions": float("inf")}, "actions of e3.npz hold NaN or infinity (first in row 7)"),
    "one far outside": ({"actions": 55.5}, "e3.npz are far outside their range: 55.5 in dimension 0 (step 7)"),
    "other units": ({"scale": 100.0}, "where dataset.json says -1 to 1"),
    "no reward": ({"rewards": float("nan")}, "rewards of e3.npz has NaN or infinity (first in row 7)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_actions_are_refused_before_the_training(
    name: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, said = WRONG[name]
    data = recorded(folders / "own", **changes)
    assert train(folders, "run", "--data", str(data), "--rewards", "--strict") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err
    assert not (folders / "run").exists()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of actions from -1 to 1."""
    folder = tmp_path_factory.mktemp("told") / "world"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reelworld.worlds.world.write_card", lambda folder, info, film: None)
        untrained("ivideogpt", "continuous").save(folder)
    return folder


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((20, 3), np.float32), "has continuous actions 'action' (3); the world takes continuous ones (2)"),
        (np.arange(20) % 3, "has discrete actions 'action' (3)"),
        (np.linspace(-90, 90, 40, dtype=np.float32).reshape(20, 2), "far outside their range: -90 in dimension 0"),
        (
            np.linspace(-1, 1, 40, dtype=np.float32).reshape(20, 2) + np.array([0, 7.5]),
            "where the world learned -1 to 1",
        ),
    ],
)
def test_wrong_actions_are_refused_before_an_evaluation(
    rows: np.ndarray, said: str, told: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "strange").mkdir()
    for i in range(3):
        np.savez(folders / "strange" / f"{i}.npz", frames=frames(1, 20, seed=i)[0], actions=rows)
    words = [str(told), "--data", str(folders / "strange"), "--split", "all", "--out", str(folders / "eval")]
    assert main(["eval", *words]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("error: ") and said in err[-1]
    assert not (folders / "eval").exists()
    assert main(["generate", *words[:3], "--split", "all", "--out", str(folders / "x.npz")]) == 2
    assert said in capsys.readouterr().err and not (folders / "x.npz").exists()


def test_what_lies_a_little_outside_is_accepted(told: Path, folders: Path) -> None:
    data = recorded(folders / "own", scale=1.9)
    assert open_for(World.load(told), data).info.actions["action"].n == 2


def test_a_head_is_not_taken_on_with_other_units(told: Path, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(4):
        rows = np.random.default_rng(i).uniform(-50, 50, (20, 2)).astype(np.float32)
        np.savez(folders / "arm" / f"arm{i}.npz", image=frames(1, 20, seed=i)[0], action=rows)
    words = ["train", "ivideogpt:tiny", "--pretrained", str(told), "--out", str(folders / "run")]
    assert main([*words, "--data", str(folders / "arm")]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert "'action' span -4" in err and "learned -1 to 1: bring them to the same units" in err
    assert not (folders / "run").exists()


def test_the_range_of_the_actions_lies_in_the_world(folders: Path) -> None:
    data = recorded(folders / "own")
    assert train(folders, "run", "--data", str(data)) == 0
    spec = World.load(folders / "run").info.actions["action"]
    assert (spec.low, spec.high) == ((-1.0, -1.0), (1.0, 1.0))


def test_other_recipes_learn_from_one_data_set(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for name in ("arm", "film") for word in ("--data", str(folders / name))]
    assert main(["train", "pocket:tiny", "--out", str(folders / "run"), *words]) == 2
    assert "pocket learns from one data set" in capsys.readouterr().err
