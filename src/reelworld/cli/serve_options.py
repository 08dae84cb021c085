"""Options of the verbs that open the play page, and its address on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.serve.config import ServeConfig
    from reelworld.serve.interfaces import Playable
    from reelworld.serve.library import WorldLibrary
    from reelworld.serve.server import PageServer


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Flags of the play page; `record` uses them with --play."""

    port: int = 8000
    """Port to listen on; if it is in use, the next free one."""
    browser: bool = True
    """Open the page in the browser."""
    trust_host: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME")] = ()
    """Host name of a tunnel, proxy or notebook through which the page is opened; repeat for several. The page's
    address then has a token."""
    root_path: str = ""
    """Path of the page behind a proxy, e.g. /user/me/proxy/8000; {port} stands for the port."""

    def config(self) -> ServeConfig:
        """Check the flags, before anything is loaded; return the server's settings."""
        from reelworld.serve.config import ServeConfig

        if not 0 <= self.port <= 65535:
            raise UserError(f"--port is {self.port}; it must be from 0 to 65535 (0 takes any free port).")
        return ServeConfig(trusted_hosts=self.trust_host, root_path=self.root_path)


def serve_page(
    worlds: Playable | WorldLibrary, name: str, config: ServeConfig, options: PageOptions, host: str = "127.0.0.1"
) -> None:
    """Serve the play page until Ctrl-C."""
    from reelworld.serve.server import serve

    def announce(page: PageServer) -> None:
        if options.port not in (0, page.port):
            print(f"port {options.port} is in use; using {page.port}")
        print("\n".join([f"playing {name} at {page.url}", *(f"  or at {url}" for url in page.proxy_urls)]))
        print("Press Ctrl-C to stop", flush=True)

    try:
        serve(worlds, config, announce=announce, host=host, port=options.port, open_browser=options.browser)
    except KeyboardInterrupt:
        print("stopped")
