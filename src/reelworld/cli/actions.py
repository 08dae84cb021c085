"""Map real actions to a world's latent ones, fitted on a few hundred labelled steps.

WORLD was trained on video without actions; its latent actions have no names. LABELLED are recordings of the same game
with the actions that were taken. The latent action of some of their steps is compared with the recorded one, and the
resulting map is stored in the world: play, generate, eval, gymnasium and Python then take real actions.

  labels    are drawn from training episodes, from steps that change the
            picture: without a change the action cannot be inferred
  accuracy  of predicting the real action, on the other episodes (test, or
            val); baseline: always predict the most frequent one

Vectors are cut into low, middle and high in each dimension. Weights are unchanged; --undo removes the map.

Examples:
  reelworld actions runs/found/world --data recordings/labelled
  reelworld actions runs/found/world --data recordings/labelled --labels 1000 --out runs/found/mapped
  reelworld actions runs/found/world --undo
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from reelworld.cli.load_options import check_folder, load_world, set_threads
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.models.action_mapping import ActionMap


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld actions``."""

    world: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WORLD")]
    """Folder of a world with latent actions, or of the run that made it."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="LABELLED")] = None
    """Recordings of the same game with its real actions."""
    labels: int = 200
    """Number of labelled steps to fit the map on."""
    split: Literal["val", "test"] | None = None
    """Split to evaluate the map on. Default: test, or val where test is empty."""
    stream: str = ""
    """Action stream of the recordings, where they have several."""
    seed: int = 0
    """Seed of the choice of episodes and labels."""
    out: Path | None = None
    """Folder of the mapped world. Default: WORLD itself is replaced."""
    undo: bool = False
    """Remove the map: the world takes its latent actions again."""
    threads: int = 0
    """CPU threads; 0 is torch's choice."""
    device: str = "cpu"
    """Device of the model: auto (a GPU if there is one), cpu, cuda or cuda:1."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the world's parts may come from."""


def run(options: Options) -> None:
    """Fit, store and print the map; or remove it."""
    if options.undo == (options.data is not None):
        raise UserError("give either --data LABELLED, to fit the map from real actions, or --undo, to take it away.")
    within = options.world / "world"
    folder = options.out or (within if (within / "world.json").is_file() else options.world)
    check_folder(folder)
    if options.out and folder.exists() and any(folder.iterdir()) and folder.resolve() != options.world.resolve():
        raise UserError(f"{folder} is not empty; choose another folder, or leave out --out to change the world itself.")

    from reelworld.worlds.action_mapping import no_latent_actions, with_latent_actions, with_real_actions

    set_threads(options.threads)
    world = load_world(options.world, options.device, options.allow_code)
    if options.data is None:
        with_latent_actions(world).save(folder)
        print(f"{folder} takes its latent actions again")
        return

    if world.system is None or not world.system.evaluation:
        raise no_latent_actions(world)
    module = world.system.module(world.system.evaluation)
    fields = {name: getattr(options, name) for name in ("labels", "stream", "split", "seed")}
    action_map = module.fit_on_recordings(world, options.data, module.MapConfig(**fields))
    with_real_actions(world, action_map).save(folder)
    _show(action_map)
    print(f"\n{folder} now takes real actions (--undo takes the map away)\nnext:\n  reelworld play {folder}")


def _show(action_map: ActionMap) -> None:
    Console().print(_table(action_map))
    held_out = action_map.held_out
    assert held_out is not None
    interval = "" if held_out.low is None else f"95% {held_out.low:.1%} to {held_out.high:.1%}; "
    trials = f"n={held_out.n_steps:,} steps of {held_out.n_episodes} {held_out.split} episodes"
    print(f"real action named   {held_out.accuracy:6.1%}  ({interval}{trials})")
    print(f"  always the most frequent      {held_out.most_frequent:6.1%}")
    n_known = action_map.n_kinds - len(action_map.unseen)
    print(f"  chance among {f'{n_known} actions':<17}{held_out.chance:6.1%}")
    print(f"  most that these latent actions allow (purity) {held_out.purity:.1%}")
    if (held_out.accuracy if held_out.low is None else held_out.low) <= held_out.most_frequent:
        print("the latent actions say no more about the real ones than the most frequent one does: keys may do nothing")
    for text in action_map.limits():
        print(text)


def _table(action_map: ActionMap) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("latent action", "stands for", "of its labels", "labels"):
        table.add_column(name, justify="right" if "labels" in name else "left")
    for i, kind in enumerate(action_map.meanings.tolist()):
        n = action_map.n_labels[i]
        found = (action_map.name(kind), f"{action_map.shares[i]:.0%}") if n else ("-", "-")
        table.add_row(str(i + 1), *found, f"{n:,}")
    return table
