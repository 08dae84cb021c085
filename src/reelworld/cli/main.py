"""``reelworld VERB``: find the verb, parse its flags, run it, report user errors in one line.

Every verb is a module with a docstring (its help text), a dataclass ``Options`` and ``run(options)``. If flags depend
on the arguments (a system's config), ``options_for(args)`` makes the dataclass. If the help text depends on the table
of systems, ``description()`` makes it. Only the chosen module is imported, and none of them imports torch before
``run``, so that help is fast.
Exit codes: 0 done, 1 a bug, 2 a user error, 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from reelworld import __version__
from reelworld.config import unknown
from reelworld.systems import SYSTEMS
from reelworld.types import UserError

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("reelworld.cli.demo", "record a game, learn it, measure it, play it: all in one"),
    "record": ("reelworld.cli.record", "record episodes of any gymnasium environment"),
    "inspect": ("reelworld.cli.inspect", "look at recordings: table, contact sheet, problems"),
    "convert": ("reelworld.cli.convert", "turn recordings of any format into our own, LeRobot's or Minari's"),
    "train": ("reelworld.cli.train", "turn recordings into a world"),
    "import": ("reelworld.cli.import_checkpoint", "turn published checkpoints of another system into a world"),
    "actions": ("reelworld.cli.actions", "map real actions to the latent ones of a world trained on video"),
    "eval": ("reelworld.cli.eval", "measure a world on episodes it has not seen; write a report"),
    "generate": ("reelworld.cli.generate", "continue a clip or an image, write mp4, gif, png or npz"),
    "play": ("reelworld.cli.play", "play a world in the browser"),
    "pack": ("reelworld.cli.pack", "write a copy of a world to share: half the bytes, a name, known limitations"),
    "bench": ("reelworld.cli.bench", "measure how fast a world encodes, steps and decodes"),
    "systems": ("reelworld.cli.systems", "list the systems, their presets and sizes"),
}
"""Verb -> (module, one line of help); a test compares it with the folder."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Words after ``reelworld``; None takes them from the process.

    Returns:
        The exit code.
    """
    return in_one_line(lambda: _dispatch(list(sys.argv[1:] if argv is None else argv)))


def in_one_line(work: Callable[[], int]) -> int:
    """Run a command; user errors and interruptions become one line and an exit code.

    Args:
        work: Returns the exit code.
    """
    try:
        code = work()
        sys.stdout.flush()  # a closed pipe shows here, not at exit
        return code
    except UserError as error:
        if os.environ.get("REELWORLD_DEBUG") == "1":
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return getattr(error, "exit_code", 130)  # an interrupted training has the exit code of its signal
    except OSError as error:
        return _io_error(error)


def _io_error(error: OSError) -> int:
    """Handle errors of the operating system; anything else is a bug and keeps its traceback."""
    if isinstance(error, BrokenPipeError):
        # The reader of a pipe has closed it (`reelworld ... | head`); silence the flush at exit as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    advice = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space",
        errno.EACCES: "choose a folder you may use",
        errno.EROFS: "choose a folder you may use",
        errno.EPERM: "choose a folder you may use",
        errno.ENOTDIR: "a part of this path is a file: choose another",
        errno.EEXIST: "there is a file where a folder is wanted: choose another path",
        errno.EISDIR: "a file is wanted here: choose another name",
        errno.ENAMETOOLONG: "choose a shorter name",
    }
    if error.errno not in advice or os.environ.get("REELWORLD_DEBUG") == "1":
        raise error
    where = f" ({error.filename})" if error.filename else ""
    print(f"error: {error.strerror}{where}; {advice[error.errno]}, then run it again.", file=sys.stderr)
    return 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"reelworld {__version__}")
        return 0
    verb, *args = words
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)

    from reelworld.cli.parsing import parse

    module = importlib.import_module(VERBS[verb][0])
    try:
        kind = module.options_for(args) if hasattr(module, "options_for") else module.Options
        text = module.description() if hasattr(module, "description") else _help_of(module, kind)
        options = parse(kind, args, f"reelworld {verb}", inspect.cleandoc(text))
    except SystemExit as done:  # after --help
        return int(done.code or 0)
    module.run(options)
    return 0


def _help_of(module: ModuleType, kind: type) -> str:
    """Return the docstring of the module that defines the flags."""
    return sys.modules[kind.__module__].__doc__ or module.__doc__ or ""


def overview() -> str:
    """Return the text of ``reelworld --help``."""
    verbs = "\n".join(f"  {name:<12} {line}" for name, (_, line) in VERBS.items())
    first = next(iter(SYSTEMS))
    return f"""reelworld {__version__}: turn recordings into worlds.

usage: reelworld VERB [flags]        reelworld VERB --help

start here:
  reelworld demo                                      a game becomes a playable world in ten minutes

your own recordings (a folder of videos or .npz episodes):
  reelworld inspect my-videos --size 64 --fit crop
  reelworld train {first} --data my-videos --out runs/mine --size 64 --fit crop
  reelworld play runs/mine/world

a simulator:
  reelworld record MiniGrid-DoorKey-8x8-v0 --out recordings/doors
  reelworld train {first} --data recordings/doors --out runs/doors --max-minutes 5
  reelworld eval runs/doors/world --data recordings/doors

published checkpoints:
  reelworld import --help

verbs:
{verbs}

--version prints the version. REELWORLD_DEBUG=1 shows the traceback behind an error line."""
