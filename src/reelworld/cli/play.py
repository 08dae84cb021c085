"""Play a world in the browser, or choose one in a gallery.

Without WORLD the gallery has the shipped worlds and all worlds in runs/.

Starts a small server on this machine and opens its page. Nothing is sent anywhere else.

Examples:
  reelworld play                                       (a gallery: shipped worlds, and those in runs/)
  reelworld play doorkey                               (a shipped world, by its name)
  reelworld play runs/demo/world
  reelworld play runs/demo/world --port 9000 --no-browser
  reelworld play runs/demo/world --record recordings/mine   (save what you play as a data set with videos)
  reelworld play runs/demo/world --data recordings/other   (start from these recordings)
  reelworld play runs/demo/world --host 0.0.0.0        (for other machines; the address has a token)
  reelworld play runs/demo/world --trust-host my-tunnel.example.org      (through a tunnel; see docs/playing.md)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from reelworld.cli.load_options import load_world
from reelworld.cli.serve_options import PageOptions, serve_page
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.serve.library import WorldLibrary
    from reelworld.worlds.world import World


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld play``."""

    worlds: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[WORLD ...]")] = ()
    """Folders of worlds, e.g. runs/demo/world, or names of shipped worlds. Without any: a gallery of all worlds."""
    host: str = "127.0.0.1"
    """Address to listen on; by default only this machine can connect."""
    page: Annotated[PageOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PageOptions)
    players: int = 8
    """Tabs that may play at the same time."""
    threads: int = 1
    """CPU threads for the model; small worlds are fastest with one."""
    data: Path | None = None
    """Recordings to start episodes from; without it, the world's own initial contexts."""
    record: Path | None = None
    """Folder of recordings: a data set, and a video of every episode. Without it, recording is off."""
    device: str = "cpu"
    """Device of the model: auto (a GPU if there is one), cpu, cuda or cuda:1."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the world's parts and its real environment may come from."""


def run(options: Options) -> None:
    """Load the world and serve its page until Ctrl-C."""
    if options.players < 1 or options.threads < 1:
        raise UserError(f"--players is {options.players}, --threads {options.threads}; both must be 1 or more.")

    config = options.page.config()

    from reelworld.serve.config import Limits

    world, name, card = _gallery(options) if len(options.worlds) != 1 else _one_world(options)

    config = replace(
        config,
        limits=Limits(sessions=options.players),
        n_threads=options.threads,
        record=options.record,
        allow_code=options.allow_code,
        card=card,
    )
    serve_page(world, name, config, options.page, options.host)


def _one_world(options: Options) -> tuple[World, str, str]:
    """Load the world; return it with its name and its card."""
    from reelworld.worlds.locate import world_folder

    (folder,) = options.worlds
    world = load_world(folder, options.device, options.allow_code)
    if options.data is not None:
        from reelworld.serve.initial_contexts import sample_initial_contexts

        world.initial_contexts = sample_initial_contexts(options.data, world.spec, world.info.provenance)
    card = world_folder(folder) / "README.md"
    return world, world.info.name, card.read_text(encoding="utf-8") if card.is_file() else ""


def _gallery(options: Options) -> tuple[WorldLibrary, str, str]:
    """Collect the worlds in a library, which loads them on demand; return it with its name and an empty card."""
    from reelworld.serve.library import WorldLibrary, find_worlds, read_entry
    from reelworld.worlds.locate import SHIPPED, shipped_folder

    if options.data is not None:
        raise UserError("--data belongs to one world; name the world as well.")
    shipped = tuple(shipped_folder(name) for name in SHIPPED)
    folders = options.worlds or (*shipped, *find_worlds(Path("runs")))
    if not folders:
        raise UserError("there are no worlds in runs/; train one (reelworld demo) or name the folder of a world.")
    entries = [read_entry(folder, lambda f: load_world(f, options.device, options.allow_code)) for folder in folders]
    return WorldLibrary(entries), f"{len(entries)} world{'s' if len(entries) > 1 else ''}", ""
