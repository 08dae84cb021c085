"""The example client against a real server."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.serve.squares import SIZE, TILE, film_world, running, time_world, turn_world

CLIENT = Path(__file__).parents[2] / "examples" / "play_client.py"


@pytest.mark.parametrize("takes", ["", "raw,jpeg"])
@pytest.mark.parametrize("make", [turn_world, time_world, film_world])
def test_the_example_client_plays(make, takes, monkeypatch, capsys, tmp_path):
    world = make()
    with running(world) as address:
        out = tmp_path / "last.png"
        given = [f"ws://{address}/api/play", "--steps", "6", "--encodings", takes, "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [str(CLIENT), *given])
        runpy.run_path(str(CLIENT), run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"Square, {SIZE}x{SIZE}" and said[1].startswith("6 actions, reward ")
    with Image.open(out) as image:
        assert image.size == (SIZE, SIZE) and image.format == ("PPM" if takes else "PNG")
        assert image.getcolors() == [(TILE * TILE, (255, 0, 0)), (SIZE * SIZE - TILE * TILE, (90, 90, 90))]
    assert make is film_world or len(world.taken) >= 6


def test_the_example_is_short_and_needs_nothing_of_ours():
    code = CLIENT.read_text()
    assert len(code.splitlines()) <= 100 and "import reelworld" not in code and "from reelworld" not in code
