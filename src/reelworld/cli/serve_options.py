"""Options of the verbs that open the play page, and its address on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.serve.config import ServeConfig
    from reelworld.serve.interfaces import Playable
    from reelworld.serve.library import WorldLibrary


def check_port(port: int) -> None:
    """Refuse an invalid port before anything is loaded."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}; it must be from 0 to 65535 (0 takes any free port).")


def serve_page(
    worlds: Playable | WorldLibrary, name: str, config: ServeConfig, host: str, port: int, open_browser: bool
) -> None:
    """Serve the play page until Ctrl-C."""
    from reelworld.serve.server import serve

    def announce(url: str, actual: int) -> None:
        if port not in (0, actual):
            print(f"port {port} is in use; using {actual}")
        print(f"playing {name} at {url}\nPress Ctrl-C to stop", flush=True)

    try:
        serve(worlds, config, announce=announce, host=host, port=port, open_browser=open_browser)
    except KeyboardInterrupt:
        print("stopped")
