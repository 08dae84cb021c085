"""Generate frames from a clip, an image or nothing, and write mp4, gif, png or npz.

The context frames are written pixel for pixel, the generated ones follow. Actions are the recorded ones, random ones or
yours; random ones where none were recorded after the context. Worlds that generate whole clips take as long for one
frame as for all of a clip.

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
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from reelworld.cli.load_options import load_world, set_threads
from reelworld.types import UserError

if TYPE_CHECKING:
    import numpy as np

    from reelworld.types import Clip
    from reelworld.worlds.world import World

ESTIMATE_AFTER_SECONDS = 2.0
"""Time after which the remaining time is shown: the first samples are slower than the others."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld generate``."""

    world: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WORLD")]
    """Folder of a world, or of the run that made it."""
    out: Path
    """File to write: .mp4, .gif, .png (a sheet of frames) or .npz (exact frames and actions)."""
    data: Path | None = None
    """Recordings with the episode to continue. Without it and --image: an initial context of the world."""
    image: Path | None = None
    """Picture to start from; resized and repeated as the context."""
    episode: int = 0
    """Number of the episode in the split."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Split of the recordings."""
    start: int = 0
    """First context frame within the episode."""
    goal: Path | None = None
    """Goal picture, for worlds with goals. Default: that of the initial context."""
    context: int | None = None
    """Context frames; 0 starts from nothing, for worlds that can. Default: the world's usual number."""
    class_id: str | None = None
    """Number or name of the class, for worlds with classes. Default: that of the context."""
    actions: str | None = None
    """'recorded', 'random', ids such as '2,2,0', or a file (.npy, or .npz with actions); short lists repeat.
    Default: recorded, or random where none were recorded after the context."""
    frames: int = 60
    """Frames to generate after the context."""
    samples: int = 1
    """Samples from the same context, side by side (an .npz holds all of them as 'samples')."""
    seed: int = 0
    """Seed of sampling and of random actions."""
    temperature: float | None = None
    """Temperature of sampling; 0 takes the likeliest codes. Default: the world's."""
    top_k: int | None = None
    """Sample from the k likeliest codes only; 0 samples from all. Default: the world's."""
    top_p: float | None = None
    """Sample from the likeliest codes with this total probability. Default: the world's."""
    force: bool = False
    """Replace an existing file."""
    threads: int = 1
    """CPU threads; small worlds are fastest with one. 0 is torch's choice."""
    device: str = "cpu"
    """Device of the model: auto (a GPU if there is one), cpu, cuda or cuda:1."""
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
    samples = _continue(options, world, context, actions, class_id)
    arrays = _arrays(clip, actions, n_context)
    if options.samples == 1:
        write_media(options.out, np.concatenate([context.frames, samples[0]]), world.spec.fps, arrays)
    else:
        recorded = clip.frames[n_context:] if n_context else clip.frames[:0]
        write_samples(options.out, context.frames, samples, recorded, world.spec.fps, arrays)
    times = f", {options.samples} times" if options.samples > 1 else ""
    print(f"{options.out}: {n_context} given frames and {options.frames} generated ones{times}")


def _check(options: Options) -> None:
    """Refuse invalid flags before anything is loaded."""
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

    source = options.actions
    if source is None:
        source = "recorded" if has_recorded_actions(world, clip, n_context) else "random"
        if source == "random":
            print("no actions were recorded after the context: taking random ones (--actions gives others)")
    return choose_actions(world, clip, source, n_context, options.frames, options.seed)


def _continue(
    options: Options, world: World, context: Clip, actions: dict[str, np.ndarray], class_id: int | None
) -> np.ndarray:
    """Generate frames, (n, S, H, W, 3), with a progress bar."""
    from reelworld.train.console import Display, describe_seconds
    from reelworld.worlds.continuation import continue_clip

    settings = {k: getattr(options, k) for k in ("temperature", "top_k", "top_p")}
    sampler = replace(world.info.sampler, **{k: v for k, v in settings.items() if v is not None})
    started_at = time.monotonic()

    def describe(fraction: float, n: int) -> str:
        seconds = time.monotonic() - started_at
        has_estimate = seconds > ESTIMATE_AFTER_SECONDS and fraction < 1
        left = f", {describe_seconds(seconds / fraction - seconds)} left" if has_estimate else ""
        return f"frame {n}/{options.frames}{left}"

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
            progress=lambda fraction, n: display.update(fraction, lambda: describe(fraction, n)),
        )


def _clip(options: Options, world: World, class_id: int | None) -> tuple[Clip, int]:
    """Return the clip to continue (an episode, an image, an initial context or nothing) and its context frames."""
    from reelworld.worlds.continuation import clip_of_image, clip_of_nothing

    n_min, n_usual, _ = world.spec.context
    n_context = n_usual if options.context is None else options.context
    if options.image is not None:
        n_context = n_context or 1  # a world that starts from nothing would ignore the picture
        return clip_of_image(world, options.image, n_context), n_context
    if options.data is not None:
        if not n_context:
            raise UserError("this world begins from nothing; say with --context how many frames of the data to give.")
        return _episode(options, world, options.data, n_context), n_context
    clips = [clip for clip in world.initial_contexts if class_id is None or clip.class_id == class_id]
    if not n_context and n_min:
        raise UserError("--context is 0, but this world goes on from given frames; give 1 or more.")
    if not n_context or (options.context is None and not world.initial_contexts and not n_min):
        return clip_of_nothing(world), 0
    if not clips:
        has_others = class_id is not None and bool(world.initial_contexts)
        of_class = f" of class {world.spec.classes[class_id or 0]!r}" if has_others else ""
        raise UserError(f"this world ships no clips{of_class} to start from; give --data or --image.")
    clip = clips[options.episode % len(clips)]
    if options.context is not None and len(clip.frames) < n_context:
        raise UserError(
            f"--context is {n_context}; the world's own start clips have {len(clip.frames)} frames: give --data, or "
            "less."
        )
    return clip, min(n_context, len(clip.frames))


def _episode(options: Options, world: World, data: Path, n_context: int) -> Clip:
    from reelworld.evaluate.protocol import open_for, read_episode

    dataset = open_for(world, data)
    indices = dataset.indices(options.split)
    if not 0 <= options.episode < len(indices):
        raise UserError(
            f"--episode is {options.episode}; split {options.split!r} of {data} has {len(indices)} episodes "
            "(0 is the first)."
        )
    clip = read_episode(world, dataset, indices[options.episode], options.start)
    if len(clip.frames) < n_context:
        who = "the world wants" if options.context is None else "--context wants"
        raise UserError(
            f"the episode has {len(clip.frames)} frames from --start {options.start} on; {who} {n_context} to begin "
            "with: choose an earlier start or another --episode."
        )
    return clip


def _arrays(clip: Clip, actions: dict[str, np.ndarray], n_context: int) -> dict[str, np.ndarray]:
    """Return the actions in the layout of an episode: row t leads from frame t to t + 1, the last row is padding."""
    import numpy as np

    rows = {k: np.concatenate([clip.actions[k][: n_context - 1], v, v[-1:] * 0]) for k, v in actions.items()}
    return {"actions" if list(rows) == ["action"] else f"actions/{k}": v for k, v in rows.items()}
