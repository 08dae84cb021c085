"""Play worlds in the browser: one that is named, or a gallery of several.

Without a name the gallery has the worlds that come with the package and all in runs/.

Starts a small server on this machine and opens its page. Nothing is sent anywhere else.

Examples:
  reelworld play                                       (a gallery: shipped worlds, and those in runs/)
  reelworld play doorkey                               (a shipped world, by its name)
  reelworld play runs/demo/world
  reelworld play runs/demo/world --port 9000 --no-browser
  reelworld play runs/demo/world --record recordings/mine   (what you play becomes a data set, with films)
  reelworld play runs/demo/world --data recordings/other   (begin at moments of these recordings)
  reelworld play runs/demo/world --host 0.0.0.0        (for other machines; the address carries a token)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from reelworld.cli.load_options import load_world
from reelworld.cli.serve_options import check_port, serve_page
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.serve.shelf import Shelf
    from reelworld.worlds.world import World

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld play``."""

    worlds: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[WORLD ...]")] = ()
    """Folders of worlds, e.g. runs/demo/world, or names of shipped ones; without any, all there are."""
    host: str = "127.0.0.1"
    """Address to listen on; the default admits this machine only."""
    port: int = 8000
    """Port to listen on; the next free one is taken when it is busy."""
    browser: bool = True
    """Open the page in the browser."""
    players: int = 8
    """Tabs that may play at the same time."""
    threads: int = 1
    """CPU threads for the model; small worlds are fastest with one."""
    data: Path | None = None
    """Recordings whose frames a game may begin at; without it, the world's own start clips."""
    record: Path | None = None
    """Folder for what players record: a data set, and a film of every episode. Without it nobody can record."""
    device: str = "cpu"
    """Where the model runs: auto (a GPU if there is one), cpu, cuda or cuda:1."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the world's parts, and the game beside it, may come from."""


def run(options: Options) -> None:
    """Load the world and serve its page until Ctrl-C."""
    if options.players < 1 or options.threads < 1:
        raise UserError(f"--players is {options.players}, --threads {options.threads}; both must be 1 or more.")

    check_port(options.port)
    from reelworld.serve.app import Limits

    world, name, card = _gallery(options) if len(options.worlds) != 1 else _one_world(options)

    serve_page(
        world,
        name,
        card=card,
        host=options.host,
        port=options.port,
        open_browser=options.browser,
        limits=Limits(sessions=options.players),
        n_threads=options.threads,
        record=options.record,
        allow_code=options.allow_code,
    )


def _one_world(options: Options) -> tuple[World, str, str]:
    """Load the world; return it with its name and its card."""
    from reelworld.worlds.locate import world_folder

    (folder,) = options.worlds
    world = load_world(folder, options.device, options.allow_code)
    if options.data is not None:
        from reelworld.serve.starts import clips_of

        world.starts = clips_of(options.data, world.info)
    card = world_folder(folder) / "README.md"
    return world, world.info.name, card.read_text(encoding="utf-8") if card.is_file() else ""


def _gallery(options: Options) -> tuple[Shelf, str, str]:
    """Put the worlds on a shelf; they are loaded when somebody plays them."""
    from reelworld.serve.shelf import Shelf, find_worlds, shelve
    from reelworld.worlds.locate import SHIPPED, shipped_folder

    if options.data is not None:
        raise UserError("--data belongs to one world; name the world as well.")
    shipped = tuple(shipped_folder(name) for name in SHIPPED)
    folders = options.worlds or (*shipped, *find_worlds(Path("runs")))
    if not folders:
        raise UserError("there are no worlds in runs/; train one (reelworld demo) or name the folder of a world.")
    shelved = [shelve(folder, lambda f: load_world(f, options.device, options.allow_code)) for folder in folders]
    return Shelf(shelved), f"{len(shelved)} world{'s' if len(shelved) > 1 else ''}", ""
