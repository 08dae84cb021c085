"""kill -9 at any moment, also during a save: nothing is corrupt, and the final weights are bit-identical."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("kill_driver.py")


def drive(folder: Path, mode: str) -> dict:
    done = subprocess.run([sys.executable, DRIVER, folder, mode], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork; Windows has none")
def test_kill_between_every_two_file_operations(tmp_path: Path) -> None:
    found = drive(tmp_path, "between")
    assert found["kills"] > 60  # three saves of up to five files each, the log, config and lock
    assert found["steps"] == [0, 3, 5, 7]  # kills fell between all saves of both stages


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork; Windows has none")
def test_kill_at_random_times(tmp_path: Path) -> None:
    assert drive(tmp_path, "random")["kills"] >= 3
