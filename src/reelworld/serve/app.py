"""Web interface: the page, its JSON descriptions, image upload, and one WebSocket per client.

All addresses are listed in ``create_app``. No path, file name or URL that a client sends is ever opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib import resources
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from reelworld.serve.config import ServeConfig
from reelworld.serve.initial_contexts import decode_image
from reelworld.serve.interfaces import Playable
from reelworld.serve.library import UnknownWorld, WorldLibrary
from reelworld.serve.protocol import MAX_ID
from reelworld.serve.security import RootPathMiddleware, SecurityMiddleware
from reelworld.serve.websocket import play
from reelworld.serve.world_pool import LoadedWorld, WorldPool
from reelworld.types import UserError

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE = resources.files("reelworld.serve") / "page"
ASSETS = {
    "/": "index.html",
    **{f"/{file.name}": file.name for file in PAGE.iterdir() if Path(file.name).suffix in (".css", ".js", ".svg")},
}
"""Address -> file of the package; no other files are served."""


def create_app(
    worlds: Playable | WorldLibrary,
    config: ServeConfig | None = None,
    *,
    hosts: frozenset[str] = frozenset(),
    token: str = "",
) -> Starlette:
    """Build the web application.

    Args:
        worlds: The world to play, or a library of worlds: then the first page is their gallery.
        config: Settings of the server.
        hosts: Names of this machine that a Host header may have besides localhost and IP addresses.
        token: Secret that API addresses must carry as ``?token=``; empty for none.
    """
    config = config or ServeConfig()
    pool = WorldPool(worlds, config)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        pool.close()

    async def websocket(socket: WebSocket) -> None:
        await play(socket, pool)

    files = {**ASSETS, "/": "gallery.html", "/play": "index.html"} if pool.is_gallery else ASSETS
    assets = [Route(path, _asset(name, config.base_href)) for path, name in files.items()]
    return Starlette(
        routes=[
            *assets,
            Route("/api/worlds", partial(_list_worlds, pool=pool)),
            Route("/api/preview", partial(_preview, pool=pool)),
            Route("/api/world", _of_world(pool, _describe_world)),
            Route("/api/initial-contexts", _of_world(pool, _initial_contexts)),
            Route("/api/image", _of_world(pool, _upload_image), methods=["POST"]),
            WebSocketRoute("/api/play", websocket),
        ],
        middleware=[  # the prefix first: checks and routes see the same path
            Middleware(RootPathMiddleware, root_path=config.root_path),
            Middleware(SecurityMiddleware, hosts=hosts, token=token, config=config),
        ],
        lifespan=lifespan,
    )


def _asset(name: str, base_href: str) -> Callable[[Request], Awaitable[Response]]:
    media_type = f"{_TYPES[Path(name).suffix]}; charset=utf-8"
    content = (PAGE / name).read_bytes()
    if name.endswith(".html"):
        content = content.replace(b'<base href="./">', f'<base href="{base_href}">'.encode())

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


async def _list_worlds(_: Request, pool: WorldPool) -> Response:
    return JSONResponse({"worlds": [entry.describe(i) for i, entry in enumerate(pool.library.entries)]})


async def _preview(request: Request, pool: WorldPool) -> Response:
    """Return a world's animation."""
    try:
        entry = pool.library.entries[pool.library.index(request.query_params.get("world", ""))]
    except UnknownWorld as error:
        return PlainTextResponse(str(error), 404)
    return Response(entry.preview, media_type="image/gif") if entry.preview else Response(status_code=404)


def _of_world(
    pool: WorldPool, handle: Callable[[Request, LoadedWorld, WorldPool], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """Load the world that a request names, and handle the request."""

    async def answer(request: Request) -> Response:
        async with contextlib.AsyncExitStack() as stack:
            try:
                loaded = await stack.enter_async_context(pool.open(request.query_params))
            except UserError as error:
                return PlainTextResponse(str(error), 404 if isinstance(error, UnknownWorld) else 503)
            return await handle(request, loaded, pool)

    return answer


async def _describe_world(_: Request, loaded: LoadedWorld, pool: WorldPool) -> Response:
    hello = loaded.hello(loaded.world, await loaded.reference_env())
    state = {"players": pool.n_clients, "sessions": pool.config.limits.sessions}
    return JSONResponse({**hello, "type": "world", "card": loaded.card, **state})


async def _initial_contexts(_: Request, loaded: LoadedWorld, pool: WorldPool) -> Response:
    return JSONResponse(await loaded.initial_contexts())


async def _upload_image(request: Request, loaded: LoadedWorld, pool: WorldPool) -> Response:
    """Start a client's episode from an image; the only data that a client may send besides messages."""
    limits, spec = pool.config.limits, loaded.world.spec
    key, input_id = (request.query_params.get(name, "") for name in ("player", "id"))
    client = loaded.clients.get(key)
    if client is None:
        return PlainTextResponse("there is no player of this key", 404)
    if not client.accepts_images:
        return PlainTextResponse("the real environment cannot start from an image", 409)
    if not (input_id.isascii() and input_id.isdigit() and len(input_id) <= 10 and int(input_id) <= MAX_ID):
        return PlainTextResponse("id must be a whole number", 400)
    now = time.monotonic()
    if now < client.next_upload:
        return PlainTextResponse("one image at a time; wait a moment", 429)
    client.next_upload = math.inf  # until this upload has ended, however long it takes
    try:
        content = await _read_body(request, limits.upload_bytes)
    finally:
        client.next_upload = now + limits.upload_seconds
    if len(content) > limits.upload_bytes:
        return PlainTextResponse(f"an image is at most {limits.upload_bytes:,} bytes", 413)
    try:
        frame = await asyncio.to_thread(decode_image, content, spec.height, spec.width, limits.upload_pixels)
    except UserError as error:
        return PlainTextResponse(str(error), 415)
    client.player.start_from(frame[None], int(input_id))
    return JSONResponse({"ok": True})


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """Read a body; one that is too long is cut a little after the limit."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            break
    return bytes(content)
