"""What the recipe learns from: several data sets at once, changed clips, and where it stops before it begins."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.conftest import frames

from reelworld.cli.main import main
from reelworld.data.loader import Loader
from reelworld.evaluate.clips import open_for
from reelworld.worlds.world import World

TINY = ["--clip-frames", "5", "--tokenizer-frames", "4", "--tokenizer-steps", "3", "--steps", "4", "--size", "32"]
TINY += ["--fit", "stretch", "--precision", "fp32", "--log-every", "1"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three data sets of other sizes and other actions."""
    monkeypatch.setenv("REELWORLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("reelworld.worlds.world.write_card", lambda world, folder: None)  # longer than the training
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


def test_a_stopped_training_on_a_mixture_goes_on_bit_for_bit(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With shares, a stride of its own and changed clips."""
    monkeypatch.chdir(folders)
    members = '[{"data": "arm", "weight": 3}, {"data": "film", "weight": 1, "frame_stride": 3}]'
    Path("mixture.json").write_text(f'{{"members": {members}}}')
    words = ["--data", "mixture.json", "--actions", "none", "--crop-area", "0.7", "--colour-change", "0.2"]
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


def test_other_recipes_learn_from_one_data_set(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for name in ("arm", "film") for word in ("--data", str(folders / name))]
    assert main(["train", "pocket:tiny", "--out", str(folders / "run"), *words]) == 2
    assert "pocket:tiny learns from one data set" in capsys.readouterr().err
