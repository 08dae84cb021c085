"""``reelworld play``: start and end as a user does."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from tests.tiny import tiny_world

from reelworld.cli.main import main
from reelworld.data.dataset import DataInfo
from reelworld.serve.action_previews import render_action_previews
from reelworld.serve.controls import Controls
from reelworld.types import ActionSpec, Clip
from reelworld.worlds.locate import SHIPPED
from reelworld.worlds.world import World


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory):
    info = DataInfo(height=32, width=32, actions={"action": ActionSpec(kind="discrete", n=3)})
    world = tiny_world("pocket", info, seed=0)
    world.initial_contexts.append(
        Clip(frames=np.zeros((2, 32, 32, 3), np.uint8), actions={"action": np.zeros(2, np.int64)})
    )
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


def test_play_prints_the_addresses_of_tunnels_and_admits_them(world_folder):
    command = [sys.executable, "-m", "reelworld", "play", str(world_folder), "--no-browser", "--port", "0"]
    command += ["--trust-host", "One.example", "--trust-host", "two.example", "--root-path", "lab/{port}/"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        own, *others = (process.stdout.readline().split()[-1] for _ in range(3))
        port, query = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/(\?token=.{16,})", own).groups()
        assert others == [f"https://{name}.example/lab/{port}/{query}" for name in ("one", "two")]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/lab/{port}/api/world{query}")
        request.add_header("Host", "two.example")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["turn_based"]
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--port", "70000"], "--port is 70000"),
        (["--players", "0"], "--players is 0"),
        (["--trust-host", "https://x.example/"], "--trust-host is 'https://x.example/'; it must be one host name"),
        (["--trust-host", "fine.example", "--trust-host", "*"], "--trust-host is '*'"),
        (["--root-path", "https://x.example/lab"], "it must be the path of a proxy's address, e.g. /lab."),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
    ],
)
def test_settings_that_cannot_be_are_one_line(world_folder, capsys, flags, line):
    assert main(["play", str(world_folder), "--no-browser", *flags]) == 2
    assert line in capsys.readouterr().err


def test_a_folder_that_is_no_world_is_one_line(tmp_path, capsys):
    assert main(["play", str(tmp_path)]) == 2
    assert "is not a world" in capsys.readouterr().err


def test_no_world_or_several_are_a_gallery(world_folder, tmp_path, monkeypatch, capsys):
    served = []
    monkeypatch.setattr("reelworld.serve.server.serve", lambda worlds, *_, **__: served.append(worlds))
    monkeypatch.chdir(tmp_path)
    assert main(["play"]) == 0  # those that come with the package
    assert [entry.run for entry in served.pop().entries] == list(SHIPPED)
    monkeypatch.setattr("reelworld.worlds.locate.SHIPPED", ())
    assert main(["play"]) == 2
    assert "there are no worlds in runs/" in capsys.readouterr().err
    shutil.copytree(world_folder, tmp_path / "runs" / "mine" / "world")
    assert main(["play"]) == 0
    assert main(["play", str(world_folder), str(tmp_path / "runs" / "mine")]) == 0
    one, two = served
    assert [len(library.entries) for library in served] == [1, 2]
    assert (one.entries[0].run, one.entries[0].n_actions, one.entries[0].width) == ("mine", 3, 32)
    assert two.load(0) is two.load(1)  # copies of one world
    assert two.load(0).session(1, seed=0).step(1).frame.shape == (1, 32, 32, 3)
    assert main(["play", str(world_folder), str(tmp_path)]) == 2
    assert "is not a world" in capsys.readouterr().err
    assert main(["play", "--data", str(tmp_path)]) == 2
    assert "--data belongs to one world" in capsys.readouterr().err


def test_pictures_of_actions_change_nothing_in_a_real_world(world_folder):
    """Its frames are drawn, so one random number too many would show."""
    world = World.load(world_folder)
    futures = []
    for looks in (False, True):
        session = world.session(1, seed=3)
        session.sampler = replace(session.sampler, temperature=1.0)
        frame = session.reset().frame[0]
        if looks:
            assert len(render_action_previews(session, frame, Controls(world.spec.actions))) == 3
        futures.append([session.step(a % 3).frame for a in range(4)])
    assert np.array_equal(futures[0], futures[1])


def test_play_starts_without_what_it_does_not_need(world_folder):
    """Each of these costs a person a part of a second to several before the page opens."""
    code = (
        "import sys\nimport reelworld.serve.server as server\n"
        "server.serve = lambda world, *_, **__: print(world.session(1, seed=0).step(1).frame.shape, *sys.modules)\n"
        "from reelworld.cli.main import main\nsys.exit(main(['play', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(world_folder)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(1, 32, 32, 3)")
    heavy = {"matplotlib", "torchmetrics", "torch._dynamo", "torch._inductor", "sympy", "av", "gymnasium", "rich"}
    assert heavy & set(done.stdout.split()) == set()
