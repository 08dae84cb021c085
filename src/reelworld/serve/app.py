"""The web side of playing: one page, one JSON description, one WebSocket per tab.

Everything a client may ask for is listed here; no path, name or address it gives is ever opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from reelworld.serve.companion import Companion, find_companion
from reelworld.serve.encodings import choose_encoding
from reelworld.serve.guard import Guard
from reelworld.serve.playable import Playable, Rules, rules_of
from reelworld.serve.player import Player, playing_fps
from reelworld.serve.protocol import MAX_ID, PROTOCOL, Ack, CloseCode, ProtocolError, Record, read_message
from reelworld.serve.recording import Archive
from reelworld.serve.shelf import Shelf, Shelved
from reelworld.serve.starts import MAX_STARTS, describe_starts, read_image
from reelworld.serve.stepper import Stepper
from reelworld.serve.turns import Share
from reelworld.types import UserError

__all__ = ["Limits", "create_app"]

logger = logging.getLogger(__name__)

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE = resources.files("reelworld.serve") / "page"
ASSETS = {
    "/": "index.html",
    **{f"/{file.name}": file.name for file in PAGE.iterdir() if Path(file.name).suffix in (".css", ".js", ".svg")},
}
"""Address -> file of the package: all the files there are to ask for."""

MAX_OPEN = 4
"""Worlds that stay loaded when nobody plays in them."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server and one client may use."""

    sessions: int = 8
    """Tabs that play at the same time."""
    messages_per_second: float = 240.0
    """Messages a client may send on average; a 60 fps game with acknowledgements stays below 150."""
    burst: float = 480.0
    """Messages a client may send at once."""
    idle_seconds: float = 900.0
    """A session without input for this long ends."""
    rewind_bytes: int = 1 << 26
    """Room for the moments that one player can go back to, at most."""
    rewind_bytes_of_all: int = 1 << 29
    """Room for the moments of all players, when every place is taken."""
    tape_bytes: int = 1 << 28
    """Room for the frames of one episode that a player records."""
    upload_bytes: int = 1 << 23
    """Largest picture a player may bring."""
    upload_pixels: int = 1 << 24
    """Most pixels of it that are unpacked."""
    upload_seconds: float = 1.0
    """From one picture of a player to the next."""


def create_app(
    world: Playable | Shelf,
    *,
    card: str = "",
    limits: Limits | None = None,
    hosts: frozenset[str] = frozenset(),
    token: str = "",
    n_threads: int = 1,
    record: Path | None = None,
    allow_code: Sequence[str] = (),
) -> Starlette:
    """Build the web application.

    Args:
        world: The world to play, or a shelf of worlds: then the first page is their gallery.
        card: Its card, Markdown, shown by ``/api/world``.
        limits: What clients may use.
        hosts: Names of this machine that a Host header may carry besides localhost and IP addresses.
        token: When not empty, the secret that the API's addresses must carry as ``?token=``.
        n_threads: Threads torch may use for a step.
        record: Folder for what players record, one inside it per world of a shelf; None lets nobody record.
        allow_code: Modules that the game beside a world may come from, besides the known packages.
    """
    hall = _Hall(world, card, limits or Limits(), n_threads, record, allow_code)
    assets = [Route(path, _asset(name)) for path, name in ASSETS.items()]
    if isinstance(world, Shelf):
        assets = [Route("/", _asset("gallery.html")), Route("/play", _asset("index.html")), *assets]
    return Starlette(
        routes=[
            *assets,
            Route("/api/worlds", hall.worlds),
            Route("/api/preview", hall.preview),
            Route("/api/world", hall.describe),
            Route("/api/starts", hall.starts),
            Route("/api/image", hall.upload, methods=["POST"]),
            WebSocketRoute("/api/play", hall.play),
        ],
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        lifespan=hall.lifespan,
    )


def _asset(name: str) -> Any:
    media_type = f"{_TYPES[Path(name).suffix]}; charset=utf-8"
    content = (PAGE / name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


@dataclass
class _Seat:
    """A player who is here, and when the next picture may come."""

    player: Player
    takes_pictures: bool = True
    next_upload: float = 0.0


class _Hall:
    """The desks of all worlds: opens one when somebody asks for its world, and counts all players."""

    def __init__(
        self,
        world: Playable | Shelf,
        card: str,
        limits: Limits,
        n_threads: int,
        record: Path | None,
        allow_code: Sequence[str],
    ) -> None:
        self.limits = limits
        self._n_threads = n_threads
        self.allow_code = tuple(allow_code)
        self.n_players = 0
        self.is_gallery = isinstance(world, Shelf)
        self._record = record
        self._desks: dict[int, _Desk] = {}
        self._opening = asyncio.Lock()
        if isinstance(world, Shelf):
            self._shelf = world
        else:
            self._shelf = Shelf([Shelved(name=world.info.name, load=lambda: world, card=card)])
            self._desks[0] = _Desk(self, world, card, record, Stepper(n_threads))

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        for desk in self._desks.values():
            desk.stepper.close()

    def place(self) -> contextlib.ExitStack:
        """Take a place; closing gives it back."""
        self.n_players += 1
        place = contextlib.ExitStack()
        place.callback(self._give_back)
        return place

    def _give_back(self) -> None:
        self.n_players -= 1

    async def _desk(self, connection: HTTPConnection) -> _Desk:
        """Open the desk of the world that a client names; those that nobody sits at are closed when there are many."""
        number = self._shelf.number(connection.query_params.get("world", ""))
        async with self._opening:
            if number not in self._desks:
                idle = [n for n, desk in self._desks.items() if not desk.is_busy]
                for n in idle[: max(0, len(self._desks) - MAX_OPEN + 1)]:
                    self._close_desk(n)
                world = await asyncio.to_thread(self._shelf.load, number)
                shelved = self._shelf.worlds[number]
                folder = None if self._record is None else self._record / shelved.folder_name
                stepper = next((d.stepper for d in self._desks.values() if d.world is world), Stepper(self._n_threads))
                self._desks[number] = _Desk(self, world, shelved.card, folder, stepper)
            desk = self._desks[number]
            desk.n_coming += 1
            return desk

    def _close_desk(self, number: int) -> None:
        """Close a desk, and its world's stepper if no other desk has the same world."""
        stepper = self._desks.pop(number).stepper
        if all(desk.stepper is not stepper for desk in self._desks.values()):
            stepper.close(wait=False)

    async def _at_desk(self, request: Request, do: Callable[[_Desk], Awaitable[Response]]) -> Response:
        try:
            desk = await self._desk(request)
        except KeyError:
            return PlainTextResponse("there is no such world", 404)
        except UserError as error:
            return PlainTextResponse(str(error), 503)
        try:
            return await do(desk)
        finally:
            desk.n_coming -= 1

    async def worlds(self, _: Request) -> Response:
        """List the worlds."""
        return JSONResponse({"worlds": [world.describe(i) for i, world in enumerate(self._shelf.worlds)]})

    async def preview(self, request: Request) -> Response:
        """Show a world in motion."""
        try:
            world = self._shelf.worlds[self._shelf.number(request.query_params.get("world", ""))]
        except KeyError:
            return PlainTextResponse("there is no such world", 404)
        return Response(world.preview, media_type="image/gif") if world.preview else Response(status_code=404)

    async def describe(self, request: Request) -> Response:
        return await self._at_desk(request, lambda desk: desk.describe(request))

    async def starts(self, request: Request) -> Response:
        return await self._at_desk(request, lambda desk: desk.starts(request))

    async def upload(self, request: Request) -> Response:
        return await self._at_desk(request, lambda desk: desk.upload(request))

    async def play(self, socket: WebSocket) -> None:
        """Lead a player to a desk."""
        try:
            desk = await self._desk(socket)
        except (KeyError, UserError) as error:
            await socket.accept()
            reason = "there is no such world" if isinstance(error, KeyError) else str(error)
            await socket.close(CloseCode.NO_WORLD, short(reason))
            return
        try:
            await desk.play(socket)
        finally:
            desk.n_coming -= 1


class _Desk:
    """Lets players into one world, keeps the limits, and sees them out."""

    def __init__(self, hall: _Hall, world: Playable, card: str, record: Path | None, stepper: Stepper) -> None:
        self._hall = hall
        self.world = world
        self._card = card
        self._limits = hall.limits
        self.stepper = stepper
        self.n_coming = 0
        self._seats: dict[str, _Seat] = {}
        self._starts: dict[str, Any] | None = None
        self._archive = None if record is None else Archive(record, world.info, playing_fps(world.info))
        self._companion: Companion | None = None
        self._looking = asyncio.Lock()
        self._has_looked = False

    @property
    def is_busy(self) -> bool:
        """True while somebody plays here or is about to."""
        return self.n_coming > 0

    async def companion(self) -> Companion | None:
        """Return the game behind the world, looked for when the first client comes."""
        async with self._looking:
            if not self._has_looked:
                # Where sessions run: some drawings stay with the thread that began them.
                look = partial(find_companion, self.world, self._hall.allow_code)
                self._companion = await self.stepper.run(look, Share())
                self._has_looked = True
        return self._companion

    async def describe(self, _: Request) -> Response:
        player = Player(self.world, self.stepper, _send_nowhere, _send_nowhere)
        hello = self._hello(self.world, player, await self.companion())
        state = {"players": self._hall.n_players, "sessions": self._limits.sessions}
        return JSONResponse({**hello, "type": "world", "card": self._card, **state})

    async def starts(self, _: Request) -> Response:
        """Show the moments that a game may begin at."""
        if self._starts is None:
            self._starts = await asyncio.to_thread(describe_starts, self.world.starts)
        return JSONResponse(self._starts)

    async def upload(self, request: Request) -> Response:
        """Begin a player's game at a picture; the only thing a client may send that is not a message."""
        key, id_text = (request.query_params.get(name, "") for name in ("player", "id"))
        seat = self._seats.get(key)
        if seat is None:
            return PlainTextResponse("nobody plays here under that name", 404)
        if not seat.takes_pictures:
            return PlainTextResponse("the real game cannot begin at a picture", 409)
        if not (id_text.isascii() and id_text.isdigit() and len(id_text) <= 10 and int(id_text) <= MAX_ID):
            return PlainTextResponse("id must be a whole number", 400)
        now = time.monotonic()
        if now < seat.next_upload:
            return PlainTextResponse("one picture at a time; wait a moment", 429)
        seat.next_upload = math.inf  # until this one is here, however long it takes
        try:
            content = await self._body(request)
        finally:
            seat.next_upload = now + self._limits.upload_seconds
        if len(content) > self._limits.upload_bytes:
            return PlainTextResponse(f"a picture is at most {self._limits.upload_bytes:,} bytes", 413)
        info = self.world.info
        read = partial(read_image, content, info.height, info.width, self._limits.upload_pixels)
        try:
            frame = await asyncio.to_thread(read)
        except UserError as error:
            return PlainTextResponse(str(error), 415)
        seat.player.begin_from(frame[None], int(id_text))
        return JSONResponse({"ok": True})

    async def _body(self, request: Request) -> bytes:
        """Read what is sent, or as much of it as shows that it is too long."""
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > self._limits.upload_bytes:
                break
        return bytes(content)

    def _hello(self, world: Playable, player: Player, companion: Companion | None) -> dict[str, Any]:
        info, rules = world.info, rules_of(world)
        return {
            "type": "hello",
            "protocol": PROTOCOL,
            "name": info.name,
            "recipe": info.recipe,
            "width": info.width,
            "height": info.height,
            "fps": player.fps,
            "turn_based": player.controls.is_turn_based,
            "paused": player.is_paused,
            "gallery": self._hall.is_gallery,
            "pictures": list(rules.pictures),
            "held": rules.held,
            "rewind": rules.rewinds,
            "effects": rules.forks,
            "images": rules.begins_anywhere,
            "beside": None if companion is None else {"game": companion.name, "problem": companion.problem},
            "record": player.can_record,
            "starts": min(len(world.starts), MAX_STARTS),
            "sampler": {"temperature": info.sampler.temperature, "steps": info.sampler.steps} if rules.draws else None,
            "actions": player.controls.describe(),
        }

    async def play(self, socket: WebSocket) -> None:
        """Serve one tab from its first message to its last."""
        await socket.accept()
        if self._hall.n_players >= self._limits.sessions:
            n = self._limits.sessions
            taken = f"all {n} places are taken" if n > 1 else "somebody plays here already"
            reason = f"{taken}; close another tab and try again"
            await socket.close(CloseCode.SERVER_FULL, reason)
            return
        with self._hall.place() as place:
            await self._serve(socket, place)

    async def _serve(self, socket: WebSocket, place: contextlib.ExitStack) -> None:
        companion, limits = await self.companion(), self._limits
        world: Playable = self.world
        if socket.query_params.get("beside") == "1":
            if companion is None or companion.together is None:
                reason = companion.problem if companion else "this world does not come from a game that is known"
                await socket.close(CloseCode.NO_WORLD, short(reason))
                return
            world = companion.together
        rules, info = rules_of(world), world.info
        takes, width = socket.query_params.get("takes", ""), info.width * len(rules.pictures)
        player = Player(
            world,
            self.stepper,
            _unless_gone(socket.send_bytes),
            _unless_gone(socket.send_json),
            encoding=choose_encoding(takes, info.height, width),
            rewind_bytes=min(limits.rewind_bytes, limits.rewind_bytes_of_all // limits.sessions),
            archive=self._archive if len(rules.pictures) == 1 else None,
            tape_bytes=limits.tape_bytes,
        )
        code, reason = 1000, ""
        key = secrets.token_urlsafe(16)
        self._seats[key] = _Seat(player, takes_pictures=rules.begins_anywhere)
        try:
            await socket.send_json({**self._hello(world, player, companion), "player": key})
            if rules.keeps_all and player.can_record:
                player.handle(Record(on=True))
            await _first_to_end(self._listen(socket, player, rules), player.play(), player.deliver())
        except WebSocketDisconnect:
            return
        except ProtocolError as error:
            code, reason = error.code, error.reason
        except Exception:
            logger.exception("a session failed")
            code, reason = CloseCode.WORLD_FAILED, "the world failed; the server's log says why"
        finally:
            del self._seats[key]
            player.leave()
            place.close()  # what is still to be written keeps nobody out: they may come back at once
            await player.finish()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client may have left meanwhile
            await socket.close(code, reason)

    async def _listen(self, socket: WebSocket, player: Player, rules: Rules) -> None:
        """Pass a client's messages on until it leaves, sends nonsense, floods or falls asleep."""
        limits = self._limits
        allowance, last = limits.burst, time.monotonic()
        asleep_at = last + limits.idle_seconds
        while True:
            try:
                event = await asyncio.wait_for(socket.receive(), asleep_at - time.monotonic())
            except TimeoutError:
                reason = f"no input for {limits.idle_seconds:g} seconds"
                raise ProtocolError(reason, CloseCode.IDLE) from None
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
            rules.check(message)
            player.handle(message)
            # Without controls, showing frames is all a player can do; else only input counts.
            if not isinstance(message, Ack) or not player.controls.specs:
                asleep_at = now + limits.idle_seconds


def short(reason: str) -> str:
    """Cut a reason to what fits into the last message of a connection."""
    return reason.encode()[:120].decode(errors="ignore")


def _unless_gone(send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Let a send to a client that has just left say so; the server's own word for it is a RuntimeError."""

    async def sending(message: Any) -> None:
        try:
            await send(message)
        except RuntimeError:
            raise WebSocketDisconnect(1006) from None

    return sending


async def _first_to_end(*works: Any) -> None:
    """Run coroutines together; when one ends, cancel the others and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _send_nowhere(_: Any) -> None:
    """Stand in for a client while a world is only described."""
