"""Continue one clip, an image or nothing at all, under recorded, random or given actions.

Shapes: n samples, T context frames, S steps, H W pixels, A action width
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.config import unknown
from reelworld.data.array_store import DAMAGE
from reelworld.data.resize import fit_frame
from reelworld.rollout.actions import null_action, random_actions
from reelworld.rollout.validation import describe_classes
from reelworld.types import ActionSpec, Clip, UserError

if TYPE_CHECKING:
    from reelworld.models.samplers import SamplerConfig
    from reelworld.worlds.world import World

__all__ = [
    "choose_actions",
    "class_number",
    "clip_of_image",
    "clip_of_nothing",
    "context_of",
    "continue_clip",
    "has_recorded_actions",
    "picture_for",
]


def context_of(clip: Clip, n_frames: int) -> Clip:
    """Keep the first frames of a clip and the actions that start from them."""
    actions = {k: v[:n_frames] for k, v in clip.actions.items()}
    frames = clip.frames[:n_frames]
    return replace(clip, frames=frames, actions=actions, rewards=None, terminated=None, truncated=None)


def clip_of_nothing(world: World) -> Clip:
    """Return a clip without frames, for worlds that can begin from nothing."""
    spec = world.spec
    return Clip(frames=np.zeros((0, spec.height, spec.width, 3), np.uint8), fps=spec.fps, source="nothing")


def class_number(world: World, given: str) -> int:
    """Read a class that is given by number or by name.

    Raises:
        UserError: If the world has no classes, or no such class.
    """
    classes = world.spec.classes
    if not classes:
        raise UserError(f"--class-id {given} was given, but this world has no classes; leave it out.")
    if given in classes:
        return classes.index(given)
    if given.lstrip("-").isdecimal():
        number = int(given)
        if 0 <= number < len(classes):
            return number
        raise UserError(f"--class-id is {number}; wanted {describe_classes(classes)}.")
    raise unknown("class", given, classes)


def clip_of_image(world: World, path: Path, n_frames: int) -> Clip:
    """Read an image, crop its centre to the world's shape, and repeat it for a number of frames.

    Raises:
        UserError: If the file is missing or no picture.
    """
    frames = np.repeat(picture_for(world, path, "--image")[None], n_frames, 0)
    actions = {k: np.stack([_rows(spec, null_action(spec))] * n_frames) for k, spec in world.info.actions.items()}
    return Clip(frames=frames, actions=actions, fps=world.spec.fps, source=path.name)


def picture_for(world: World, path: Path, flag: str) -> np.ndarray:
    """Read an image and crop its centre to the world's shape: uint8, (H, W, 3).

    Args:
        world: The world.
        path: Of the picture.
        flag: What it was given by.

    Raises:
        UserError: If the file is missing or no picture.
    """
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise UserError(f"{path} does not exist; give {flag} a picture, e.g. a png.")
    try:
        picture = np.asarray(Image.open(path).convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} is not a picture that can be read ({error}); give a png or jpg.") from None
    return fit_frame(picture, (world.spec.height, world.spec.width), "crop")


def has_recorded_actions(world: World, clip: Clip, n_context: int) -> bool:
    """Return True if a clip has frames after its context; a world without actions needs none."""
    return not world.info.actions or len(clip.frames) > n_context


def choose_actions(
    world: World, clip: Clip, wanted: str, n_context: int, n_steps: int, seed: int
) -> dict[str, np.ndarray]:
    """Parse ``--actions``.

    Args:
        world: World with the action streams.
        clip: Its own actions are the recorded ones; they start over when they run out.
        wanted: Value of the flag: "recorded", "random", a list of ids, or a file.
        n_context: Frames before the first generated one.
        n_steps: Number of actions per stream.
        seed: Of random actions.

    Returns:
        Stream -> (S, ...), empty for a world without actions.
    """
    specs = world.info.actions
    if not specs:
        if wanted not in ("recorded", "random"):
            raise UserError(f"--actions {wanted!r} was given, but this world takes no actions; leave --actions out.")
        return {}
    if wanted == "random":
        rng = np.random.default_rng(seed)
        return {k: random_actions(spec, n_steps, rng) for k, spec in specs.items()}
    if wanted == "recorded":
        if not has_recorded_actions(world, clip, n_context):
            raise UserError("there are no recorded actions after the context; give --actions random or a list of ids.")
        given = {k: clip.actions[k][n_context - 1 : -1] for k in specs}
    else:
        given = _given_actions(specs, wanted)
    return {k: np.take(v, np.arange(n_steps) % len(v), axis=0) for k, v in given.items()}


def _given_actions(specs: Mapping[str, ActionSpec], wanted: str) -> dict[str, np.ndarray]:
    """Read a file or a list of ids for a world with one stream (an .npz may hold several)."""
    arrays = _read_file(Path(wanted), specs) if wanted.endswith((".npy", ".npz")) else _parse_ids(specs, wanted)
    for name, values in arrays.items():
        spec = specs[name]
        unit = spec.step_shape
        if values.shape[1:] != unit and values.shape[1:] == unit[1:] and spec.repeat > 1:
            values = arrays[name] = np.repeat(values[:, None], spec.repeat, 1)
        if values.shape[1:] != unit or not values.size or not values.ndim:
            raise UserError(f"--actions give {name} the shape {values.shape}; wanted {('steps', *unit)}.")
        if spec.kind == "discrete" and not (values.dtype.kind in "iu" and 0 <= values.min() <= values.max() < spec.n):
            raise UserError(f"--actions for {name} must be whole numbers from 0 to {spec.n - 1}.")
        if spec.kind == "continuous" and not np.isfinite(values.astype(np.float64)).all():
            raise UserError(f"--actions for {name} hold NaN or infinity; give finite numbers.")
        if spec.kind == "buttons" and not np.isin(values, (0, 1)).all():
            raise UserError(f"--actions for {name} are buttons: give 0 (up) and 1 (held) only.")
    return arrays


def _parse_ids(specs: Mapping[str, ActionSpec], wanted: str) -> dict[str, np.ndarray]:
    if len(specs) > 1 or next(iter(specs.values())).kind != "discrete":
        raise UserError(f"--actions {wanted!r} is a list of ids; this world takes {_describe(specs)}: give a file.")
    try:
        return {next(iter(specs)): np.array([int(word) for word in wanted.replace(" ", ",").split(",") if word])}
    except ValueError:
        raise UserError(
            f"--actions {wanted!r} is none of recorded, random, ids such as '2,2,0', or a .npy or .npz file."
        ) from None


def _read_file(path: Path, specs: Mapping[str, ActionSpec]) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {next(iter(specs)): loaded}
            arrays = {name: loaded[name] for name in loaded.files if name.partition("/")[0] == "actions"}
    except DAMAGE as error:
        raise UserError(f"{path} holds no readable actions ({error}); give .npy or .npz with 'actions'.") from None
    alone = ("actions",) if len(specs) == 1 else ()
    keys = {k: next((n for n in (f"actions/{k}", *alone) if n in arrays), "") for k in specs}
    if missing := [f"actions/{k}" for k, n in keys.items() if not n]:
        found = ", ".join(loaded.files) or "none"
        raise UserError(f"{path} lacks the arrays {', '.join(missing)}; it has {found}.")
    return {k: arrays[n] for k, n in keys.items()}


def _describe(specs: Mapping[str, ActionSpec]) -> str:
    return ", ".join(f"{k} ({spec.kind}, {spec.n})" for k, spec in specs.items())


def _rows(spec: ActionSpec, action: object) -> np.ndarray:
    row = np.asarray(action, spec.dtype)
    return row if spec.repeat == 1 else np.stack([row] * spec.repeat)


def continue_clip(
    world: World,
    context: Clip,
    actions: Mapping[str, np.ndarray],
    n_steps: int,
    *,
    n_samples: int = 1,
    seed: int = 0,
    sampler: SamplerConfig | None = None,
    class_id: int | None = None,
    progress: Callable[[float, int], object] = lambda _share, _n: None,
) -> np.ndarray:
    """Generate the frames after a context, several times side by side.

    Args:
        world: The world.
        context: Its frames, the actions between them, and its goal in worlds with goals.
        actions: Stream -> (S, ...); all samples take the same.
        n_steps: Frames S to make.
        n_samples: Samples n; they differ in what is drawn, and the first is that of n = 1.
        seed: Of the world's draws.
        sampler: Instead of the world's own.
        class_id: For worlds with classes; None takes that of the context.
        progress: Called with the completed fraction and the number of frames.

    Returns:
        uint8, (n, S, H, W, 3).
    """
    session = world.session(n=n_samples, seed=seed)
    session.sampler = sampler or session.sampler
    frames: list[np.ndarray] = []
    reached = 0.0

    def report(made: float, n_wanted: int) -> None:
        nonlocal reached  # the last window may exceed the requested frames; the bar then stays, and never decreases
        reached = 1.0 if len(frames) == n_steps else max(reached, min(made / n_wanted, 0.99))
        progress(reached, len(frames))

    session.watch = lambda share, n: report(len(frames) + share * n, max(n_steps, len(frames) + n))
    before = {k: repeated(context.actions[k][:-1], n_samples) for k in world.info.actions}
    if class_id is None and world.spec.classes:
        class_id = context.class_id
    begun = session.reset(repeated(context.frames, n_samples), before or None, class_id=class_id, goal=context.goal)
    if not len(context.frames):
        frames.append(begun.frame)
    while len(frames) < n_steps:
        now = {k: repeated(v[len(frames)], n_samples) for k, v in actions.items()}
        frames.append(session.step(now or None).frame)
        report(len(frames), n_steps)
    return np.stack(frames, 1)


def repeated(x: np.ndarray, n: int) -> np.ndarray:
    """Give each of n samples the same, (n, ...)."""
    return np.repeat(x[None], n, 0)
