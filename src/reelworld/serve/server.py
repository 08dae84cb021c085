"""Run the play page on a local port, in the foreground or in a thread.

``find_port`` opens the requested port or the next free one and keeps it open, so that no other program can take it
before the server starts.
"""

from __future__ import annotations

import atexit
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

HOST = "127.0.0.1"
"""By default only this machine can connect."""
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


class PageServer:
    """Play page on an open port.

    Off loopback and behind a proxy its addresses carry a token.
    """

    def __init__(
        self, worlds: Playable | WorldLibrary, config: ServeConfig | None = None, *, host: str = HOST, port: int = 0
    ) -> None:
        """Open the port; ``run`` or ``start`` serves it.

        Args:
            worlds: The world to play, or several in a gallery.
            config: Settings of the server.
            host: Address to listen on.
            port: Requested port; the next free one is taken when it is busy, any free one for 0.

        Raises:
            UserError: If the address is not this machine's, or no port is free.
        """
        self._listener = find_port(host, port)
        self.port: int = self._listener.getsockname()[1]
        self.config = (config or ServeConfig()).at_port(self.port)
        needs_token = self.config.is_proxied or not _is_loopback(host)
        token = secrets.token_urlsafe(16) if needs_token else ""
        name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        self.query = f"?token={token}" if token else ""
        self.url = f"http://{f'[{name}]' if ':' in name else name}:{self.port}/{self.query}"
        hosts = frozenset({host, socket.gethostname().lower()})
        try:
            app = create_app(worlds, self.config, hosts=hosts, token=token)
        except BaseException:
            self._listener.close()
            raise
        self._server = uvicorn.Server(configure(app))
        self._thread = threading.Thread(target=self.run, daemon=True)

    @property
    def proxy_urls(self) -> list[str]:
        """Addresses of the page through the trusted hosts, which usually speak https."""
        return [f"https://{name}{self.config.root_path}/{self.query}" for name in self.config.trusted_hosts]

    def run(self) -> None:
        """Serve until the process is interrupted or the server is closed."""
        with self._listener:
            self._server.run(sockets=[self._listener])

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Stop a server in a thread; recordings are finished. A second call does nothing."""
        atexit.unregister(self.close)
        self._server.should_exit = True
        self._thread.join()


def serve(
    worlds: Playable | WorldLibrary,
    config: ServeConfig | None = None,
    *,
    announce: Callable[[PageServer], None],
    host: str = HOST,
    port: int = 8000,
    open_browser: bool = True,
) -> None:
    """Serve a world, or a library of worlds, until the process is interrupted.

    Args:
        worlds: The world to play, or several in a gallery.
        config: Settings of the server.
        announce: Called once with the server when the page can be opened.
        host: Address to listen on.
        port: Requested port; the next free one is taken when it is busy.
        open_browser: Open the page in the user's browser.
    """
    page = PageServer(worlds, config, host=host, port=port)
    announce(page)
    if open_browser and _has_display():
        # Connections wait in the listening socket until the server accepts them.
        threading.Thread(target=webbrowser.open, args=(page.url,), daemon=True).start()
    page.run()


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
