"""Run the play page on a local port.

``find_port`` opens the requested port or the next free one and keeps it open, so that no other program can take it
before the server starts.
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
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from reelworld.serve.app import create_app
from reelworld.serve.config import ServeConfig
from reelworld.serve.interfaces import Playable
from reelworld.serve.library import WorldLibrary
from reelworld.serve.protocol import MAX_MESSAGE_BYTES
from reelworld.types import UserError

N_PORTS = 50  # ports tried before giving up


def find_port(host: str, port: int) -> socket.socket:
    """Open a listening socket on the first free port from ``port`` on.

    Args:
        host: Address to listen on.
        port: Requested port; 0 takes any free one.

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
    """Return the web server's settings for a play page."""
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
    worlds: Playable | WorldLibrary,
    config: ServeConfig | None = None,
    *,
    announce: Callable[[str, int], None],
    host: str = "127.0.0.1",
    port: int = 8000,
    open_browser: bool = True,
) -> None:
    """Serve a world, or a library of worlds, until the process is interrupted.

    Args:
        worlds: The world to play, or several in a gallery.
        config: Settings of the server.
        announce: Called once with the page's address and port when the page can be opened.
        host: Address to listen on; off loopback the page's address carries a token.
        port: Requested port; the next free one is taken when it is busy.
        open_browser: Open the page in the user's browser.
    """
    with find_port(host, port) as listener:
        bound = listener.getsockname()[1]
        token = "" if _is_loopback(host) else secrets.token_urlsafe(16)
        app = create_app(worlds, config, hosts=frozenset({host, socket.gethostname().lower()}), token=token)
        name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        url = f"http://{f'[{name}]' if ':' in name else name}:{bound}/{f'?token={token}' if token else ''}"
        announce(url, bound)
        if open_browser and _has_display():
            # Connections wait in the listening socket until the server accepts them.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        uvicorn.Server(configure(app)).run(sockets=[listener])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_display() -> bool:
    """Return True when a browser can open a window; text browsers would take over the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
