"""The tutorial's game and commands, shortened; a client plays in place of a user."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

from reelworld import Dataset, World

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
SHORTER = {
    "--episodes 40 --max-steps 100": "--episodes 6 --max-steps 30 --processes 1",
    "--max-minutes 5": "--max-minutes 0.3",
    "--split all": "--split all --clips 2 --single-steps 20 --free-run-steps 5",
    "record --play": "record --no-browser --port 0 --play",
    "play runs/mine/world": "play runs/mine/world --no-browser --port 0",
}
"""All that differs from the page."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def play(line: list[str], folder: Path, n_steps: int) -> str:
    """Run a command that serves a page, play for a while as a browser would, end it by Ctrl-C; return what it said."""
    server = subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while "http://" not in said:
            text = server.stdout.readline()
            assert text, server.stderr.read()
            said += text
        address = re.search(r"http://([^/\s]+)", said)[1]
        draw = random.Random(0)
        with connect(f"ws://{address}/api/play") as socket:
            hello = json.loads(socket.recv(timeout=30))
            assert hello["width"] == hello["height"] == 64
            assert {"ArrowLeft", "ArrowRight"} <= set(json.dumps(hello["actions"]).split('"'))
            socket.send(json.dumps({"type": "pause", "paused": False}))
            for number in range(1, n_steps + 1):
                socket.send(json.dumps({"type": "act", "id": number, "actions": {"action": draw.randrange(3)}}))
                while isinstance(frame := socket.recv(timeout=30), str):
                    pass
                socket.send(json.dumps({"type": "ack", "sequence": int.from_bytes(frame[4:8], "little")}))
        server.send_signal(signal.SIGINT)
        rest, trouble = server.communicate(timeout=60)
        assert server.returncode == 0, trouble
        return said + rest
    finally:
        server.kill()
        server.communicate()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_word_for_word(tmp_path: Path) -> None:
    (game,) = blocks("python")
    (tmp_path / "my_game.py").write_text(game)
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert all(any(old in line for line in lines) for old in SHORTER)
    os.environ.pop("REELWORLD_DEBUG", None)
    for line in lines:
        for old, new in SHORTER.items():
            line = line.replace(old, new)
        program, *words = shlex.split(line)
        assert program == "reelworld"
        command = [str(Path(sys.executable).with_name("reelworld")), *words]
        if "--no-browser" in words:
            play(command, tmp_path, 60 if words[0] == "record" else 5)
            continue
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    played = Dataset.open(tmp_path / "recordings" / "mine")
    assert sum(episode.n_frames for episode in played.episodes) >= 30
    assert played.info.actions["action"].keys == {"ArrowLeft": 1, "ArrowRight": 2}
    assert played.info.actions["action"].null == 0
    assert (tmp_path / "runs" / "mine" / "eval" / "report.html").is_file()
    assert World.load(tmp_path / "catch").info.name == "Catch"
