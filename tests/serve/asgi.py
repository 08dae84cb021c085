"""In-process clients, which call the ASGI application directly: a hundred times as fast as sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette

HEADERS = [(b"host", b"localhost")]


def scope(kind: str, path: str, query: str = "", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": HEADERS,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        **more,
    }


async def connection(app: Starlette, next_message: Callable[[], str | bytes | None]) -> int:
    """Play with messages that are made when the server wants one, until either side ends; return the closing code.

    The server reads nothing before it has read what came earlier, so every message that is made is read.
    """
    code, is_connected = 1000, False

    async def receive() -> dict[str, Any]:
        nonlocal is_connected
        await asyncio.sleep(0)
        if not is_connected:
            is_connected = True
            return {"type": "websocket.connect"}
        message = next_message()
        if message is None:
            return {"type": "websocket.disconnect", "code": 1000}
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def send(event: dict[str, Any]) -> None:
        nonlocal code
        code = event.get("code", code)

    await app(scope("websocket", "/api/play", subprotocols=[]), receive, send)
    return code


async def request(app: Starlette, method: str, path: str, query: str = "", body: bytes = b"") -> tuple[int, bytes]:
    """Ask for something; return the status and the answer."""
    asked, status, answer = [{"type": "http.request", "body": body, "more_body": False}], 0, b""

    async def receive() -> dict[str, Any]:
        return asked.pop() if asked else await asyncio.Future()

    async def send(event: dict[str, Any]) -> None:
        nonlocal status, answer
        status, answer = event.get("status", status), answer + event.get("body", b"")

    await app(scope("http", path, query, method=method), receive, send)
    return status, answer


class Tab:
    """A player who stays."""

    def __init__(self, app: Starlette) -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task = asyncio.ensure_future(
            app(scope("websocket", "/api/play", subprotocols=[]), self._inbox.get, self._outbox.put)
        )
        self._inbox.put_nowait({"type": "websocket.connect"})

    async def hello(self) -> dict[str, Any]:
        assert (await self._outbox.get())["type"] == "websocket.accept"
        return json.loads((await self._outbox.get())["text"])

    def send(self, **message: Any) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    async def frame(self) -> int:
        """Acknowledge the next frame; return the input that it shows."""
        while "bytes" not in (event := await asyncio.wait_for(self._outbox.get(), 20)):
            assert event["type"] == "websocket.send", event
        self.send(type="ack", sequence=int.from_bytes(event["bytes"][4:8], "little"))
        return int.from_bytes(event["bytes"][12:16], "little")

    async def plays_on(self, number: int) -> None:
        """Begin anew, and see that it happens."""
        self.send(type="reset", id=number)
        while await self.frame() != number:
            pass

    async def leave(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(self._task, 20)
