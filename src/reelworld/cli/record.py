"""Record episodes of a gymnasium environment, losslessly, as a data set; play it yourself with --play.

`reelworld record --screen --help`: record a window of any program with its keys and mouse.

Equal seeds give equal files. An interrupted recording keeps every finished episode; the same command records the
missing ones.

Examples:
  reelworld record MiniGrid-DoorKey-8x8-v0 --out recordings/doors --episodes 1500
  reelworld record CarRacing-v3 --out recordings/cars --episodes 60
  reelworld record CartPole-v1 --out recordings/poles --size 64 --policy my_module:my_policy
  reelworld record dm_control/reacher-easy --out recordings/arms   (pip install 'reelworld[robotics]')
  reelworld record --play CarRacing-v3 --out recordings/mine   (you play, in the browser; the same command continues)
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import tyro

from reelworld.cli import record_screen
from reelworld.cli.record_screen import ScreenOptions
from reelworld.cli.serve_options import PageOptions, serve_page
from reelworld.envs.presets import WrapperConfig
from reelworld.types import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from reelworld.envs.recorder import RecordConfig, RecordedEpisode


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld record`; None takes the environment's preset, else the default named there."""

    env_id: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV_ID")]
    """Name of a gymnasium environment, or 'module:Name' to import the module first."""
    out: Path
    """Folder of the data set."""
    episodes: int = 100
    """Number of episodes."""
    seed: int = 0
    """Episode i is made from seed + i; use another range of seeds for held-out recordings."""
    policy: str | None = None
    """Policy: random; explorer, solver, waypoints, glancer (MiniGrid); driver (CarRacing); smooth, balancer, reacher
    (robots); 'module:function'; or a mixture such as 'explorer:0.6,solver:0.2,random:0.2'. Default: the preset's,
    else random."""
    max_steps: int | None = None
    """Steps after which an episode is truncated. Default: the preset's (MiniGrid, CarRacing), else 1,000."""
    processes: int = 0
    """Worker processes; 0 is one per CPU core. The files do not depend on it."""
    frames: Literal["render", "observation"] | None = None
    """Source of frames: rgb_array rendering (default) or the observation."""
    drawing: Literal["environment", "fast"] | None = None
    """Renderer: the environment's (default), or a fast one for MiniGrid (equal pixels), CarRacing (own style) and
    MuJoCo (no shadows)."""
    size: int | tuple[int, int] | None = None
    """Pixels to resize frames to: one number for squares, or height and width. Default: the environment's."""
    resize: Literal["area", "nearest"] | None = None
    """Resize by exact area mean (default) or nearest pixel."""
    tile_size: int | None = None
    """Pixels per tile of MiniGrid worlds; the same as the env-kwarg tile_size."""
    action_repeat: int | None = None
    """Environment steps for which an action is held; rewards are summed. Default: 1."""
    warmup_steps: int | None = None
    """Environment steps with the null action before the first frame. Default: 0."""
    env_kwargs: str = "{}"
    """JSON object of arguments for the environment, e.g. '{"highlight": true}'; merged into the preset's."""
    wrapper: tuple[str, ...] = ()
    """Wrappers, innermost first: 'module:Class' or 'module:Class={"arg": 1}'; 'none' drops the preset's."""
    play: bool = False
    """Play the environment yourself in the browser instead of a policy; every episode is recorded."""
    page: Annotated[PageOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PageOptions)


def options_for(args: Sequence[str]) -> type[Options] | type[ScreenOptions]:
    """Return the flags that a command line can have: those of the screen with --screen."""
    return ScreenOptions if "--screen" in args else Options


def run(options: Options | ScreenOptions) -> None:
    """Record and show progress."""
    if isinstance(options, ScreenOptions):
        return record_screen.run(options)
    from reelworld.envs.recorder import record

    config = _config(options)
    if options.play:
        return _play(options, config)
    n_processes = options.processes or (os.cpu_count() or 1)
    if n_processes < 0:
        raise UserError(f"processes is {options.processes}; wanted 0 (one per core) or more.")
    before = signal.signal(signal.SIGTERM, _interrupt)
    meter = _Meter(config.episodes)
    try:
        record(config, options.out, n_processes=n_processes, on_episode=meter)
    except KeyboardInterrupt:
        meter.bar.stop()
        print(f"stopped: {meter.n_episodes} of {config.episodes} episodes are kept; the same command goes on.")
        raise
    finally:
        meter.bar.stop()
        signal.signal(signal.SIGTERM, before)
    print(f"{meter.n_episodes} episodes, {meter.n_frames:,} frames in {options.out} ({meter.n_new} episodes are new)")


def _play(options: Options, config: RecordConfig) -> None:
    """Serve the environment's page until Ctrl-C."""
    settings = options.page.config()
    if options.policy is not None or options.max_steps is not None:
        raise UserError("--policy and --max-steps are for recordings without a person; leave them out with --play.")

    from reelworld.serve.config import Limits
    from reelworld.serve.recording import check_folder, count_episodes, discard_if_empty
    from reelworld.serve.reference_env import PlayableEnv

    check_folder(options.out)
    before = count_episodes(options.out)
    settings = replace(settings, limits=Limits(sessions=1), record=options.out)
    env = PlayableEnv(config.simulator)
    serve_page(env, config.simulator.env_id, settings, options.page)
    discard_if_empty(options.out)
    n_episodes, n_frames = count_episodes(options.out)
    print(f"{n_episodes} episodes, {n_frames:,} frames in {options.out} ({n_episodes - before[0]} episodes are new)")


class _Meter:
    """Progress bar of finished episodes; shown from the first one on, so that errors come without it."""

    def __init__(self, n_episodes: int) -> None:
        self.bar = _progress()
        self.task = self.bar.add_task("recording", total=n_episodes, speed="")
        self.n_episodes = self.n_frames = self.n_new = self.n_new_frames = 0

    def __call__(self, recorded: RecordedEpisode) -> None:
        self.bar.start()
        self.n_episodes += 1
        self.n_frames += recorded.n_frames
        if recorded.is_new:
            self.n_new += 1
            self.n_new_frames += recorded.n_frames
            elapsed = self.bar.tasks[self.task].elapsed or 0
            speed = f"{self.n_new_frames / elapsed:,.0f} frames/s" if elapsed else ""
            self.bar.update(self.task, completed=self.n_episodes, speed=speed)
        else:
            self.bar.update(self.task, completed=self.n_episodes)


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes  {task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )


def _interrupt(*_: object) -> NoReturn:
    """Treat SIGTERM like Ctrl-C: keep finished episodes, end cleanly."""
    raise KeyboardInterrupt


def _config(options: Options) -> RecordConfig:
    from reelworld.envs.recorder import record_config

    env_kwargs = _json_object(options.env_kwargs, "--env-kwargs")
    if options.tile_size is not None:
        env_kwargs["tile_size"] = options.tile_size
    same = ("frames", "drawing", "resize", "action_repeat", "warmup_steps")
    settings: dict[str, Any] = {name: getattr(options, name) for name in same} | {
        "size": (options.size, options.size) if isinstance(options.size, int) else options.size,
        "env_kwargs": env_kwargs or None,
        "wrappers": tuple(_wrapper(w) for w in options.wrapper if w != "none") if options.wrapper else None,
    }
    return record_config(
        options.env_id,
        episodes=options.episodes,
        seed=options.seed,
        policy=options.policy,
        max_steps=options.max_steps,
        **{name: value for name, value in settings.items() if value is not None},
    )


def _wrapper(text: str) -> WrapperConfig:
    path, _, kwargs = text.partition("=")
    return WrapperConfig(path=path, kwargs=_json_object(kwargs or "{}", f"--wrapper {path}"))


def _json_object(text: str, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{flag} got {text!r}, which is not JSON ({error}); wanted e.g. '{{\"size\": 8}}'.") from None
    if not isinstance(value, dict):
        raise UserError(f"{flag} got {text!r}; wanted a JSON object, e.g. '{{\"size\": 8}}'.")
    return value
