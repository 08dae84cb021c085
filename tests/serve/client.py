"""Client of the play protocol, and plain requests."""

from __future__ import annotations

import io
import json
import struct
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.serve.squares import TILE
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


class Client:
    """A player in another language would look like this."""

    def __init__(self, address: str, path: str = "/api/play", **kwargs) -> None:
        self.connection = connect(f"ws://{address}{path}", **kwargs)

    def __enter__(self) -> Client:
        self.socket: ClientConnection = self.connection.__enter__()
        self.hello = json.loads(self.socket.recv(timeout=10))
        return self

    def __exit__(self, *error) -> None:
        self.connection.__exit__(*error)

    def send(self, **message) -> None:
        self.socket.send(json.dumps(message))

    def message(self, ack: bool = True) -> dict[str, Any]:
        """Read the next frame, its image as it came."""
        while isinstance(data := self.socket.recv(timeout=10), str):
            pass  # how far a slow world is
        names = ("version", "encoding", "flags", "reserved", "sequence", "step", "input", "reward", "total", "ms")
        frame = dict(zip(names, struct.unpack("<4B3I3f", data[:28]), strict=True))
        if ack:
            self.send(type="ack", sequence=frame["sequence"])
        return frame | {"image": data[28:]}

    def frame(self, ack: bool = True) -> dict[str, Any]:
        """Read the next frame and find the square in it."""
        frame = self.message(ack)
        pixels = np.asarray(Image.open(io.BytesIO(frame["image"])))
        rows, columns = np.nonzero((pixels == (255, 0, 0)).all(-1))
        return frame | {"cell": (columns.min() // TILE, rows.min() // TILE), "shape": pixels.shape}

    def told(self, kind: str) -> dict[str, Any]:
        """Read until the server says something of a kind."""
        while True:
            data = self.socket.recv(timeout=10)
            if isinstance(data, str) and (message := json.loads(data))["type"] == kind:
                return message

    def closing(self) -> tuple[int, str]:
        """Read until the server closes; return its code and reason."""
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                self.socket.recv(timeout=10)
        return closed.value.rcvd.code, closed.value.rcvd.reason


def get(address: str, path: str = "/", **headers: str):
    request = urllib.request.Request(f"http://{address}{path}", headers=headers)
    return urllib.request.urlopen(request, timeout=10)


def refusal(address: str, path: str = "/", **headers: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(address, path, **headers)
    with error.value:
        return error.value.code
