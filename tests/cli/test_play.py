"""``reelworld play`` as a person starts and ends it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from reelworld.cli.main import main
from reelworld.data.dataset import DataInfo
from reelworld.recipes import pocket
from reelworld.types import ActionSpec, Clip


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory):
    info = DataInfo(height=32, width=32, actions={"action": ActionSpec(kind="discrete", n=3)})
    world = pocket.untrained(pocket.SIZES["tiny"](), info, seed=0)
    world.starts.append(Clip(frames=np.zeros((2, 32, 32, 3), np.uint8), actions={"action": np.zeros(2, np.int64)}))
    folder = tmp_path_factory.mktemp("play") / "world"
    world.save(folder)
    return folder


def test_play_prints_its_address_serves_the_world_and_stops_on_ctrl_c(world_folder):
    command = [sys.executable, "-m", "reelworld", "play", str(world_folder), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline()).group()
        with urllib.request.urlopen(f"{address}api/world", timeout=30) as answer:
            world = json.load(answer)
        assert world["turn_based"] and world["card"].startswith("# pocket world")
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("stopped\n")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--port", "70000"], "--port is 70000"),
        (["--players", "0"], "--players is 0"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
    ],
)
def test_settings_that_cannot_be_are_one_line(world_folder, capsys, flags, line):
    assert main(["play", str(world_folder), "--no-browser", *flags]) == 2
    assert line in capsys.readouterr().err


def test_a_folder_that_is_no_world_is_one_line(tmp_path, capsys):
    assert main(["play", str(tmp_path)]) == 2
    assert "is not a world" in capsys.readouterr().err


def test_play_starts_without_what_it_does_not_need(world_folder):
    """Each of these costs a person a part of a second to several before the page opens."""
    code = (
        "import sys\nimport reelworld.serve.server as server\n"
        "server.serve = lambda world, **_: print(world.session(1, seed=0).step(1).frame.shape, *sys.modules)\n"
        "from reelworld.cli.main import main\nsys.exit(main(['play', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(world_folder)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(1, 32, 32, 3)")
    heavy = {"matplotlib", "torchmetrics", "torch._dynamo", "torch._inductor", "sympy", "av", "gymnasium", "rich"}
    assert heavy & set(done.stdout.split()) == set()
