"""Settings of a server: resource limits, recording, trusted code, and proxies in front of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from reelworld.types import UserError

IN_PATHS = "%{}@:!$()*+,;=~"
"""Characters of a path that keep their form, besides letters, digits, ``-``, ``.`` and ``_``."""
OWN_PREFIXES = ("/api", "/play")
"""Addresses of the server that a prefix would hide."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Resource limits of one server and of each of its clients."""

    sessions: int = 8
    """Clients that play at the same time."""
    messages_per_second: float = 240.0
    """Messages per client, on average; a 60 fps world with acknowledgements needs fewer than 150."""
    burst: float = 480.0
    """Messages that a client may send at once."""
    idle_seconds: float = 900.0
    """Seconds without input after which a session ends."""
    rewind_bytes: int = 1 << 26
    """Largest rewind buffer of a client."""
    total_rewind_bytes: int = 1 << 29
    """Largest sum of all rewind buffers."""
    episode_bytes: int = 1 << 28
    """Largest episode buffer of a client that records."""
    upload_bytes: int = 1 << 23
    """Largest image file that a client may upload."""
    upload_pixels: int = 1 << 24
    """Most pixels of it that are decoded."""
    upload_seconds: float = 1.0
    """Least time between two uploads of a client."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Settings of one server."""

    limits: Limits = field(default_factory=Limits)
    n_threads: int = 1
    """Threads torch may use for a step."""
    record: Path | None = None
    """Folder of recordings, with a subfolder per world of a library; None turns recording off."""
    allow_code: tuple[str, ...] = ()
    """Modules that reference environments may come from, besides the known packages."""
    card: str = ""
    """Card of a single world, Markdown."""
    trusted_hosts: tuple[str, ...] = ()
    """Host names of proxies and tunnels: accepted in Host and Origin, and allowed to frame the page."""
    root_path: str = ""
    """Path of the page behind a proxy, e.g. /user/me/proxy/8000; ``{port}`` stands for the server's port."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trusted_hosts", parse_hosts(self.trusted_hosts))
        object.__setattr__(self, "root_path", parse_root_path(self.root_path))

    @property
    def is_proxied(self) -> bool:
        """True when a proxy or a tunnel can make the server reachable from other machines."""
        return bool(self.trusted_hosts or self.root_path)

    @property
    def base_href(self) -> str:
        """Base of the page's relative addresses."""
        return f"{self.root_path}/" if self.root_path else "./"

    def at_port(self, port: int) -> ServeConfig:
        """Insert the server's port in the root path."""
        return replace(self, root_path=self.root_path.replace("{port}", str(port)))


def parse_hosts(names: Sequence[str]) -> tuple[str, ...]:
    """Check host names and return them in lower case, without repetitions.

    Raises:
        UserError: If one is a URL, has a port or a wildcard, or is no host name.
    """
    for name in names:
        if re.fullmatch(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", name.lower()) is None or len(name) > 253:
            found = re.search(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", name.lower())
            example = found.group() if found else "my-tunnel.example.org"
            raise UserError(
                f"--trust-host is {name!r}; it must be one host name without scheme, port, path or wildcard, "
                f"e.g. {example}."
            )
    return tuple(dict.fromkeys(name.lower() for name in names))


def parse_root_path(path: str) -> str:
    """Return a prefix with a leading slash and without a trailing one; empty for none.

    Characters that may stand in a path keep their form: proxies may distinguish ``@`` and ``%40``.

    Raises:
        UserError: If it is a URL, is no plain path, or hides an address of the server.
    """
    parts = path.strip("/").split("/") if path.strip("/") else []
    plain = [unquote(part) for part in parts]
    is_url = "://" in path or path.startswith("//")
    if is_url or any(p in ("", ".", "..") or set(p) & set("/?#\\") or not p.isprintable() for p in plain):
        example = parse_root_path(urlsplit(path).path) if is_url and "://" in path else ""
        raise UserError(
            f"--root-path is {path!r}; it must be the path of a proxy's address, "
            f"e.g. {example or '/user/me/proxy/8000'}."
        )
    prefix = "".join(f"/{quote(part, safe=IN_PATHS)}" for part in parts)
    if prefix in OWN_PREFIXES:
        raise UserError(f"--root-path is {path!r}, which is an address of the server itself; use e.g. /reelworld.")
    return prefix
