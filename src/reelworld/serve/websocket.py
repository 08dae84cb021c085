"""WebSocket of one client, from its first message to its last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from reelworld.serve.config import Limits
from reelworld.serve.encodings import choose_encoding
from reelworld.serve.interfaces import Features, Playable, features_of
from reelworld.serve.player import Player
from reelworld.serve.protocol import Ack, CloseCode, ProtocolError, Record, read_message
from reelworld.serve.world_pool import Client, LoadedWorld, WorldPool
from reelworld.types import UserError

logger = logging.getLogger(__name__)

M = TypeVar("M")


async def play(socket: WebSocket, pool: WorldPool) -> None:
    """Serve a client the requested world, if the number of players permits."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            loaded = await stack.enter_async_context(pool.open(socket.query_params))
        except UserError as error:
            await socket.accept()
            await socket.close(CloseCode.NO_WORLD, shorten(str(error)))
            return
        await socket.accept()
        n = pool.config.limits.sessions
        if pool.n_clients >= n:
            problem = f"all {n} places are taken" if n > 1 else "another tab plays here already"
            await socket.close(CloseCode.SERVER_FULL, f"{problem}; close a tab and try again")
            return
        with contextlib.ExitStack() as place:
            place.enter_context(pool.place())
            await _play(socket, loaded, pool.config.limits, place)


async def _play(socket: WebSocket, loaded: LoadedWorld, limits: Limits, place: contextlib.ExitStack) -> None:
    env = await loaded.reference_env()
    world: Playable = loaded.world
    if socket.query_params.get("reference_env") == "1":
        if env is None or env.side_by_side is None:
            reason = env.problem if env else "this world was not trained on a known environment"
            await socket.close(CloseCode.NO_WORLD, shorten(reason))
            return
        world = env.side_by_side
    features, spec = features_of(world), world.spec
    encodings, width = socket.query_params.get("encodings", ""), spec.width * len(features.views)
    send_json = _disconnecting(socket.send_json)
    player = Player(
        world,
        loaded.worker,
        _disconnecting(socket.send_bytes),
        send_json,
        encoding=choose_encoding(encodings, spec.height, width),
        limits=limits,
        writer=loaded.writer_of(world),
    )
    code, reason = 1000, ""
    key = secrets.token_urlsafe(16)
    loaded.clients[key] = Client(player, accepts_images=features.initial_contexts)
    try:
        await send_json({**loaded.hello(world, env), "player": key})
        if features.record_all and loaded.writer is not None:
            player.handle(Record(on=True))
        await _first_to_end(_receive(socket, player, features, limits), player.run(), player.send_frames())
    except WebSocketDisconnect:
        return
    except ProtocolError as error:
        code, reason = error.code, error.reason
    except Exception:
        logger.exception("a session failed")
        code, reason = CloseCode.WORLD_FAILED, "the world failed; see the server's log"
    finally:
        del loaded.clients[key]
        player.leave()
        place.close()  # before the last episode is written, so that the client may come back at once
        await player.close()
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client may have left meanwhile
        await socket.close(code, reason)


async def _receive(socket: WebSocket, player: Player, features: Features, limits: Limits) -> None:
    """Pass a client's messages on until it leaves, breaks the protocol, exceeds a rate or is idle."""
    allowance, last = limits.burst, time.monotonic()
    idle_at = last + limits.idle_seconds
    while True:
        try:
            event = await asyncio.wait_for(socket.receive(), idle_at - time.monotonic())
        except TimeoutError:
            raise ProtocolError(f"no input for {limits.idle_seconds:g} seconds", CloseCode.IDLE) from None
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1000))
        now = time.monotonic()
        allowance = min(limits.burst, allowance + (now - last) * limits.messages_per_second) - 1
        last = now
        if allowance < 0:
            raise ProtocolError("too many messages", CloseCode.TOO_FAST)
        if event.get("text") is None:
            raise ProtocolError("messages to the server are text")
        message = read_message(event["text"])
        features.check(message)
        player.handle(message)
        # Without actions, acknowledging frames is all a client can do; else only input counts.
        if not isinstance(message, Ack) or not player.controls.specs:
            idle_at = now + limits.idle_seconds


def shorten(reason: str) -> str:
    """Cut a reason to the size of a close frame."""
    return reason.encode()[:120].decode(errors="ignore")


def _disconnecting(send: Callable[[M], Awaitable[None]]) -> Callable[[M], Awaitable[None]]:
    """Make a send to a client that has just left raise WebSocketDisconnect; the server raises a RuntimeError."""

    async def send_or_disconnect(message: M) -> None:
        try:
            await send(message)
        except RuntimeError:
            raise WebSocketDisconnect(1006) from None

    return send_or_disconnect


async def _first_to_end(*loops: Coroutine[None, None, None]) -> None:
    """Run coroutines together; when one ends, cancel the others and raise its exception."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
