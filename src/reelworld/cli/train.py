"""Turn recordings into a world you can play: RUN/world.

RECIPE names how, and perhaps a size: pocket (its default size, small) or pocket:tiny. Recipes so far: pocket,
a small playable world, trained on a laptop CPU in minutes; videogpt, a world that continues clips by itself; genie,
a world whose actions are found in video that names none.
`reelworld systems` lists all sizes, and `reelworld train pocket --help` shows every setting with its default.

Several data sets make a mixture (ivideogpt, without actions unless all have the same): --data PATH=WEIGHT for each,
or one file: {"members": [{"data": PATH, "weight": 0.7, "frame_stride": 3, "read": {"frames": "rgb"}}, ...]}.

The same command resumes a run that was stopped (Ctrl-C, a crash, a power cut) and loses at most the steps
since the last checkpoint. Other settings need another --out.

Examples:
  reelworld train pocket --data recordings/doors --out runs/doors --max-minutes 5
  reelworld train pocket --data my-videos --out runs/mine --size 64 --fit crop
  reelworld train pocket:tiny --data recordings/doors --out runs/try --steps 100
  reelworld train videogpt --data my-videos --out runs/dreams --size 64 --fit crop
  reelworld train genie --data my-videos --out runs/found --size 64 --fit crop
  reelworld train ivideogpt --data robot-episodes --out runs/robot --size 64 --fit stretch --rewards
  reelworld train ivideogpt:small_32 --data robot-episodes --out runs/quick --frame-stride 2 --rewards
  reelworld train ivideogpt --data A=0.7 --data B=0.3 --out runs/both --size 64 --fit stretch --actions none
"""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from reelworld.cli.load_options import set_threads
from reelworld.config import to_json, unknown
from reelworld.data.resize_options import ReadOptions
from reelworld.systems import SYSTEMS
from reelworld.types import Fit, UserError

if TYPE_CHECKING:
    from reelworld.data.mixture import DatasetShare

__all__ = ["LoopOptions", "Options", "find_recipe", "options_for", "run", "train_world"]

Hidden = tyro.conf.Suppress


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How to run the training; none of this changes what is computed on one machine."""

    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:1."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    checkpoint_every: int = 500
    """Steps between checkpoints; at least every three minutes there is one anyway."""
    log_every: int = 20
    """Steps between lines of RUN/log.jsonl."""
    tensorboard: bool = False
    """Also write TensorBoard files to RUN/tensorboard (needs reelworld[tensorboard])."""
    wandb: bool = False
    """Also log to Weights & Biases (needs reelworld[wandb])."""

    def __post_init__(self) -> None:
        for name, least in (("threads", 0), ("checkpoint_every", 1), ("log_every", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; wanted {least} or more.")


@dataclass(frozen=True, kw_only=True)
class Reading(ReadOptions):
    """How the files are read; size and fit belong to the recipe."""

    size: Annotated[int | tuple[int, int] | None, tyro.conf.Fixed, Hidden] = None
    fit: Annotated[Fit, tyro.conf.Fixed, Hidden] = "none"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld train`; with a recipe, its settings join them."""

    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE[:SIZE]")]
    """Recipe, with a size if not the default one."""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH[=WEIGHT]")]
    """Recordings: a folder of .npz episodes or videos, or one file. Several make a mixture; without weights each counts
    by its frames."""
    out: Path
    """Folder of the run; the world goes to its subfolder world. An existing run is resumed."""
    loop: Annotated[LoopOptions, tyro.conf.OmitArgPrefixes] = LoopOptions()
    read: Annotated[Reading, tyro.conf.OmitArgPrefixes] = Reading()


def options_for(args: Sequence[str]) -> type[Options]:
    """Build the flags that a command line can have: those of `train` and those of the recipe it names.

    Raises:
        UserError: If there is no such recipe or size.
    """
    word = next((w for w in args if w.partition(":")[0] in SYSTEMS), "")
    if not word and args and not args[0].startswith("-"):
        word = args[0]
    if not word:
        return Options
    module, size = find_recipe(word)
    config: Any = Annotated[module.Config, tyro.conf.OmitArgPrefixes]
    default = field(default=module.SIZES[size]())
    return dataclasses.make_dataclass(
        "Options", [("config", config, default)], bases=(Options,), frozen=True, kw_only=True
    )


def find_recipe(word: str) -> tuple[ModuleType, str]:
    """Return the module of a recipe and the name of its size.

    Args:
        word: RECIPE or RECIPE:SIZE.

    Raises:
        UserError: If there is no such recipe or size; names the closest.
    """
    name, _, size = word.partition(":")
    if name not in SYSTEMS:
        raise unknown("recipe", name, SYSTEMS)
    module = importlib.import_module(SYSTEMS[name])
    size = size or module.DEFAULT_SIZE
    if size not in module.SIZES:
        raise unknown(f"size of {name}", size, module.SIZES)
    return module, size


def run(options: Options) -> None:
    """Train, and tell what can be done with the world."""
    module, _ = find_recipe(options.recipe)
    config = getattr(options, "config", None)
    if not isinstance(config, module.Config):
        raise UserError(f"give the recipe first: reelworld train {options.recipe} --data ... --out ...")
    from reelworld.data.mixture import members_of
    from reelworld.train.graceful_interrupt import Interrupted

    members = members_of(options.data)
    if not members:
        raise UserError(f"give recordings: reelworld train {options.recipe} --data FOLDER --out ...")

    def stop(signum: int, frame: object) -> None:
        raise Interrupted("stopped. Run the same command again to resume.", signum)

    before = signal.signal(signal.SIGTERM, stop)  # between stages; within one the loop has its own
    try:
        world = train_world(options.recipe, config, members, options.out, read=options.read, loop=options.loop)
    except KeyboardInterrupt as error:
        print(str(error) or "stopped. Run the same command again to resume.", file=sys.stderr)
        raise SystemExit(getattr(error, "exit_code", 130)) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"the world is {world}\n")
    print("next:")
    print(f"  reelworld play {world}")
    print(f"  reelworld eval {world} --data {members[0].data}")


def train_world(
    recipe: str,
    config: Any,
    data: Path | Sequence[DatasetShare],
    out: Path,
    *,
    read: ReadOptions | None = None,
    loop: LoopOptions | None = None,
) -> Path:
    """Train a recipe on recordings; return the folder of the world.

    Args:
        recipe: RECIPE or RECIPE:SIZE.
        config: A config of that recipe.
        data: The recordings, or the members of a mixture of several.
        out: The run's folder; an existing run of the same config is resumed, a finished one is left alone.
        read: How foreign files are read; size and fit are the config's.
        loop: How to run the training.
    """
    from rich.console import Console

    from reelworld.data.mixture import Mixture, members_of, only_data, open_recordings
    from reelworld.train.loop import train
    from reelworld.train.run import Run

    module, size = find_recipe(recipe)
    members = members_of([str(data)]) if isinstance(data, Path) else list(data)
    path = only_data(members)
    if path is None and not getattr(module, "TAKES_MIXTURES", False):
        raise UserError(f"{recipe} learns from one data set; give one --data, or use ivideogpt.")
    loop, console = loop or LoopOptions(), Console()
    read = ReadOptions(**{**vars(read or ReadOptions()), "size": config.size, "fit": config.fit})
    record = {
        "recipe": recipe.partition(":")[0],
        "size": size,
        "data": str(path.resolve()) if path else to_json([replace(m, data=m.data.resolve()) for m in members]),
        "fields": to_json(config),
        "read": to_json(read),
    }
    dataset = open_recordings(members, read, with_actions=getattr(config, "actions", "given") == "given")
    parts = module.build(config, dataset.info)
    with Run.open(out, record) as training:
        world = training.folder / "world"
        if (world / "world.json").exists():
            console.print(f"{out} is finished; nothing to do.", markup=False, highlight=False, soft_wrap=True)
            return world
        lines = [f"skipped: {problem}" for problem in dataset.problems]
        for line in [*(dataset.described() if isinstance(dataset, Mixture) else []), *lines]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        _mirror(training, loop, record)
        set_threads(loop.threads)
        train(
            module.stages(config, parts, dataset, training),
            training,
            parts,
            seed=config.seed,
            device=loop.device,
            checkpoint_every=loop.checkpoint_every,
            log_every=loop.log_every,
            console=console,
        )
        finished = module.finish(config, parts, dataset, training)
        made = {**finished.info.provenance, "training": _how_it_was_made(out)}
        finished.info = replace(finished.info, provenance=made)
        finished.save(world)
    return world


def _how_it_was_made(out: Path) -> dict[str, Any]:
    """Say by which command, on what and in which time a run was trained, for the world's card."""
    from reelworld.evaluate.results import read_training_log
    from reelworld.system_info import commit, describe_machine, now

    last = {str(point["stage"]): point for point in read_training_log(out / "log.jsonl")}
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        "finished": now(),
        "hardware": describe_machine(),
        "stages": {stage: {k: point[k] for k in ("stage_step", "minutes")} for stage, point in last.items()},
    }


def _mirror(training: Any, loop: LoopOptions, record: dict[str, Any]) -> None:
    from reelworld.train.console import tensorboard_sink, wandb_sink

    if loop.tensorboard:
        checkpoint = training.checkpoint
        first_step = checkpoint.state.step if checkpoint else 0
        training.sinks.append(tensorboard_sink(training.folder / "tensorboard", first_step))
    if loop.wandb:
        training.sinks.append(wandb_sink(training.folder, record))
