"""Test clips of few frames: measured where the world can begin and go on, otherwise one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from reelworld.cli.main import main
from reelworld.envs.recorder import record, record_config


@pytest.mark.parametrize("n_frames", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_short_clips_are_measured_or_refused(n_frames: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("minigrid")
    data = tmp_path / "data"
    record(
        record_config("MiniGrid-DoorKey-8x8-v0", episodes=6, seed=70_000, max_steps=n_frames - 1, policy="explorer"),
        data,
    )
    world = Path(main.__code__.co_filename).parents[1] / "shipped" / "doorkey"
    flags = ["--split", "all", "--inverse-steps", "2", "--stability-steps", "0", "--samples", "2"]
    code = main(["eval", str(world), "--data", str(data), "--out", str(tmp_path / "out"), *flags])
    if n_frames < 5:  # four frames of context and one more
        assert code == 2 and "has 5 frames (context and one more)" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    else:
        assert code == 0 and (tmp_path / "out" / "report.html").is_file()
