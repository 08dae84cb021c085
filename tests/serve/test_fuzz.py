"""Malformed messages and uploads by the hundred, while somebody else plays on undisturbed.

``REELWORLD_FUZZ=100000 pytest tests/serve/test_fuzz.py --timeout 7200`` sends as many.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.serve.client import Client, get
from tests.serve.squares import picture, running, time_world, turn_world
from tests.serve.test_starts import bomb, encoded
from websockets.exceptions import ConnectionClosed

from reelworld.serve.app import Limits

N_MESSAGES = int(os.environ.get("REELWORLD_FUZZ", "400"))
KINDS = ["act", "reset", "pause", "ack", "step", "rewind", "sample", "effects", "record", "hello", "", "open"]
FIELDS = ["id", "actions", "seed", "start", "paused", "sequence", "steps", "temperature", "on", "path", "type"]
VALUES: list[Any] = [None, True, -1, 0, 1, 2**32, 2**63, 10**40, 1.5, 1e308, "", "x" * 50, "../../etc/passwd", [], {}]
VALUES += [[[[]]], {"action": 1}, {"action": "1"}, {"action": [0.1, 0.2]}, {"action": [None]}, {"": {}}]
GOOD: list[dict[str, Any]] = [
    {"type": "act", "id": 1, "actions": {}},
    {"type": "act", "id": 1, "actions": {}},
    {"type": "reset", "id": 1, "seed": 1, "start": 0},
    {"type": "pause", "paused": False},
    {"type": "ack", "sequence": 1},
    {"type": "step", "id": 1},
    {"type": "rewind", "id": 1, "steps": 1},
    {"type": "sample", "temperature": 1, "steps": 1},
    {"type": "effects"},
    {"type": "record", "on": True},
]
ALLOWED = {1000, 1006, 1007, 1008, 1009, 4002}
"""1006: the server had closed while more was on its way to it. What went wrong inside it is in the log."""


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the server itself found wrong with itself."""
    ours = [r for r in caplog.records if r.name.startswith(("uvicorn", "reelworld", "asyncio"))]
    return [r.getMessage() for r in ours if r.levelno >= logging.ERROR]


def malformed(draw: random.Random) -> str | bytes:
    """Make a message that is wrong in one of many ways, or by luck right."""
    way = draw.random()
    if way < 0.1:
        return draw.randbytes(draw.randrange(60))
    if way < 0.2:
        return draw.randbytes(draw.randrange(60)).decode("latin-1")
    if way < 0.7:  # right but for one field
        message = dict(draw.choice(GOOD))
        message[draw.choice([*message, *message, "path"])] = draw.choice(VALUES)
        return json.dumps(message)
    fields = {draw.choice(FIELDS): draw.choice(VALUES) for _ in range(draw.randrange(4))}
    text = json.dumps({"type": draw.choice(KINDS), **fields})
    if way < 0.3:
        cut = draw.randrange(len(text))
        return text[:cut] + draw.choice(["", "\0", "NaN", "}", "[" * 100, "\ud800".encode("utf-8", "ignore").decode()])
    return text + " " * draw.choice([0, 0, 0, 0, 5000])


def broken_picture(draw: random.Random) -> bytes:
    """Make a picture that is broken in one of many ways, or by luck not."""
    way = draw.random()
    if way < 0.2:
        return draw.randbytes(draw.randrange(200))
    if way < 0.3:
        return bomb(draw.randrange(1, 2**31), draw.randrange(1, 2**31))
    content = bytearray(PICTURES[draw.randrange(len(PICTURES))])
    for _ in range(draw.randrange(6)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content[: draw.randrange(len(content))] if draw.random() < 0.3 else content)


def pictures() -> list[bytes]:
    from PIL import Image

    image = Image.fromarray(picture(3, 3))
    return [encoded(image), encoded(image, "JPEG"), encoded(image, "WEBP"), encoded(image, "GIF")]


PICTURES = pictures()


def plays_on(witness: Client, number: int) -> None:
    witness.send(type="act", id=number, actions={"action": number % 3})
    while witness.frame()["input"] != number:
        pass


@pytest.mark.timeout(max(300, N_MESSAGES // 5))
@pytest.mark.parametrize("make", [turn_world, time_world])
def test_malformed_messages_disturb_nobody_else(make: Callable[..., Any], tmp_path, caplog):
    draw, world = random.Random(1), make()
    if make is time_world:
        world.info.fps = 60.0
    limits = Limits(sessions=3, messages_per_second=1e9, burst=1e9)  # floods have a test of their own
    with running(world, limits, record=tmp_path) as address:
        with Client(address) as witness:
            rest = {} if make is time_world else {"action": 0}
            n_sent = n_connections = 0
            while n_sent < N_MESSAGES // 2:
                n_connections += 1
                with Client(address) as client:
                    try:
                        for _ in range(draw.randrange(1, 30)):
                            n_sent += 1
                            client.socket.send(malformed(draw))
                        client.socket.close()
                    except ConnectionClosed:
                        pass
                    assert client.socket.close_code in ALLOWED
                witness.send(type="act", id=n_connections, actions=rest)
                witness.send(type="reset", id=n_connections)
                while witness.frame()["input"] != n_connections:
                    pass
        with get(address, "/api/world") as answer:
            assert answer.status == 200
    assert n_connections > 1 and complaints(caplog) == []


@pytest.mark.timeout(max(300, N_MESSAGES // 5))
def test_broken_pictures_disturb_nobody_else(caplog):
    draw = random.Random(2)
    with (
        running(turn_world(), Limits(upload_seconds=0)) as address,
        Client(address) as other,
        Client(address) as client,
    ):
        other.frame(), client.frame()
        connection = http.client.HTTPConnection(address, timeout=10)
        statuses = set()
        for number in range(N_MESSAGES // 4):
            path = f"/api/image?player={client.hello['player']}&id={draw.choice(['1', '9', 'x', '', '-1'])}"
            connection.request("POST", path, broken_picture(draw))
            with connection.getresponse() as answer:
                statuses.add(answer.status)
                answer.read()
            if number % 20 == 19:
                plays_on(other, number)
        connection.close()
        assert statuses <= {200, 400, 415} and 415 in statuses
        plays_on(other, N_MESSAGES)
    assert complaints(caplog) == []
