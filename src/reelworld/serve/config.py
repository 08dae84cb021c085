"""Settings of a server: resource limits, recording and trusted code."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
