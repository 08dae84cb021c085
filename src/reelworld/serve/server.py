"""Run the play page on a local port.

``find_port`` takes the wanted port or the next free one and keeps it, so that no other program can slip
in before the server starts.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from reelworld.serve.app import Limits, create_app
from reelworld.serve.playable import Playable
from reelworld.serve.protocol import MAX_MESSAGE_BYTES
from reelworld.serve.shelf import Shelf
from reelworld.types import UserError

__all__ = ["configure", "find_port", "serve"]

N_PORTS = 50  # ports tried before giving up


def find_port(host: str, port: int) -> socket.socket:
    """Open a listening socket on the first free port from ``port`` on.

    Args:
        host: Address to listen on.
        port: Wanted port; 0 takes any free one.

    Raises:
        UserError: If the address is not this machine's, or no port is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + N_PORTS, 65536)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there the option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise UserError(
                    f"cannot listen on {host} ({error.strerror or error}); use an address of this machine, "
                    "e.g. --host 127.0.0.1."
                ) from None
    raise UserError(f"no port from {port} to {port + N_PORTS - 1} is free; choose another with --port.")


def configure(app: Starlette) -> uvicorn.Config:
    """Set a web server up for a play page."""
    return uvicorn.Config(
        app,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # frames are compressed already
        timeout_graceful_shutdown=1,
        server_header=False,
    )


def serve(
    world: Playable | Shelf,
    *,
    announce: Callable[[str, int], None],
    card: str = "",
    host: str = "127.0.0.1",
    port: int = 8000,
    open_browser: bool = True,
    limits: Limits | None = None,
    n_threads: int = 1,
    record: Path | None = None,
    allow_code: Sequence[str] = (),
) -> None:
    """Serve a world, or a shelf of them, until the process is interrupted.

    Args:
        world: The world to play, or several behind a gallery.
        announce: Called once with the page's address and port when the page can be opened.
        card: The world's card, Markdown.
        host: Address to listen on; off loopback the page's address carries a token.
        port: Wanted port; the next free one is taken when it is busy.
        open_browser: Open the page in the person's browser.
        limits: What clients may use.
        n_threads: Threads torch may use for a step.
        record: Folder for what players record; None lets nobody record.
        allow_code: Modules that the game beside a world may come from, besides the known packages.
    """
    with find_port(host, port) as listener:
        bound = listener.getsockname()[1]
        token = "" if _is_loopback(host) else secrets.token_urlsafe(16)
        app = create_app(
            world,
            card=card,
            limits=limits,
            hosts=frozenset({host, socket.gethostname().lower()}),
            token=token,
            n_threads=n_threads,
            record=record,
            allow_code=allow_code,
        )
        shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}/{f'?token={token}' if token else ''}"
        announce(url, bound)
        if open_browser and _has_screen():
            # Connections wait in the listening socket until the server answers.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        uvicorn.Server(configure(app)).run(sockets=[listener])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_screen() -> bool:
    """Say whether a browser can show a window; text browsers would take over the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
