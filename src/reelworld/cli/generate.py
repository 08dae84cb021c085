"""Continue a clip or an image with a world, or begin from nothing, and write what happens as mp4, gif, png or npz.

The first frames are the given ones, pixel for pixel; the rest is made by the world. Actions are the recorded
ones, random ones, or yours; a start without recorded actions after it is continued by random ones. Worlds that
code whole clips make several frames at once, and take as long for one frame as for all of a clip.

Examples:
  reelworld generate runs/doors/world --out short.mp4
  reelworld generate runs/doors/world --data recordings/doors --out doors.mp4
  reelworld generate runs/doors/world --data recordings/doors --actions '2,2,0,3,5' --out keys.gif
  reelworld generate runs/cars/world --image photo.png --actions random --frames 100 --out drive.npz
  reelworld generate runs/robot/world --data robot --samples 6 --frames 40 --out futures.mp4
  reelworld generate runs/reach/world --image now.png --goal then.png --frames 14 --out reach.mp4
  reelworld generate runs/sports/world --context 0 --class-id Surfing --samples 8 --top-p 0.95 --out surf.gif
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from reelworld.cli.load_options import load_world, set_threads
from reelworld.types import UserError

if TYPE_CHECKING:
    import numpy as np

    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["Options", "run"]

TRUSTED_SECONDS = 2.0
"""Before this the time left is not told."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld generate``."""

    world: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WORLD")]
    """Folder of a world, or of the run that made it."""
    out: Path
    """File to write: .mp4, .gif, .png (a sheet of frames) or .npz (exact frames and actions)."""
    data: Path | None = None
    """Recordings whose episode is continued; without it and without an image, a start clip of the world."""
    image: Path | None = None
    """Picture to start from; it is resized and stands still during the context."""
    episode: int = 0
    """Which episode of the split."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Split of the recordings that the episode comes from."""
    start: int = 0
    """First context frame within the episode."""
    goal: Path | None = None
    """Picture of what to go towards, for worlds with goals. Default: that of the world's start clip."""
    context: int | None = None
    """Frames to begin with; 0 begins from nothing (worlds that can). Default: what the world wants."""
    class_id: str | None = None
    """Number or name of the class of what is made, for worlds with classes. Default: that of the start."""
    actions: str | None = None
    """'recorded', 'random', ids such as '2,2,0', or a file (.npy, or .npz with actions). Short lists repeat.
    Default: the recorded ones, or random ones where none were recorded after the context."""
    frames: int = 60
    """Frames to generate after the context."""
    samples: int = 1
    """Futures of the same start, side by side (an .npz holds all of them as 'samples')."""
    seed: int = 0
    """Of the world's draws and of random actions."""
    temperature: float | None = None
    """0 takes the likeliest codes, 1 draws as learned. Default: the world's own."""
    top_k: int | None = None
    """Draw from the k likeliest codes only; 0 draws from all. Default: the world's own."""
    top_p: float | None = None
    """Draw from the likeliest codes that have this much probability together. Default: the world's own."""
    force: bool = False
    """Replace an existing file."""
    threads: int = 1
    """CPU threads; small worlds are fastest with one. 0 leaves the choice to torch."""
    device: str = "cpu"
    """Where the model runs: auto (a GPU if there is one), cpu, cuda or cuda:1."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the world's parts may come from."""


def run(options: Options) -> None:
    """Generate and write."""
    from reelworld.media import check_media_path

    check_media_path(options.out, options.force)
    _check(options)

    import numpy as np

    from reelworld.media import write_media
    from reelworld.worlds.continuation import class_number, context_of, picture_for
    from reelworld.worlds.sample_grid import write_samples

    set_threads(options.threads)
    world = load_world(options.world, options.device, options.allow_code)
    class_id = None if options.class_id is None else class_number(world, options.class_id)
    clip, n_context = _clip(options, world, class_id)
    if options.goal is not None:
        clip = replace(clip, goal=picture_for(world, options.goal, "--goal"))
    actions = _actions(options, world, clip, n_context)
    context = context_of(clip, n_context)
    made = _continue(options, world, context, actions, class_id)
    arrays = _arrays(clip, actions, n_context)
    if options.samples == 1:
        write_media(options.out, np.concatenate([context.frames, made[0]]), world.info.fps, arrays)
    else:
        recorded = clip.frames[n_context:] if n_context else clip.frames[:0]
        write_samples(options.out, context.frames, made, recorded, world.info.fps, arrays)
    times = f", {options.samples} times" if options.samples > 1 else ""
    print(f"{options.out}: {n_context} given frames and {options.frames} generated ones{times}")


def _check(options: Options) -> None:
    """Refuse what cannot be, before anything is loaded."""
    for flag, value in (("--frames", options.frames), ("--samples", options.samples)):
        if value < 1:
            raise UserError(f"{flag} is {value}; it must be at least 1.")
    if options.temperature is not None and not 0 <= options.temperature <= 10:
        raise UserError(f"--temperature is {options.temperature}; it must be from 0 to 10.")
    if options.top_k is not None and options.top_k < 0:
        raise UserError(f"--top-k is {options.top_k}; it must be at least 0.")
    if options.top_p is not None and not 0 < options.top_p <= 1:
        raise UserError(f"--top-p is {options.top_p}; it must be above 0 and at most 1.")
    if options.context is not None and options.context < 0:
        raise UserError(f"--context is {options.context}; it must be at least 0.")
    if options.data is not None and options.image is not None:
        raise UserError("both --data and --image were given; choose one to start from.")
    if options.context == 0 and (options.data or options.image):
        raise UserError("--context 0 begins from nothing; leave out --data and --image, or give --context 1 or more.")


def _actions(options: Options, world: World, clip: Clip, n_context: int) -> dict[str, np.ndarray]:
    from reelworld.worlds.continuation import choose_actions, has_recorded_actions

    wanted = options.actions
    if wanted is None:
        wanted = "recorded" if has_recorded_actions(world, clip, n_context) else "random"
        if wanted == "random":
            print("no actions were recorded after the context: taking random ones (--actions gives others)")
    return choose_actions(world, clip, wanted, n_context, options.frames, options.seed)


def _continue(
    options: Options, world: World, context: Clip, actions: dict[str, np.ndarray], class_id: int | None
) -> np.ndarray:
    """Make the frames, (n, S, H, W, 3), and show how far it is."""
    from reelworld.train.console import Display, describe_seconds
    from reelworld.worlds.continuation import continue_clip

    given = {k: getattr(options, k) for k in ("temperature", "top_k", "top_p")}
    sampler = replace(world.info.sampler, **{k: v for k, v in given.items() if v is not None})
    begun = time.monotonic()

    def describe(share: float, n: int) -> str:
        took = time.monotonic() - begun
        is_known = took > TRUSTED_SECONDS and share < 1  # the first draws take longer than the others
        return f"frame {n}/{options.frames}" + (f", {describe_seconds(took / share - took)} left" if is_known else "")

    with Display("generating") as display:
        return continue_clip(
            world,
            context,
            actions,
            options.frames,
            n_samples=options.samples,
            seed=options.seed,
            sampler=sampler,
            class_id=class_id,
            progress=lambda share, n: display.update(share, lambda: describe(share, n)),
        )


def _clip(options: Options, world: World, class_id: int | None) -> tuple[Clip, int]:
    """Find what is continued, an episode, an image, a start clip of the world or nothing, and after how many frames."""
    from reelworld.worlds.continuation import clip_of_image, clip_of_nothing

    wanted = world.info.context_frames if options.context is None else options.context
    if options.image is not None:
        wanted = wanted or 1  # a world that begins from nothing would not look at the picture
        return clip_of_image(world, options.image, wanted), wanted
    if options.data is not None:
        if not wanted:
            raise UserError("this world begins from nothing; say with --context how many frames of the data to give.")
        return _episode(options, world, options.data, wanted), wanted
    starts = [clip for clip in world.starts if class_id is None or clip.class_id == class_id]
    needs_frames = world.session().needs_frames
    if not wanted and needs_frames:
        raise UserError("--context is 0, but this world goes on from given frames; give 1 or more.")
    if not wanted or (options.context is None and not world.starts and not needs_frames):
        return clip_of_nothing(world), 0
    if not starts:
        of_class = f" of class {world.info.classes[class_id]!r}" if world.starts and class_id is not None else ""
        raise UserError(f"this world ships no clips{of_class} to start from; give --data or --image.")
    clip = starts[options.episode % len(starts)]
    if options.context is not None and len(clip.frames) < wanted:
        raise UserError(
            f"--context is {wanted}; the world's own start clips have {len(clip.frames)} frames: give --data, or less."
        )
    return clip, min(wanted, len(clip.frames))


def _episode(options: Options, world: World, data: Path, n_context: int) -> Clip:
    from reelworld.evaluate.clips import open_for, read_episode

    dataset = open_for(world, data)
    indices = dataset.indices(options.split)
    if not 0 <= options.episode < len(indices):
        raise UserError(
            f"--episode is {options.episode}; split {options.split!r} of {data} has {len(indices)} episodes "
            "(0 is the first)."
        )
    clip = read_episode(world, dataset, indices[options.episode], options.start)
    if len(clip.frames) < n_context:
        whose = "the world wants" if options.context is None else "--context wants"
        raise UserError(
            f"the episode has {len(clip.frames)} frames from --start {options.start} on; {whose} {n_context} to begin "
            "with: choose an earlier start or another --episode."
        )
    return clip


def _arrays(clip: Clip, actions: dict[str, np.ndarray], n_context: int) -> dict[str, Any]:
    """Lay out the actions like an episode: row t leads from frame t to t+1, the last row is padding."""
    import numpy as np

    rows = {k: np.concatenate([clip.actions[k][: n_context - 1], v, v[-1:] * 0]) for k, v in actions.items()}
    return {"actions" if list(rows) == ["action"] else f"actions/{k}": v for k, v in rows.items()}
