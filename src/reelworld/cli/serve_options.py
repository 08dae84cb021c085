"""What the verbs that open the play page share: its port, its address on the terminal, its end by Ctrl-C."""

from __future__ import annotations

from typing import Any

from reelworld.types import UserError

__all__ = ["check_port", "serve_page"]


def check_port(port: int) -> None:
    """Refuse a port that cannot be, before anything is loaded."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}; it must be from 0 to 65535 (0 takes any free port).")


def serve_page(world: Any, name: str, *, port: int, **settings: Any) -> None:
    """Serve until Ctrl-C; ``settings`` are those of ``serve``."""
    from reelworld.serve.server import serve

    def announce(url: str, taken: int) -> None:
        if port not in (0, taken):
            print(f"port {port} is in use, took {taken}")
        print(f"playing {name} at {url}\nCtrl-C ends it", flush=True)

    try:
        serve(world, announce=announce, port=port, **settings)
    except KeyboardInterrupt:
        print("stopped")
