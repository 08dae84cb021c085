"""The flags of `reelworld record` reach the recording; mistakes are one line and leave no folder."""

from __future__ import annotations

import pytest

from reelworld.cli.main import main
from reelworld.data.formats.episode_folder import read_info


def test_flags_reach_the_recording(tmp_path, capsys):
    out = tmp_path / "doors"
    words = ["record", "MiniGrid-DoorKey-5x5-v0", "--out", str(out), "--episodes", "2", "--max-steps", "9"]
    words += ["--tile-size", "4", "--env-kwargs", '{"max_steps": 50}', "--action-repeat", "2", "--processes", "1"]
    words += ["--wrapper", 'minigrid.wrappers:RGBImgObsWrapper={"tile_size": 6}', "--frames", "observation"]
    assert main([*words, "--policy", "random", "--size", "30", "60", "--resize", "nearest"]) == 0
    assert "2 episodes" in capsys.readouterr().out
    info, episodes = read_info(out)
    assert (info.height, info.width, info.fps) == (30, 60, 5) and len(episodes) == 2
    simulator = info.provenance["simulator"]
    assert simulator["env_kwargs"] == {"highlight": False, "tile_size": 4, "max_steps": 50}
    assert simulator["wrappers"] == [{"path": "minigrid.wrappers:RGBImgObsWrapper", "kwargs": {"tile_size": 6}}]
    assert info.provenance["policy"] == {"random": 1.0} and info.provenance["max_steps"] == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MiniGrid-DoorKey-8x9-v0"], "did you mean 'MiniGrid-DoorKey-8x8-v0'"),
        (["CartPole-v1", "--env-kwargs", "size=3"], "not JSON"),
        (["CartPole-v1", "--env-kwargs", "[3]"], "wanted a JSON object"),
        (["CartPole-v1", "--wrapper", "nowhere:Thing"], "cannot import a wrapper class"),
        (["CartPole-v1", "--policy", "explore"], "did you mean 'explorer'"),
        (["CartPole-v1", "--episodes", "0"], "episodes is 0"),
        (["CartPole-v1", "--size", "0"], "size is 0x0"),
        (["CartPole-v1", "--processes", "-1"], "processes is -1"),
        (["CartPole-v1", "--policy", "explorer"], "needs a MiniGrid world"),
        (["CartPole-v1", "--policy", "driver"], "needs CarRacing"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, words, message):
    assert main(["record", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
