"""The page shows every pixel of a frame in every encoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.serve.client import Client
from tests.serve.page.browser import needs_browser, state
from tests.serve.squares import TILE, turn_world

from reelworld.serve.encodings import JPEG, PNG, RAW

pytestmark = needs_browser

PIXELS = """() => {
  const canvas = document.getElementById("screen");
  const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return [canvas.width, canvas.height, ...rgba];
}"""


@pytest.mark.parametrize(
    ("height", "width", "encoding", "most_off"), [(40, 64, RAW, 0), (100, 80, PNG, 0), (136, 160, JPEG, 30)]
)
def test_what_the_world_shows_is_on_the_screen(visit, height, width, encoding, most_off, serve):
    world = turn_world()
    world.spec = replace(world.spec, height=height, width=width)
    address = serve(world)
    with Client(address, "/api/play?encodings=raw,jpeg") as client:
        assert client.message()["encoding"] == encoding.number
    page = visit(address)
    state(page, "playing")
    shown_width, shown_height, *rgba = page.evaluate(PIXELS)
    shown = np.array(rgba).reshape(shown_height, shown_width, 4)
    expected = np.full((height, width, 3), 90)
    expected[:TILE, :TILE] = (255, 0, 0)
    assert (shown[..., 3] == 255).all()
    assert shown.shape[:2] == (height, width) and np.abs(shown[..., :3] - expected).max() <= most_off
