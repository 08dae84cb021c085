"""Continue a clip or an image with a world, and write what happens as mp4, gif, png or npz.

The first frames are the given ones, pixel for pixel; the rest is made by the world. Actions are the recorded
ones, random ones, or yours; a start without recorded actions after it is continued by random ones.

Examples:
  reelworld generate runs/doors/world --out short.mp4
  reelworld generate runs/doors/world --data recordings/doors --out doors.mp4
  reelworld generate runs/doors/world --data recordings/doors --actions '2,2,0,3,5' --out keys.gif
  reelworld generate runs/cars/world --image photo.png --actions random --frames 100 --out drive.npz
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from reelworld.cli.loading import load_world, set_threads
from reelworld.types import UserError

if TYPE_CHECKING:
    import numpy as np

    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["Options", "run"]


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
    actions: str | None = None
    """'recorded', 'random', ids such as '2,2,0', or a file (.npy, or .npz with actions). Short lists repeat.
    Default: the recorded ones, or random ones where none were recorded after the context."""
    frames: int = 60
    """Frames to generate after the context."""
    seed: int = 0
    """Of the world's draws and of random actions."""
    temperature: float | None = None
    """0 takes the likeliest codes, 1 draws as learned. Default: the world's own."""
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
    from reelworld.data.media import check_media_path, write_media

    check_media_path(options.out, options.force)
    if options.frames < 1:
        raise UserError(f"--frames is {options.frames}; it must be at least 1.")
    if options.temperature is not None and not 0 <= options.temperature <= 10:
        raise UserError(f"--temperature is {options.temperature}; it must be from 0 to 10.")
    if options.data is not None and options.image is not None:
        raise UserError("both --data and --image were given; choose one to start from.")

    import numpy as np

    from reelworld.train.log import Display
    from reelworld.worlds.continuing import choose_actions, context_of, continue_clip, has_recorded_actions

    set_threads(options.threads)
    world = load_world(options.world, options.device, options.allow_code)
    clip = _clip(options, world)
    n_context = min(world.info.context_frames, len(clip.frames))
    wanted = options.actions
    if wanted is None:
        wanted = "recorded" if has_recorded_actions(world, clip, n_context) else "random"
        if wanted == "random":
            print("no actions were recorded after the context: taking random ones (--actions gives others)")
    actions = choose_actions(world, clip, wanted, n_context, options.frames, options.seed)
    with Display("generating") as display:
        future = continue_clip(
            world,
            context_of(clip, n_context),
            actions,
            options.frames,
            seed=options.seed,
            temperature=options.temperature,
            progress=lambda n: display.update(n / options.frames, lambda: f"frame {n}/{options.frames}"),
        )
    frames = np.concatenate([clip.frames[:n_context], future])
    write_media(options.out, frames, world.info.fps, _arrays(clip, actions, n_context))
    print(f"{options.out}: {n_context} given frames and {options.frames} generated ones")


def _clip(options: Options, world: World) -> Clip:
    """Find what is continued: an episode, an image, or a start clip of the world."""
    from reelworld.evaluate.clips import open_for, read_episode
    from reelworld.worlds.continuing import clip_of_image

    if options.image is not None:
        return clip_of_image(world, options.image)
    if options.data is None:
        if not world.starts:
            raise UserError("this world ships no clips to start from; give --data or --image.")
        return world.starts[options.episode % len(world.starts)]
    dataset = open_for(world, options.data)
    indices = dataset.indices(options.split)
    if not 0 <= options.episode < len(indices):
        raise UserError(
            f"--episode is {options.episode}; split {options.split!r} of {options.data} has {len(indices)} episodes "
            "(0 is the first)."
        )
    clip = read_episode(world, dataset, indices[options.episode], options.start)
    if len(clip.frames) < world.info.context_frames:
        raise UserError(
            f"the episode has {len(clip.frames)} frames from --start {options.start} on; the world wants "
            f"{world.info.context_frames} to begin with: choose an earlier start or another --episode."
        )
    return clip


def _arrays(clip: Clip, actions: dict[str, np.ndarray], n_context: int) -> dict[str, Any]:
    """Lay out the actions like an episode: row t leads from frame t to t+1, the last row is padding."""
    import numpy as np

    rows = {k: np.concatenate([clip.actions[k][: n_context - 1], v, v[-1:] * 0]) for k, v in actions.items()}
    return {"actions" if list(rows) == ["action"] else f"actions/{k}": v for k, v in rows.items()}
