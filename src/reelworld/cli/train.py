"""Train a system on recordings; the world is written to RUN/world.

SYSTEM is a name, perhaps with a preset: NAME or NAME:PRESET. `reelworld systems` lists them, and
`reelworld train NAME --help` shows every field of its config with the preset's value.

Several data sets make a mixture, without actions unless all have the same: --data PATH=WEIGHT for each, or one file:
{"members": [{"data": PATH, "weight": 0.7, "frame_stride": 3, "read": {"frames": "rgb"}}, ...]}.

The same command resumes a run that was stopped (Ctrl-C, a crash, a power cut) and loses at most the steps
since the last checkpoint; recordings and run may have been moved in between. The steps of the last stage and
--max-minutes may be raised, also of a finished run. Another config needs another --out.

Examples:
"""

from __future__ import annotations

import dataclasses
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from reelworld.cli.load_options import set_threads
from reelworld.config import to_json
from reelworld.data.resize_options import ReadOptions
from reelworld.models.system import System, SystemConfig
from reelworld.systems import SYSTEMS, all_systems, find_system
from reelworld.types import Fit, UserError

if TYPE_CHECKING:
    from reelworld.data.mixture import DatasetShare
    from reelworld.train.run import Run


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Options of the training run; none of them changes the results on one machine."""

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
    """Reading of the files; size and fit are fields of the config."""

    size: Annotated[int | tuple[int, int] | None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    fit: Annotated[Fit, tyro.conf.Fixed, tyro.conf.Suppress] = "none"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld train`; with a system, the fields of its config join them."""

    system: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SYSTEM[:PRESET]")]
    """System, with a preset if not the default one."""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH[=WEIGHT]")]
    """Recordings: a folder of .npz episodes or videos, or one file. Several make a mixture; without weights each counts
    by its frames."""
    out: Path
    """Folder of the run; the world goes to its subfolder world. An existing run is resumed."""
    tokenizer_from: Path | None = None
    """Run or world whose tokenizer is used as it is: only the other parts are trained. It needs the same size and
    --tokenizer. flags."""
    loop: Annotated[LoopOptions, tyro.conf.OmitArgPrefixes] = LoopOptions()
    read: Annotated[Reading, tyro.conf.OmitArgPrefixes] = Reading()


def description() -> str:
    """Return the help text: the module's, and the examples of all systems."""
    examples = [f"  reelworld train {words}" for system in all_systems() for words in system.examples]
    return "\n".join([(__doc__ or "").rstrip(), *examples])


def options_for(args: Sequence[str]) -> type[Options]:
    """Build the flags that a command line can have: those of `train` and those of the system it names.

    Raises:
        UserError: If there is no such system or preset.
    """
    word = next((w for w in args if w.partition(":")[0] in SYSTEMS), "")
    if not word and args and not args[0].startswith("-"):
        word = args[0]
    if not word:
        return Options
    system, preset = find_preset(word)
    config: Any = Annotated[system.config, tyro.conf.arg(name="")]
    default = field(default=system.preset(preset))
    return dataclasses.make_dataclass(
        "Options", [("config", config, default)], bases=(Options,), frozen=True, kw_only=True
    )


def find_preset(word: str) -> tuple[System, str]:
    """Return a system and the name of one of its presets.

    Args:
        word: SYSTEM or SYSTEM:PRESET.

    Raises:
        UserError: If there is no such system or preset; names the closest.
    """
    name, _, preset = word.partition(":")
    system = find_system(name)
    system.preset(preset)
    return system, preset or system.default


def run(options: Options) -> None:
    """Train, and print the next commands."""
    system, _ = find_preset(options.system)
    config = getattr(options, "config", None)
    if not isinstance(config, system.config):
        raise UserError(f"give the system first: reelworld train {options.system} --data ... --out ...")
    from reelworld.data.mixture import members_of
    from reelworld.train.graceful_interrupt import Interrupted

    members = members_of(options.data)
    if not members:
        raise UserError(f"give recordings: reelworld train {options.system} --data FOLDER --out ...")

    def stop(signum: int, frame: object) -> None:
        raise Interrupted("stopped. Run the same command again to resume.", signum)

    before = signal.signal(signal.SIGTERM, stop)  # between stages; within one the loop has its own
    try:
        world = train_world(
            options.system,
            config,
            members,
            options.out,
            read=options.read,
            loop=options.loop,
            tokenizer_from=options.tokenizer_from,
        )
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
    word: str,
    config: SystemConfig,
    data: Path | Sequence[DatasetShare],
    out: Path,
    *,
    read: ReadOptions | None = None,
    loop: LoopOptions | None = None,
    tokenizer_from: Path | None = None,
) -> Path:
    """Train a system on recordings; return the folder of the world.

    Args:
        word: SYSTEM or SYSTEM:PRESET.
        config: A config of that system.
        data: The recordings, or the members of a mixture of several.
        out: The run's folder; an existing run of the same config is resumed, a finished one is left alone.
        read: Read options of files that are not our own recordings; size and fit are the config's.
        loop: Options of the training loop.
        tokenizer_from: Folder of a run or world whose tokenizer is used and not trained.
    """
    from rich.console import Console

    from reelworld.data.mixture import describe_mixture, members_of, only_data, open_recordings
    from reelworld.train import recordings
    from reelworld.train.data import TrainingData
    from reelworld.train.estimate import describe_duration, estimate_seconds
    from reelworld.train.loop import choose_device, train
    from reelworld.train.run import Run
    from reelworld.train.world import finish, take_part

    system, preset = find_preset(word)
    members = members_of([str(data)]) if isinstance(data, Path) else list(data)
    path = only_data(members)
    if path is None and not system.multi_dataset:
        others = " or ".join(s.name for s in all_systems() if s.multi_dataset)
        raise UserError(f"{system.name} learns from one data set; give one --data, or use {others}.")
    loop, console = loop or LoopOptions(), Console()
    read = ReadOptions(**{**vars(read or ReadOptions()), "size": config.size, "fit": config.fit})
    record = {
        "system": system.name,
        "preset": preset,
        "fields": to_json(config),
        "read": to_json(read),
    }
    known = recordings.recall(out)
    dataset = open_recordings(members, read, config.uses_actions, [m.splits for m in known])
    found = recordings.describe(dataset)
    if known:
        recordings.check_same(out, known, found)
    kept = [{"weight": m.weight, "frame_stride": m.frame_stride, "read": to_json(m.read)} for m in members]
    mixed = [{**how, **what.summary} for how, what in zip(kept, found, strict=True)]
    record["data"] = found[0].summary if path else mixed
    model = system.module("model").build(config, dataset.info)
    given = frozenset({"tokenizer"} if tokenizer_from else ())
    if tokenizer_from:
        record["tokenizer"] = take_part(model, "tokenizer", tokenizer_from)
    with Run.open(out, record) as training:
        recordings.remember(training.folder, found, read.split_seed)
        world = training.folder / "world"
        for text in training.raised:
            console.print(
                f"{text}: the training goes on with the trained weights, a new optimizer, and the rest of the longer "
                "learning-rate schedule.", markup=False, highlight=False, soft_wrap=True
            )  # fmt: skip
        if training.is_finished:
            console.print(f"{out} is finished; nothing to do.", markup=False, highlight=False, soft_wrap=True)
            return world
        lines = [f"skipped: {problem}" for problem in dataset.problems]
        for line in [*describe_mixture(dataset), *lines]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        _mirror(training, loop, record)
        set_threads(loop.threads)
        clips = TrainingData(dataset, config, training.folder, given)
        if not training.checkpoint:
            seconds = (
                {}
                if config.max_minutes
                else estimate_seconds(system, config, dataset.info, choose_device(loop.device), given)
            )
            if config.max_minutes or seconds:
                console.print(describe_duration(config, seconds), markup=False, highlight=False, soft_wrap=True)
        train(
            system.module("train").stages(config, model, clips),
            training,
            model.parts,
            seed=config.seed,
            given=given,
            device=loop.device,
            checkpoint_every=loop.checkpoint_every,
            log_every=loop.log_every,
            console=console,
        )
        finished = finish(system, config, model, clips)
        made = {**finished.info.provenance, "training": _how_it_was_made(out)}
        finished.info = replace(finished.info, provenance=made)
        finished.save(world)
    return world


def _how_it_was_made(out: Path) -> dict[str, object]:
    """Return command, data and duration of a run's training, for the world's card."""
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


def _mirror(training: Run, loop: LoopOptions, record: Mapping[str, object]) -> None:
    from reelworld.train.console import tensorboard_sink, wandb_sink

    if loop.tensorboard:
        checkpoint = training.checkpoint
        first_step = checkpoint.state.step if checkpoint else 0
        training.sinks.append(tensorboard_sink(training.folder / "tensorboard", first_step))
    if loop.wandb:
        training.sinks.append(wandb_sink(training.folder, record))
