"""The play page in a notebook.

    from reelworld import notebook
    page = notebook.play("doorkey")
    page.close()

The page is shown in a frame. Its server runs in a thread of the kernel, on a free port of this machine. Where the
browser cannot reach that port, the notebook's own server must pass the page on, e.g. with jupyter-server-proxy:

    notebook.play("doorkey", trust_hosts=["hub.example.org"], root_path="/user/me/proxy/{port}")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reelworld.serve.config import ServeConfig
from reelworld.serve.interfaces import Playable
from reelworld.serve.server import PageServer
from reelworld.types import UserError
from reelworld.worlds.locate import world_folder
from reelworld.worlds.world import World

LOOPBACK = ("localhost", "127.0.0.1")
"""Hosts of a local notebook, which frames the page from another port."""


@dataclass(frozen=True)
class NotebookPage:
    """Play page that is served until it is closed or the kernel ends."""

    server: PageServer
    url: str
    """Address of the frame; relative to the notebook's address behind a proxy with a path."""

    def close(self) -> None:
        """Stop the server; recordings are finished."""
        self.server.close()

    def __repr__(self) -> str:
        return f"<play page at {self.url}>"


def play(
    world: Playable | Path | str,
    *,
    port: int = 0,
    trust_hosts: Sequence[str] = (),
    root_path: str = "",
    record: Path | str | None = None,
    threads: int = 1,
    allow_code: Sequence[str] = (),
    width: str | int = "100%",
    height: int = 720,
) -> NotebookPage:
    """Serve a world in the background and show its page in the notebook.

    Args:
        world: A world, its folder, or the name of a shipped one.
        port: Port to listen on; 0 takes any free one.
        trust_hosts: Host names of the notebook's address, if they are not this machine's.
        root_path: Path under which the notebook's server passes the page on; ``{port}`` stands for the port.
        record: Folder of recordings; None turns recording off.
        threads: CPU threads for the model.
        allow_code: Modules outside reelworld that the world's parts and its real environment may come from.
        width: Width of the frame, in pixels or as a CSS length.
        height: Height of the frame, pixels.

    Raises:
        UserError: If IPython is missing, the world cannot be read, or a setting is invalid.
    """
    try:
        from IPython.display import IFrame, display
    except ImportError:
        raise UserError(
            "reelworld.notebook needs IPython: pip install 'reelworld[notebook]', or play with reelworld play."
        ) from None

    hosts = (trust_hosts,) if isinstance(trust_hosts, str) else tuple(trust_hosts)
    config = ServeConfig(trusted_hosts=(*hosts, *LOOPBACK), root_path=root_path)
    card = ""
    if isinstance(world, (str, Path)):
        file = world_folder(world) / "README.md"
        card = file.read_text(encoding="utf-8") if file.is_file() else ""
        world = World.load(world, allow_code=allow_code)
    config = replace(
        config,
        n_threads=threads,
        record=None if record is None else Path(record),
        allow_code=tuple(allow_code),
        card=card,
    )
    server = PageServer(world, config, port=port)
    server.start()
    page = NotebookPage(server, _frame_address(server, hosts))
    display(IFrame(page.url, width, height, extras=['allow="gamepad; fullscreen"']))
    return page


def _frame_address(server: PageServer, hosts: Sequence[str]) -> str:
    """Return the page's address for the browser: on the notebook's host, through a tunnel, or direct."""
    if server.config.root_path:
        return f"{server.config.root_path}/{server.query}"
    return server.proxy_urls[0] if hosts else server.url
